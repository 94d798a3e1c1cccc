"""Recurrent language models over text: train, score, generate."""
