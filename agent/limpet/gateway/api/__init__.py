"""Limpet's own paths, below ``/api``, and their description."""
