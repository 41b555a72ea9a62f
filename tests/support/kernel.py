"""What this machine's kernel offers."""

from __future__ import annotations

from limpet.isolation import landlock


def has_landlock() -> bool:
    try:
        return landlock.abi() > 0
    except OSError:
        return False
