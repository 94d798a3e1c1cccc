"""Autoregressive decoding. It sees a Stepper, never a model; one strategy a file, with a YAML in conf/decoding."""
