"""Fixed settings that a plan chooses from: a base, one file per family, a table of names."""
