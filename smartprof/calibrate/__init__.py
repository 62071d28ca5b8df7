"""Measuring a device: which points, how they are timed, and the surfaces fitted to them."""
