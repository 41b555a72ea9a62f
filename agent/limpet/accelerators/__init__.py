"""Accelerators: which there are, what runs on them, the proof that it does, and what to do when they fail."""
