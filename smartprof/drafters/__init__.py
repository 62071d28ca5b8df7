"""Drafters: where proposed tokens come from."""
