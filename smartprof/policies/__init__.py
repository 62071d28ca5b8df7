"""Policies: what to draft next, and which drafted nodes the target verifies. No torch."""
