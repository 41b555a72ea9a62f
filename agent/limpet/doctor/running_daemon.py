"""What the daemon that runs with a configuration says about its pipelines, by its monitor socket."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.messages import State
from limpet.device import directories
from limpet.device.unix_path import reachable
from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.doctor.installation import Installation

SECONDS = 1.0
"""How long to listen: the state of everything comes first."""
LARGEST = 1 << 22
"""Bytes that are read."""
_SERVICE = Path("run/limpet")


class PipelineState(msgspec.Struct):
    """The part of a pipeline's health that says whether samples come."""

    pipeline: str
    state: State
    reason: str = ""
    results: int = 0


class _Line(msgspec.Struct):
    topic: str = ""
    message: msgspec.Raw = msgspec.Raw(b"null")


_line = msgspec.json.Decoder(_Line)
_state = msgspec.json.Decoder(PipelineState)


def pipeline_states(installation: Installation) -> dict[str, PipelineState] | None:
    """Return the pipelines' states by name; ``None`` if no daemon runs, or it may not be read."""
    if installation.config is None:
        return None
    state = installation.config.device.state
    service = installation.machine.root / _SERVICE / directories.MONITOR
    for path in dict.fromkeys([directories.monitor(state), state / directories.MONITOR, service]):
        with suppress(OSError, UnreadableError):
            return {one.pipeline: one for one in read_states(_received(path))}
    return None


def _received(path: Path) -> bytes:
    data, end = b"", monotonic() + SECONDS
    with socket.socket(socket.AF_UNIX) as client, reachable(path) as address:
        client.settimeout(SECONDS)
        client.connect(address)
        while len(data) < LARGEST and (left := end - monotonic()) > 0:
            client.settimeout(left)
            try:
                block = client.recv(1 << 16)
            except TimeoutError:
                break
            if not block:
                break
            data += block
    return data


def read_states(data: bytes) -> Iterator[PipelineState]:
    """Return what the whole lines say. ``UnreadableError`` if one is none of a daemon."""
    for text in data.split(b"\n")[:-1]:
        with reading("a line of the daemon"):
            line = _line.decode(text)
            if line.topic.startswith("health/"):
                yield _state.decode(line.message)
