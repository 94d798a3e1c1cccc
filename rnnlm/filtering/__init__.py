"""Scores of documents become partitions: quantiles in one pass, cuts a group, and a report of what went where."""
