"""Languages that messages are sent in over MQTT: one module a kind, without I/O. See docs/dialects.md."""
