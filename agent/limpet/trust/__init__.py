"""Whose models this device runs: roots, roles and signatures as The Update Framework has them."""
