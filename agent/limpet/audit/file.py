"""The journal's file: how it is read, and what an end is that was not written whole. I/O without decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from limpet.audit.chain import Chain
from limpet.audit.entry import LARGEST_LINE, Hash, Head, Number
from limpet.device import state_files
from limpet.errors import UnreadableError
from limpet.untrusted import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NAME = "audit.jsonl"
PUBLISHED = "audit.head"
"""The head that health published last."""
NAMES = (NAME, PUBLISHED, "audit.new")
LARGEST = 1 << 20
"""Bytes of the journal. Beyond that its older half is cut."""
_SLACK = _MOST_TORN = 4 * LARGEST_LINE


class Found(NamedTuple):
    """What is in the file. ``sound``: bytes of whole lines. ``torn``: the bytes behind them.

    ``problem``: what is wrong, and where; then the rest was not looked at.
    """

    chain: Chain
    sound: int
    torn: bytes
    problem: str


class _Published(msgspec.Struct):
    seq: Number
    sha256: Hash


def read(path: Path, watched: Sequence[Head] = ()) -> Found:
    """Follow the chain in a file. ``OSError`` if it may not be read, ``FileNotFoundError`` if there is none."""
    chain, sound, number = Chain(watched), 0, 0
    following = lines(path)
    try:
        for line in following:
            number += 1
            if not line.endswith(b"\n"):
                return Found(chain, sound, _torn(line, following), chain.problem())
            chain.take(line[:-1])
            sound += len(line)
    except UnreadableError as error:
        return Found(chain, sound, b"", f"line {number} of the file: {error}" if number else str(error))
    return Found(chain, sound, b"", chain.problem())


def _torn(line: bytes, following: Iterator[bytes]) -> bytes:
    """Return the bytes of a last line that was not written whole. ``UnreadableError`` if it is more than that."""
    torn = line + b"".join(following)
    if b"\n" in torn or len(torn) > _MOST_TORN:
        raise UnreadableError(f"the line is longer than {LARGEST_LINE} bytes")
    return torn


def lines(path: Path) -> Iterator[bytes]:
    """Yield lines with their newlines. ``UnreadableError`` if it is no regular file, or is too large."""
    size = 0
    with open_file(path) as file:
        while line := file.readline(LARGEST_LINE + 1):
            size += len(line)
            if size > LARGEST + _SLACK:
                raise UnreadableError(f"the file is larger than {LARGEST} bytes")
            yield line


def published(state: Path) -> Head | None:
    """Return the head that health published last, ``None`` if that is not known."""
    try:
        found = state_files.read(state / PUBLISHED, _Published, 256, None, "")
    except OSError:
        return None
    return Head(found.seq, found.sha256) if found else None


def publish(state: Path, head: Head) -> None:
    """Keep the head that health publishes. ``OSError``."""
    state_files.replace(state / PUBLISHED, msgspec.json.encode(_Published(head.seq, head.sha256)), 0o600)
