"""SHA-256 of small things without OpenSSL, which would take 3 MB in a worker that needs nothing else of it."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec
from typing import Protocol

LARGE = 4 << 20
"""Bytes from which OpenSSL, several times as fast, is worth its memory."""
_MODULES = ("_sha2", "_sha256", "hashlib")
"""Python's own code from 3.12 on, that of older ones, and what is there if neither was built in."""


class Digest(Protocol):
    """A hash object of ``hashlib``."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far."""


def sha256(size: int) -> Digest:
    """Return a new hash object, for about ``size`` bytes."""
    new: Digest = importlib.import_module("hashlib" if size >= LARGE else _small()).sha256()
    return new


@cache
def _small() -> str:
    return next(name for name in _MODULES if find_spec(name))
