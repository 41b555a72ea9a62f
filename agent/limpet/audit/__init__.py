"""The audit journal: what was installed, activated and commanded on this device, by whom, as a chain of hashes."""
