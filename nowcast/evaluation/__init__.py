"""A user's evaluation: which methods, which clips, by which protocol, and what is written."""
