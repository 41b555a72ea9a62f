"""``limpet enroll``: certificates for devices, people and brokers, and the broker's access list."""
