"""What the supervisor and a deployer say to each other.

A deployer reads what anyone in the network sends, so it may have been taken over. It is believed about nothing but
its own progress: what it fetched is examined by another process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.chunks import LARGEST_LIST, MOST_CHUNKS, MOST_RANGES
from limpet.contracts.updates import LARGEST_BUNDLE, DesiredModel, Sha256
from limpet.wire.records import Text

LARGEST_FROM_DEPLOYER = 1 << 15


class Links(msgspec.Struct, kw_only=True, frozen=True):
    """How to reach servers, from ``[updates]`` of the configuration. ``allow``: how a URL must begin."""

    allow: tuple[str, ...] = ()
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    proxy: str = ""
    bytes_per_second: float = 0.0
    timeout: float = 30.0


class Deploy(msgspec.Struct, tag=True):
    """To the fork server: start a deployer that fetches a bundle into ``folder``, as ``bundle.part``.

    ``folder``: ``state/downloads/PIPELINE``, below the state directory. ``bases``: deployed bundles by the SHA-256
    of their files, for patches. ``seconds``: it ends after that long. ``most_bytes``: it ends once so many bytes
    have come over the network.
    """

    pipeline: str
    request: DesiredModel
    folder: Path
    bases: dict[str, Path]
    links: Links
    seconds: float
    most_bytes: int


class Chunk(msgspec.Struct, tag=True):
    """To a deployer: a message that came over MQTT, as it came. ``index`` is -1 for the list of chunks.

    ``sha256`` is that of the file which the topic names.
    """

    sha256: Sha256
    index: Annotated[int, Meta(ge=-1, lt=MOST_CHUNKS)]
    data: Annotated[bytes, Meta(max_length=LARGEST_LIST)]


class Progress(msgspec.Struct, tag=True):
    """From a deployer, at most twice a second: bytes that are there, and bytes that came over the network."""

    present: Annotated[int, Meta(ge=0, le=LARGEST_BUNDLE)]
    received: Annotated[int, Meta(ge=0, le=1 << 40)]


class Lacking(msgspec.Struct, tag=True):
    """From a deployer: which chunks are to be asked for, as ranges of indices, first and last, in rising order.

    ``needs_list``: whether the list of chunks is, too. Without any of both it wants no more chunks of that file.
    """

    sha256: Sha256
    ranges: Annotated[list[tuple[int, int]], Meta(max_length=MOST_RANGES)] = []
    needs_list: bool = False


class Ended(msgspec.Struct, tag=True):
    """From a deployer, its last record. ``final``: it makes no sense to try again."""

    outcome: Literal["fetched", "failed"]
    reason: Text = ""
    final: bool = False
    received: Annotated[int, Meta(ge=0, le=1 << 40)] = 0


FromDeployer: TypeAlias = Progress | Lacking | Ended
