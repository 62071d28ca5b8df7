"""Settings files for serving engines: a base, one file per engine, a table of names."""
