"""Decoding without a model: outcomes from a trace or a stated law, seconds from a profile."""
