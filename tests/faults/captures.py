"""Kill -9 and power cuts while captures are written: each is whole afterwards, and the ring is bounded.

The power cuts are those of ``faults.power``, and need root.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faults.power import cut, mounted
from limpet.captures import form, ring

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = Path(__file__).parents[1]
MOST = 200_000
"""Bytes of the ring."""
PIPELINE = "motion"

WRITER = """
import random, sys
from pathlib import Path
from limpet.captures import form
from limpet.captures.ring import Ring
from support.captured import capture, packed
root, most, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
held, chance = Ring(root, "motion", most), random.Random(seed)
print(len(held.damaged), flush=True)
while True:
    reason = chance.choice(["audit", "unsure"])
    one = capture(number=held.next_number(), reasons=[reason])
    extra = chance.randbytes(chance.randrange(20_000))
    data = packed(one, form.body_of(b'"' + extra.hex().encode() + b'"', [bytes(24)]))
    if held.add(one, data):
        print(one.number, flush=True)
"""


class Found:
    """What is wrong with a ring after a fault: captures that were confirmed and are gone, half ones, its size."""

    def __init__(self, root: Path, confirmed: list[int]) -> None:
        damaged: list[str] = []
        held = ring.entries(root, PIPELINE, damaged)
        numbers = {one.capture.number for one in held}
        expected = [number for number in confirmed if number > min(numbers, default=0)]
        self.lost = sum(number not in numbers for number in expected) if numbers else len(confirmed)
        self.half = len(damaged)
        for one in held:
            form.read(one.path)
        self.bytes = sum(one.size for one in held)


def _written_until(root: Path, seed: int, seconds: float, fault: Callable[[], None]) -> tuple[list[int], int]:
    """Have a process write captures until the fault. Return the confirmed numbers, and what it found damaged."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, root, str(MOST), str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
    )
    assert writer.stdout
    damaged = int(writer.stdout.readline())
    first = writer.stdout.readline()
    time.sleep(seconds)
    fault()
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.stdout.close()
    writer.wait()
    return [int(number) for number in (first, *rest)], damaged


def _run(
    faults: int, chance: random.Random, once: Callable[[int, float], tuple[Found, int, int]]
) -> dict[str, int]:
    confirmed = lost = half = largest = 0
    for number in range(faults):
        found, written, damaged = once(number, chance.uniform(0.01, 0.3))
        confirmed += written
        lost, half, largest = lost + found.lost, half + found.half + damaged, max(largest, found.bytes)
    return {"confirmed": confirmed, "lost": lost, "half": half, "largest": largest}


def kills(folder: Path, count: int, seed: int = 0) -> dict[str, int]:
    """Kill the writer ``count`` times."""
    folder.mkdir(parents=True)

    def once(number: int, seconds: float) -> tuple[Found, int, int]:
        confirmed, damaged = _written_until(folder, number, seconds, lambda: None)
        return Found(folder, confirmed), len(confirmed), damaged

    return _run(count, random.Random(seed), once)


def cuts(folder: Path, count: int, seed: int = 0) -> dict[str, int]:
    """Cut the power ``count`` times. ``PowerCutsImpossibleError`` if no file system can be mounted."""
    folder.mkdir(parents=True)
    image, where = folder / "disk.img", folder / "disk"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)

    def once(number: int, seconds: float) -> tuple[Found, int, int]:
        with mounted(image, where):
            (where / "captures").mkdir(exist_ok=True)
            confirmed, damaged = _written_until(where / "captures", number, seconds, lambda: cut(where))
        with mounted(image, where):
            return Found(where / "captures", confirmed), len(confirmed), damaged

    return _run(count, random.Random(seed), once)


def figures(name: str, counted: dict[str, int]) -> dict[str, Any]:
    """Return what ``make faults`` adds up: half captures and those over the limit count as lost, too."""
    over = max(0, counted["largest"] - MOST)
    return {
        "accepted": counted["confirmed"],
        "delivered": counted["confirmed"] - counted["lost"],
        "lost": counted["lost"] + counted["half"] + bool(over),
        f"captures_{name}_half": counted["half"],
        f"captures_{name}_bytes_over": over,
    }
