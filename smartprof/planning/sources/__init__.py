"""Where a plan's acceptance comes from: a base, one file per source, a table of names."""
