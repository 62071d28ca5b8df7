"""Profiles, queries and answers that any reader of the format must give; see README.md here."""
