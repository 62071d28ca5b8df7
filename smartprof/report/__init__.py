"""What a person reads: summaries, tables, figures."""
