"""Target and draft models: shapes, files, weights and the forward pass."""
