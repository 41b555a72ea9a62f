"""Feeds one parser for a while, in a process of its own. The input at hand lies in memory that the parent sees."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import sys
import time
import traceback
from typing import TYPE_CHECKING

from fuzz.mutate import LARGEST, mutated
from limpet.errors import LimpetError

if TYPE_CHECKING:
    import mmap
    from pathlib import Path
    from types import ModuleType

    from fuzz.registry import Prepared

HEAD = struct.Struct("<QI")
"""How many inputs there were, and the length of the one at hand, which follows."""
SIZE = HEAD.size + LARGEST


class Feeder:
    """Feeds inputs to a parser, counts them, and keeps those that crash it."""

    def __init__(self, name: str, prepared: Prepared, memory: mmap.mmap, crashes: Path) -> None:
        self.name = name
        self._prepared = prepared
        self._memory = memory
        self._crashes = crashes

    def feed(self, data: bytes) -> None:
        """Have the parser take an input."""
        data = data[:LARGEST]
        count, _ = HEAD.unpack_from(self._memory)
        self._memory[HEAD.size : HEAD.size + len(data)] = data
        HEAD.pack_into(self._memory, 0, count + 1, len(data))
        try:
            self._prepared.take(data)
        except LimpetError:
            pass
        except Exception as error:  # noqa: BLE001 - a crash
            keep(self._crashes, self.name, data, traceback.format_exc(), _place(error))

    def mutate(self, seconds: float, seed: int) -> None:
        """Feed what chance makes of the corpus."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            count, _ = HEAD.unpack_from(self._memory)
            self.feed(mutated(self._prepared.corpus, random.Random(f"{seed} {self.name} {count}")))

    def explore(self, atheris: ModuleType, seconds: float, seed: int, corpus: Path) -> None:
        """Feed what leads to code that no input has reached yet. Ends the process."""
        corpus.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(self._prepared.corpus):
            (corpus / f"sound{number}").write_bytes(data)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        chance = random.Random(f"{seed} {self.name}")

        def mutate(data: bytes, largest: int, _: int) -> bytes:
            """Mix the fuzzer's own mutations with those that know of sound inputs."""
            if chance.random() < 0.5:
                made: bytes = atheris.Mutate(data, largest)
                return made
            return mutated([data, *self._prepared.corpus], chance)[:largest]

        atheris.Setup(
            [sys.argv[0], f"-max_total_time={max(1, round(seconds))}", f"-seed={seed + 1}", f"-max_len={1 << 16}",
             "-rss_limit_mb=0", "-timeout=0", "-verbosity=0", str(corpus)],
            self.feed,
            custom_mutator=mutate,
        )  # fmt: skip
        atheris.Fuzz()


def keep(crashes: Path, name: str, data: bytes, why: str, place: str) -> None:
    """Write an input that crashes a parser, and why; one for each place that it crashes at."""
    crashes.mkdir(parents=True, exist_ok=True)
    mark = hashlib.sha256(place.encode()).hexdigest()[:8]
    stem = f"{name.replace(' ', '_')}-{mark}"
    if not (crashes / f"{stem}.txt").exists():
        (crashes / f"{stem}.bin").write_bytes(data)
        (crashes / f"{stem}.txt").write_text(why, encoding="utf-8", errors="replace")


def _place(error: Exception) -> str:
    """Name where an exception came from: its type, and the last line of ours."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "limpet" in frame.filename]
    last = frames[-1] if frames else None
    return f"{type(error).__name__} {last.filename if last else ''}:{last.lineno if last else 0}"
