"""Serial ports that this machine has, and what a port receives."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import serial
from serial.tools import list_ports

from limpet.errors import SourceError
from limpet.sources import serial as serial_source
from limpet.sources._recognition import NO_TEXT, NOTHING, describe, recognise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.device.machine import Machine

BAUDS = (115_200, 921_600, 9_600)
"""Usual bit rates of boards, in the order in which ``listen`` tries them."""
_ENOUGH = 8192
"""Bytes that are enough to recognise a framing."""


class PortProbe(NamedTuple):
    """What ``listen`` found on a port.

    ``framing`` reads the bytes; it is empty if none does. ``rows``: samples in them. ``seen``: what came, in words
    that go on from the name of the port, if no framing reads it.
    """

    framing: str
    baud: int
    rows: int
    seen: str = ""


def serial_ports(machine: Machine) -> list[str]:
    """Return the serial ports with a device, by names that survive a reboot if the system has such names."""
    stable = [f"/{path.relative_to(machine.root)}" for path in machine.paths("dev/serial/by-id/*")]
    if stable or machine.root != Path("/"):
        return stable
    return sorted(port.device for port in list_ports.comports() if port.vid is not None)


def listen(port: str, bauds: Sequence[int], channels: Sequence[str], seconds: float) -> PortProbe:
    """Listen at each bit rate until a framing reads what comes. ``SourceError`` if the port cannot be opened."""
    heard: dict[int, bytes] = {}
    for baud in bauds:
        heard[baud] = read(port, baud, seconds, _ENOUGH)[0]
        framing, rows = recognise(heard[baud], channels)
        if framing:
            return PortProbe(framing, baud, rows)
    return PortProbe("", bauds[0], 0, seen(heard, channels, seconds))


def seen(heard: Mapping[int, bytes], channels: Sequence[str], seconds: float) -> str:
    """Return what came at each bit rate, none of it samples. Text says more than what is no text."""
    rates = _alternatives([str(baud) for baud in heard])
    if not any(heard.values()):
        slow = f"If it sends less often than every {seconds:g} s, use a longer --listen."
        return f"at {rates} baud {NOTHING} {slow}"
    described = {baud: text for baud, data in heard.items() if (text := describe(data, channels, "csv"))}
    if text := next((f"at {baud} baud {text}" for baud, text in described.items() if text != NO_TEXT), ""):
        return text
    if described:
        return f"at {rates} baud {NO_TEXT} Use --baud if the board has another bit rate."
    size = sum(map(len, heard.values()))
    few = f"sends {size} bytes in {len(heard) * seconds:g} s, too few to recognise"
    return f"at {rates} baud {few}. Use a longer --listen."


def _alternatives(words: Sequence[str]) -> str:
    """Return words with commas between them, and "or" before the last."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def read(port: str, baud: int, seconds: float, enough: int) -> tuple[bytes, list[tuple[float, int]]]:
    """Return what comes within so many seconds, about ``enough`` bytes at most, and when how many were there.

    ``SourceError`` if the port cannot be opened, or if another program reads it: each would get half of the bytes.
    """
    data, times = bytearray(), []
    begin = time.monotonic()
    try:
        with serial.serial_for_url(port, baudrate=baud, timeout=0.05, exclusive=True) as line:
            while (at := time.monotonic() - begin) < seconds and len(data) < enough:
                if came := line.read(max(1, line.in_waiting)):
                    data += came
                    times.append((at, len(data)))
    except (OSError, ValueError) as error:
        raise SourceError(f"{port}: {serial_source.reason(error)}") from error
    return bytes(data), times
