"""Draft trees as arrays: growing, packing a choice of nodes, accepting what the target says."""
