"""A model on a device: its files, its manifest, its bundle, the store and the golden vectors."""
