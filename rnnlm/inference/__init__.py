"""Trained models at work on tables: scoring and generation. Knows no files and no workers."""
