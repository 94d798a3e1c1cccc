"""Scoring a text as one stream with carried state, and what makes it better: cache, adaptation, ensembles."""
