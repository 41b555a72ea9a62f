"""The parts of ``limpet demo`` around the daemon: a sensor board, a broker, a client, a screen, a score."""
