"""The machine and the system that Limpet runs on."""
