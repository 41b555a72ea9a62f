"""Sensors that this machine has: serial ports and cameras, and what a port receives."""

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
"""Usual bit rates of boards, in the order in which ``listen`` tries them."""
_ENOUGH = 8192
"""Bytes that are enough to recognise a framing."""


class Camera(NamedTuple):
    """A video node that delivers frames, and the name of its device."""

    node: str
    name: str


class PortProbe(NamedTuple):
    """What ``listen`` found on a port.

    ``framing`` reads the bytes; it is empty if none does. ``rows``: samples in them. ``size``: bytes received.
    ``seen``: what came, in words, if no framing reads it.
    """

    framing: str
    baud: int
    rows: int
    size: int
    seen: str = ""


def serial_ports(machine: Machine) -> list[str]:
    """Return the serial ports with a device, by names that survive a reboot if the system has such names."""
    stable = [f"/{path.relative_to(machine.root)}" for path in machine.paths("dev/serial/by-id/*")]
    if stable or machine.root != Path("/"):
        return stable
    return sorted(port.device for port in list_ports.comports() if port.vid is not None)


def cameras(machine: Machine) -> list[Camera]:
    """Return the cameras. A camera's other nodes, such as for metadata, have an index above 0."""
    return [
        Camera(f"/dev/{path.name}", machine.text(path / "name"))
        for path in machine.paths("sys/class/video4linux/video*")
        if machine.text(path / "index") in {"", "0"}
    ]


def listen(port: str, bauds: Sequence[int], channels: Sequence[str], seconds: float) -> PortProbe:
    """Listen at each bit rate until a framing reads what comes. ``SourceError`` if the port cannot be opened."""
    heard = PortProbe("", bauds[0], 0, 0)
    for baud in bauds:
        data = _read(port, baud, seconds)
        framing, rows = recognise(data, channels)
        seen = heard.seen or (
            f"at {baud} baud {described}" if (described := describe(data, channels, "csv")) else ""
        )
        heard = PortProbe(framing, baud if framing else heard.baud, rows, heard.size + len(data), seen)
        if framing:
            break
    return heard


def _read(port: str, baud: int, seconds: float) -> bytes:
    """Return what comes within so many seconds, or the first ``_ENOUGH`` bytes."""
    data = b""
    end = time.monotonic() + seconds
    try:
        with serial.serial_for_url(port, baudrate=baud, timeout=0.1) as line:
            while time.monotonic() < end and len(data) < _ENOUGH:
                data += line.read(max(1, line.in_waiting))
    except (OSError, ValueError) as error:
        raise SourceError(f"{port}: cannot be opened: {error}") from error
    return data
