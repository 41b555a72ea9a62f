"""The way of messages out of the device: reporters, the outbox, MQTT."""
