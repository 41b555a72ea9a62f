"""What `limpet record` and `limpet label` do on a terminal."""
