"""Message formats for MQTT: one module a kind, without I/O. See docs/reference/dialects.md."""
