"""A file in chunks, and the list of them. The same file always gives the same list."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.chunks import LARGEST_CHUNK, MOST_CHUNKS, ChunkList
from limpet.contracts.updates import LARGEST_BUNDLE
from limpet.errors import LimpetError

if TYPE_CHECKING:
    from pathlib import Path

USUAL_CHUNK = 1 << 16
"""Bytes of a chunk: some brokers take no messages above 128 kB. Files with too many chunks have larger ones."""


class ChunkedFile:
    """The chunks of a file. ``list`` is the list of chunks as it is published, ``list_sha256`` its SHA-256."""

    def __init__(self, path: Path) -> None:
        """Read the whole file once. ``LimpetError`` if it is empty or too large, ``OSError`` as from ``open``."""
        self.path = path
        self.length = path.stat().st_size
        if not 0 < self.length <= LARGEST_BUNDLE:
            raise LimpetError(f"{path} has {self.length} bytes. A bundle has 1 to {LARGEST_BUNDLE}")
        self.chunk = USUAL_CHUNK if self.length <= USUAL_CHUNK * MOST_CHUNKS else LARGEST_CHUNK
        whole, self._hashes = hashlib.sha256(), list[str]()
        with path.open("rb") as file:
            while data := file.read(self.chunk):
                whole.update(data)
                self._hashes.append(hashlib.sha256(data).hexdigest())
        self.sha256 = whole.hexdigest()
        self.list = msgspec.json.encode(ChunkList(length=self.length, chunk=self.chunk, hashes=self._hashes))
        self.list_sha256 = hashlib.sha256(self.list).hexdigest()

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return len(self._hashes)

    def read(self, index: int) -> bytes:
        """Return a chunk. ``LimpetError`` if the file has changed meanwhile."""
        with self.path.open("rb") as file:
            file.seek(index * self.chunk)
            data = file.read(self.chunk)
        if hashlib.sha256(data).hexdigest() != self._hashes[index]:
            raise LimpetError(f"{self.path} has changed while it was sent. Send it again")
        return data
