"""Corpora, tokenizers, token tables, batches and streams. No network, no training."""
