"""Attention of a decoder to what an encoder made of a source; one kind a file, a YAML each in conf/attention."""
