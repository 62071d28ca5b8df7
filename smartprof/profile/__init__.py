"""The profile: its file, the one rule that evaluates it, and the seconds it answers with."""
