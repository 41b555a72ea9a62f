"""Captures on the disk: the form of their files, the ring that holds them, and what is worth keeping."""
