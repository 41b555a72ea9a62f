"""The library that verifies is an extra: a device without a root of trust does not need it."""

from __future__ import annotations

from importlib.util import find_spec

from limpet.errors import TrustError


def require() -> None:
    """Raise ``TrustError`` if python-tuf is not installed. It is not imported here."""
    if not all(map(find_spec, ("tuf", "securesystemslib", "cryptography"))):
        raise TrustError(
            "a root of trust needs python-tuf, which is not installed. Run: pip install 'limpet[updates]'"
        )
