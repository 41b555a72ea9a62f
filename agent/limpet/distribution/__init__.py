"""``limpet model send``: sends a bundle to any number of devices over MQTT."""
