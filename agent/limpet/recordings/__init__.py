"""Recordings with labels: what `limpet record` writes, `limpet label` changes, and the trainer reads."""
