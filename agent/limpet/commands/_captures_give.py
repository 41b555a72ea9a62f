"""``limpet captures give``: captures on standard output, for ``limpet captures pull`` on another machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from limpet.captures import copying
from limpet.captures.form import LARGEST_FILE
from limpet.commands._captures_folder import add_folder, each, root_of
from limpet.contracts.captures import Truth
from limpet.errors import LimpetError
from limpet.untrusted import read_file
from limpet.wire import stream

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.contracts.captures import Capture

TEXT = "Write captures to standard output. `limpet captures pull` calls it on the device."
LARGEST_KNOWN = 64 << 20


class Known(msgspec.Struct):
    """What the other machine has: names of captures, as ``PIPELINE/NUMBER``, by device."""

    names: dict[str, list[str]]


class Given(msgspec.Struct):
    """One capture: the bytes of its file, and what a person said about it. Without ``data`` it is the end.

    ``problem``: why a capture could not be read.
    """

    data: bytes = b""
    truth: Truth | None = None
    problem: str = ""


LARGEST_GIVEN = LARGEST_FILE + (1 << 16)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_folder(parser)
    parser.set_defaults(act=_give)


def _give(arguments: argparse.Namespace) -> int:
    if sys.stdout.isatty():
        raise LimpetError("captures are bytes, and standard output is a terminal. Use `limpet captures pull`")
    known = stream.read(sys.stdin.buffer, Known, LARGEST_KNOWN).names
    have = {(device, name) for device, names in known.items() for name in names}
    for given in captures(root_of(arguments), arguments.pipeline, have):
        stream.write(sys.stdout.buffer, given)
    stream.write(sys.stdout.buffer, Given())
    sys.stdout.buffer.flush()
    return 0


def captures(root: Path, pipeline: str | None, have: set[tuple[str, str]]) -> Iterator[Given]:
    """Yield captures of a folder but those that the other side has."""
    damaged: list[str] = []
    for one in each(root, pipeline, damaged):
        if (one.capture.device, one.capture.name) in have:
            continue
        try:
            yield Given(read_file(one.path, LARGEST_FILE), one.truth)
        except FileNotFoundError:  # the daemon evicted it meanwhile
            continue
        except LimpetError as error:
            damaged.append(str(error))
    yield from (Given(problem=problem) for problem in damaged)


def store(given: Given, target: Path, where: str) -> Capture | None:
    """Keep a capture that was given. Return its header, ``None`` if it was there. ``UnreadableError``."""
    return copying.take(target, given.data, given.truth, where)
