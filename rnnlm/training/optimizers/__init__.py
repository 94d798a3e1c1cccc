"""Optimizers, one a file. To add one: a file here and a YAML in conf/optimizer."""
