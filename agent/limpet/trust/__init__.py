"""Whose models this device runs: roots, roles and signatures as The Update Framework (TUF) has them.

``settings`` and ``files`` do the I/O. The rest decides, without I/O. ``documents`` and what imports it load
python-tuf and cryptography: short-lived processes and commands do, the supervisor and workers do not.
"""
