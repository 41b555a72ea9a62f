"""What the daemon that runs with a configuration says, by its monitor socket."""

from __future__ import annotations

import socket
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.messages import ApiHealth, State
from limpet.device import directories
from limpet.device.unix_path import reachable
from limpet.untrusted import reading
from limpet.watch import local

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from limpet.doctor.installation import Installation
    from limpet.watch.local import Line

SECONDS = 1.0
"""How long to listen: the state of everything comes first."""
LARGEST = 1 << 22
"""Bytes that are read."""


class PipelineState(msgspec.Struct):
    """The part of a pipeline's health that says whether samples come."""

    pipeline: str
    state: State
    reason: str = ""
    results: int = 0


class DeviceState(msgspec.Struct):
    """The part of the device's health that says how the local API is."""

    api: ApiHealth | None = None


_state = msgspec.json.Decoder(PipelineState)
_device = msgspec.json.Decoder(DeviceState)


def lines(installation: Installation) -> list[Line] | None:
    """Return the state of everything as it is sent; ``None`` if no daemon runs, or it may not be read.

    ``LimpetError`` says why what it sends cannot be used.
    """
    state = installation.config.device.state if installation.config else directories.state()
    for path in local.paths(state, installation.path):
        with suppress(OSError):
            return list(read(_received(path)))
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


def read(data: bytes) -> Iterator[Line]:
    """Return the whole lines. ``LimpetError`` if one is none of a daemon, or says that it refuses."""
    return map(local.decode, data.split(b"\n")[:-1])


def states(said: Iterable[Line]) -> Iterator[PipelineState]:
    """Return the states of pipelines. ``UnreadableError`` if one is none."""
    for line in said:
        if line.topic.startswith("health/"):
            with reading("a message of the daemon"):
                yield _state.decode(line.message)


def device(said: Iterable[Line]) -> DeviceState | None:
    """Return the state of the device. ``None`` before there is one. ``UnreadableError`` if it is none."""
    for line in said:
        if line.topic == "health":
            with reading("a message of the daemon"):
                return _device.decode(line.message)
    return None
