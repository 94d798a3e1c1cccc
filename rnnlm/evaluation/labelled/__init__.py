"""Predicted labels beside the right ones: the output of jobs.predict, or of anyone who writes the same columns."""
