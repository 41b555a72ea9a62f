"""A bundle over MQTT: in chunks, on topics outside of ``limpet/<device>/`` which devices can only read.

One sender serves any number of devices. ``limpet-bundles/<sha256>/list`` has the list of chunks, retained.
``limpet-bundles/<sha256>/<index>`` has a chunk, QoS 0, not retained. A device publishes what it lacks on
``limpet/<device>/bundle/<sha256>/missing``. ``<sha256>`` is that of the file that is sent. If the root of topics
is not ``limpet``, the chunks are below that root with ``-bundles`` at its end.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from limpet.contracts.updates import BundleLength, Sha256

LARGEST_CHUNK = 1 << 17
MOST_CHUNKS = 1 << 14
LARGEST_LIST = 3 << 19
"""Bytes of the list of ``MOST_CHUNKS`` chunks. A reporter takes no larger packets."""
MOST_RANGES = 256
"""Ranges of missing chunks in one message."""


class ChunkList(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The chunks of a file, as JSON. Its own SHA-256 is ``chunks`` in a desired state.

    Every chunk but the last one has ``chunk`` bytes. ``hashes``: SHA-256 of each. So a chunk from a stranger is
    noticed before it is written.
    """

    length: BundleLength
    chunk: Annotated[int, Meta(ge=1024, le=LARGEST_CHUNK)]
    hashes: Annotated[list[Sha256], Meta(min_length=1, max_length=MOST_CHUNKS)]


class MissingChunks(msgspec.Struct, kw_only=True):
    """What a device still lacks: ranges of indices, first and last.

    ``needs_list``: whether it lacks the list of chunks itself.
    """

    device: str
    sha256: Sha256
    ranges: Annotated[list[tuple[int, int]], Meta(max_length=MOST_RANGES)] = []
    needs_list: bool = False


def bundles_root(root: str) -> str:
    """Return the root of the topics of bundles, where ``root`` is that of all other topics."""
    return f"{root}-bundles"
