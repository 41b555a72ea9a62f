"""The power goes while the outbox writes: the file system is shut down without its journal being flushed.

ext4 on a loop device; ``FS_IOC_SHUTDOWN`` with ``NOLOGFLUSH`` drops what was not synced, as a power cut does.
Needs root.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faults.tally import held

if TYPE_CHECKING:
    from collections.abc import Iterator

FS_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2
TESTS = Path(__file__).parents[1]

WRITER = """
import json, sys, time
from pathlib import Path
import msgspec
from limpet.delivery.outbox import Entry
from limpet.delivery.outbox.queue import Outbox
from limpet.delivery.outbox.rules import OutboxRules
first = int(sys.argv[2])
rules = msgspec.convert({"min_free_bytes": 0, "results": {"keep": "durable"}}, OutboxRules)
outbox = Outbox(rules, Path(sys.argv[1]))
outbox.open(time.monotonic())
sequence = first
while True:
    for _ in range(10):
        payload = json.dumps({"id": f"d/p/1-a/{sequence}", "filler": "x" * 200}).encode()
        outbox.put(Entry("result", "p", (payload,), time.monotonic()))
        sequence += 1
    outbox.maintain(time.monotonic() + 1, away=True)
    if outbox.unsafe_since() == float("inf"):
        print(sequence - 1, flush=True)
"""


class PowerCutsImpossibleError(Exception):
    """This machine does not let us mount a file system of our own."""


@contextmanager
def mounted(image: Path, where: Path) -> Iterator[None]:
    """Mount a file system for as long as the block lasts."""
    where.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, where], capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise PowerCutsImpossibleError(mounted.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


def cut(where: Path) -> None:
    """Shut a file system down. What was not synced is gone."""
    fd = os.open(where, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
    finally:
        os.close(fd)


def _confirmed_until_cut(state: Path, where: Path, first: int, seconds: float) -> int:
    """Have a process fill the outbox, cut the power, and return the last number that it had confirmed."""
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, state / "reporters/mqtt", str(first)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    assert writer.stdout
    assert writer.stdout.readline()
    time.sleep(seconds)
    cut(where)
    writer.send_signal(signal.SIGKILL)
    confirmed = writer.stdout.read().split()
    writer.stdout.close()
    writer.wait()
    return int(confirmed[-1]) if confirmed else first


def run(folder: Path, cuts: int, seed: int = 0) -> dict[str, Any]:
    """Cut the power ``cuts`` times and count what was confirmed and is gone."""
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    image, where = folder / "disk.img", folder / "disk"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    confirmed: set[str] = set()
    first = 1
    for _ in range(cuts):
        with mounted(image, where):
            last = _confirmed_until_cut(where, where, first, chance.uniform(0.05, 0.8))
        confirmed |= {f"d/p/1-a/{number}" for number in range(first, last + 1)}
        first = last + 100_000
    with mounted(image, where):
        found = held(where, folder / "copy")
    return {
        "power_cuts": cuts,
        "accepted": len(confirmed),
        "delivered": len(confirmed & found),
        "lost": len(confirmed - found),
    }
