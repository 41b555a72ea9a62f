"""Sensors that this machine has: serial ports and cameras, and what is being sent on a port."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import serial
from serial.tools import list_ports

from limpet.errors import SourceError
from limpet.sources._recognition import describe, recognise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.device.machine import Machine

BAUDS = (115_200, 921_600, 9_600)
"""What boards are usually set to, in the order in which they are tried."""
_ENOUGH = 8192
"""Bytes that tell one framing from another."""


class Camera(NamedTuple):
    """A video node that gives frames, and the name of its device."""

    node: str
    name: str


class Heard(NamedTuple):
    """What reads the bytes on a port. ``framing`` is empty where nothing does; ``seen`` says what came."""

    framing: str
    baud: int
    rows: int
    size: int
    seen: str = ""


def serial_ports(machine: Machine) -> list[str]:
    """Return serial ports with a device on them, by the names that stay where the system gives such."""
    lasting = [f"/{path.relative_to(machine.root)}" for path in machine.paths("dev/serial/by-id/*")]
    if lasting or machine.root != Path("/"):
        return lasting
    return sorted(port.device for port in list_ports.comports() if port.vid is not None)


def cameras(machine: Machine) -> list[Camera]:
    """Return cameras. A device's further nodes, as for its metadata, have an index above 0."""
    return [
        Camera(f"/dev/{path.name}", machine.text(path / "name"))
        for path in machine.paths("sys/class/video4linux/video*")
        if machine.text(path / "index") in {"", "0"}
    ]


def listen(port: str, bauds: Sequence[int], channels: Sequence[str], seconds: float) -> Heard:
    """Listen at each rate until something makes sense. ``SourceError`` where the port cannot be opened."""
    heard = Heard("", bauds[0], 0, 0)
    for baud in bauds:
        data = _read(port, baud, seconds)
        framing, rows = recognise(data, channels)
        seen = heard.seen or (
            f"at {baud} baud {described}" if (described := describe(data, channels, "csv")) else ""
        )
        heard = Heard(framing, baud if framing else heard.baud, rows, heard.size + len(data), seen)
        if framing:
            break
    return heard


def _read(port: str, baud: int, seconds: float) -> bytes:
    """Return what comes within so many seconds, or enough."""
    data = b""
    end = time.monotonic() + seconds
    try:
        with serial.serial_for_url(port, baudrate=baud, timeout=0.1) as line:
            while time.monotonic() < end and len(data) < _ENOUGH:
                data += line.read(max(1, line.in_waiting))
    except (OSError, ValueError) as error:
        raise SourceError(f"{port}: cannot be listened to: {error}") from error
    return data
