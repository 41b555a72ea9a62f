"""The MQTT side of the supervisor: settings, connection, batching, sending; ``reporters/mqtt.py`` ties them."""
