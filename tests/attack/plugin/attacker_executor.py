"""Attempts of an executor that was taken over, at its channel to its worker. Run by ``hostile_delegate.c``."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from pathlib import Path
from typing import Any

import attacker_escapes
from attacker import tell
from attacker_attempts import Attempts
from attacker_border import Border

ATTEMPTS = Attempts()
ROOM = 4096
_ADD_SEALS, _SHRINK_AND_GROW = 1033, 6


def attack(attempt: bytes, target: bytes) -> None:
    """Make an attempt, and write what came of it to standard error."""
    name = attempt.decode()
    border = Border(Path(target.decode()))
    tell(name, begun=True)
    try:
        said = {**ATTEMPTS, **attacker_escapes.ATTEMPTS}[name.removeprefix("executor: ")](border)
    except Exception as error:  # noqa: BLE001 - what came of it
        tell(name, error=f"{type(error).__name__}: {error}"[:300], unread=border.unread())
    else:
        tell(name, said=said, unread=border.settle())


def opened(**fields: Any) -> dict[str, Any]:
    """Return what a sound executor says first, but for these fields."""
    sound = {"placed": {"op_share": 1.0, "mac_share": 1.0, "time_share": 1.0, "speed": 2.0}, "run_s": 0.01}
    places = [[0, ROOM], [ROOM, ROOM]]
    return {"type": "Opened", **sound, "recheck_s": 0.01, "places": places, "outputs": 1, **fields}


def memory(size: int = 2 * ROOM, *, sealed: bool = True) -> int:
    """Return memory to share."""
    fd = os.memfd_create("evil", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if sealed:
        fcntl.fcntl(fd, _ADD_SEALS, _SHRINK_AND_GROW)
    return fd


RAW = {
    "garbage to its worker": os.urandom(4096),
    "a record of 4 GiB to its worker": b"\xff\xff\xff\xff" + bytes(100_000),
    "half a record to its worker": b"\x00\x01\x00\x00half",
    "100,000 nested lists to its worker": struct.pack("<I", 100_000) + b"\x91" * 100_000,
}
FIRST: dict[str, dict[str, Any]] = {
    "places outside the memory": opened(places=[[0, ROOM], [1 << 40, ROOM]]),
    "places of negative size": opened(places=[[0, -1], [-5, ROOM]]),
    "100,000 places": opened(places=[[0, 8]] * 100_000, outputs=1),
    "minus one output": opened(outputs=-1),
    "a run that takes NaN seconds": opened(run_s=float("nan")),
    "a run that takes 1e300 seconds": opened(run_s=1e300),
    "a share of 1e300": opened(placed={"op_share": 1e300, "mac_share": None}),
    "a device's name of 1 MB": opened(placed={"op_share": 1.0, "mac_share": 1.0, "device": "x" * 1_000_000}),
    "an order to itself": {"type": "Run", "inputs": []},
    "an error of 1 MB": {"type": "Done", "error": "e" * 1_000_000},
    "an error with control characters": {"type": "Done", "error": "\x1b[2J\0\n2026 ERROR forged"},
}
"""The first answer, with memory that would fit."""
THEN: dict[str, dict[str, Any]] = {
    "an output of another type": {"type": "Done", "outputs": [["O", [1, 3]]]},
    "an output of 2^60 values": {"type": "Done", "outputs": [["<f4", [1 << 30, 1 << 30]]]},
    "an output of a negative shape": {"type": "Done", "outputs": [["<f4", [-1, -3]]]},
    "1,000 outputs": {"type": "Done", "outputs": [["<f4", [1, 3]]] * 1000},
    "no output": {"type": "Done", "outputs": []},
    "an output of the type of a module": {"type": "Done", "outputs": [["os.system", [1, 3]]]},
}
"""The answer to a run, after a sound first answer."""
MEMORY: dict[str, Any] = {
    "memory of one byte": lambda: memory(1),
    "memory of no bytes": lambda: memory(0),
    "memory that it can take away": lambda: memory(sealed=False),
    "a folder for memory": lambda: os.open("/usr", os.O_RDONLY),
    "a device for memory": lambda: os.open("/dev/zero", os.O_RDWR),
}


def _raw(data: bytes) -> Any:
    def attempt(border: Border) -> str:
        border.silence()
        border.write(data)
        return f"{len(data)} bytes"

    return attempt


def _first(record: dict[str, Any]) -> Any:
    def attempt(border: Border) -> None:
        border.silence()
        border.record_with(record, [memory()])

    return attempt


def _then(record: dict[str, Any]) -> Any:
    def attempt(border: Border) -> str:
        border.silence()
        border.record_with(opened(), [memory()])
        asked, _ = border.read(5)
        border.record(record)
        return f"asked with {len(asked)} bytes"

    return attempt


def _memory(make: Any) -> Any:
    def attempt(border: Border) -> None:
        border.silence()
        border.record_with(opened(), [make()])

    return attempt


ATTEMPTS.update({name: _raw(data) for name, data in RAW.items()})
ATTEMPTS.update({name: _first(record) for name, record in FIRST.items()})
ATTEMPTS.update({name: _then(record) for name, record in THEN.items()})
ATTEMPTS.update({name: _memory(make) for name, make in MEMORY.items()})


@ATTEMPTS.named("memory that it takes away while it is read")
def _(border: Border) -> str:
    border.silence()
    shared = memory(sealed=False)
    border.record_with(opened(), [shared])
    border.read(2)
    os.ftruncate(shared, 0)
    border.record({"type": "Done", "outputs": [["<f4", [1, 3]]]})
    return "the memory is gone"


@ATTEMPTS.named("no memory at all")
def _(border: Border) -> None:
    border.silence()
    border.record(opened())


@ATTEMPTS.named("100 file descriptors to its worker")
def _(border: Border) -> None:
    border.silence()
    border.record_with(opened(), [memory()] * 100)


@ATTEMPTS.named("10,000 answers at once")
def _(border: Border) -> None:
    border.silence()
    border.record_with(opened(), [memory()])
    for _ in range(10_000):
        border.record({"type": "Done"})


@ATTEMPTS.named("no answer, ever")
def _(border: Border) -> str:
    border.silence()
    time.sleep(15)
    return "15 s of silence"
