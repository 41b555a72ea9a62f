"""Message formats for MQTT: one module a kind, without I/O. See docs/dialects.md."""
