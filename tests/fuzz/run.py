"""``make fuzz SECONDS=n``: every parser of foreign bytes gets damaged input, and may refuse it, but no more.

The last line is one JSON object. Inputs that crash a parser, or make it hang or grow, lie in ``build/fuzz``;
``run.py FILE`` feeds one of them again.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import mmap
import os
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

try:
    import atheris
except ImportError:
    atheris = None

# It says on standard error which modules it takes.
with (
    contextlib.redirect_stderr(io.StringIO() if atheris else sys.stderr),
    atheris.instrument_imports(include=["limpet"]) if atheris else contextlib.nullcontext(),
):
    from fuzz import (
        deployer_parsers,
        file_parsers,
        gateway_parsers,
        inference_parsers,
        model_parsers,
        serial_parsers,
        state_parsers,
        trust_parsers,
        wire_parsers,
    )

from fuzz.child import HEAD, SIZE, Feeder, keep
from fuzz.registry import PARSERS, Prepared

if TYPE_CHECKING:
    from collections.abc import Sequence

MODULES = (
    deployer_parsers,
    file_parsers,
    gateway_parsers,
    inference_parsers,
    model_parsers,
    serial_parsers,
    state_parsers,
    trust_parsers,
    wire_parsers,
)
CRASHES = Path(__file__).parents[2] / "build" / "fuzz"
HANG = 10.0
"""Seconds that a parser may take for one input."""
GROWTH = 512
"""MB that a process may grow by."""
FEWEST = 20
"""Inputs that each parser gets, however busy the machine is."""
TURNS = 20
"""Turns after which a parser that takes fewer inputs gets no more time."""


@dataclass
class Fed:
    """A parser: what it has been given so far, and the process that does it at the moment."""

    name: str
    prepared: Prepared
    memory: mmap.mmap
    spent: float = 0.0
    turns: int = 0
    pid: int = 0
    began: float = 0.0
    moved: float = 0.0
    seen: int = 0
    basis_mb: float = 0.0

    @property
    def inputs(self) -> int:
        return int(HEAD.unpack_from(self.memory)[0])

    @property
    def starved(self) -> bool:
        return self.inputs < FEWEST and self.turns < TURNS

    def at_hand(self) -> bytes:
        _, length = HEAD.unpack_from(self.memory)
        return self.memory[HEAD.size : HEAD.size + length]


class Run:
    """Shares the time among the parsers: a third of it evenly, the rest to the one with the fewest inputs."""

    def __init__(self, folder: Path, crashes: Path, seed: int = 0) -> None:
        self._folder = folder
        self._crashes = crashes
        self._seed = seed
        self._started = 0
        self.fed = [Fed(name, self._prepare(name), mmap.mmap(-1, SIZE)) for name in PARSERS]

    def _prepare(self, name: str) -> Prepared:
        place = self._folder / name.replace(" ", "_")
        place.mkdir()
        return PARSERS[name](place)

    def run(self, seconds: float) -> None:
        """Feed all parsers for so long, and longer those that have had few inputs."""
        until = time.monotonic() + seconds
        together = os.cpu_count() or 1
        slice_s = max(0.3, seconds * together / len(self.fed) / 3)
        while time.monotonic() < until or any(fed.pid or fed.starved for fed in self.fed):
            while sum(fed.pid > 0 for fed in self.fed) < together:
                left = until - time.monotonic()
                feed = self._next(only_starved=left <= 0)
                if feed is None:
                    break
                self._start(feed, min(slice_s, max(0.3, left)))
            time.sleep(0.02)
            for fed in self.fed:
                if fed.pid:
                    self._watch(fed)

    def _next(self, *, only_starved: bool) -> Fed | None:
        idle = [fed for fed in self.fed if not fed.pid and (fed.starved or not only_starved)]
        if not idle:
            return None
        self._started += 1
        if self._started % 3 == 0 or self._started <= len(self.fed):
            return min(idle, key=lambda fed: fed.spent)
        return min(idle, key=lambda fed: fed.inputs)

    def _start(self, fed: Fed, seconds: float) -> None:
        fed.began = fed.moved = time.monotonic()
        fed.turns += 1
        fed.pid = os.fork()
        if not fed.pid:
            status = 1
            try:
                self._feed(fed, seconds)
                status = 0
            finally:
                os._exit(status)
        fed.basis_mb = _resident_mb(fed.pid)

    def _feed(self, fed: Fed, seconds: float) -> None:
        warnings.simplefilter("ignore")
        logging.getLogger("limpet").setLevel(logging.CRITICAL)  # in this process alone
        feeder = Feeder(fed.name, fed.prepared, fed.memory, self._crashes)
        if atheris and seconds >= 1:  # it counts in whole seconds
            feeder.explore(atheris, seconds, self._seed + self._started, self._folder / f"corpus {fed.name}")
        else:
            feeder.mutate(seconds, self._seed)

    def _watch(self, fed: Fed) -> None:
        """See whether a process has ended, hangs or grows."""
        now = time.monotonic()
        if fed.inputs != fed.seen:
            fed.seen, fed.moved = fed.inputs, now
        over, status = os.waitpid(fed.pid, os.WNOHANG)
        if over:
            self._end(fed, os.waitstatus_to_exitcode(status))
        elif now - fed.moved > HANG:
            self._kill(fed, f"took more than {HANG:g} s for this input")
        elif _resident_mb(fed.pid) - fed.basis_mb > GROWTH:
            self._kill(fed, f"grew by more than {GROWTH} MB by this input")

    def _kill(self, fed: Fed, why: str) -> None:
        os.kill(fed.pid, signal.SIGKILL)
        os.waitpid(fed.pid, 0)
        keep(self._crashes, fed.name, fed.at_hand(), why, why)
        self._end(fed, 0)

    def _end(self, fed: Fed, status: int) -> None:
        if status < 0:
            keep(self._crashes, fed.name, fed.at_hand(), f"killed by signal {-status}", f"signal {-status}")
        fed.spent += time.monotonic() - fed.began
        fed.pid = 0


def fuzz(seconds: float, crashes: Path, seed: int = 0) -> dict[str, Any]:
    """Feed all parsers; return the last line's object."""
    scratch = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - fsync is free there
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        run = Run(Path(folder), crashes, seed)
        run.run(seconds)
        inputs = {fed.name: fed.inputs for fed in run.fed}
    return {
        "inputs": inputs,
        "parsers": len(inputs),
        "least_inputs": min(inputs.values()),
        "crashes": len(list(crashes.glob("*.txt"))),
        "guided": atheris is not None,
    }


def _resident_mb(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * mmap.PAGESIZE / 1e6
    return 0.0


def again(path: Path) -> int:
    """Feed a kept input again, so that what it raises is seen."""
    name = path.stem.rpartition("-")[0].replace("_", " ")
    with tempfile.TemporaryDirectory() as folder:
        PARSERS[name](Path(folder)).take(path.read_bytes())
    return 0


def main(arguments: Sequence[str]) -> int:
    if arguments and Path(arguments[0]).is_file():
        return again(Path(arguments[0]))
    for old in CRASHES.glob("*.*"):
        old.unlink()
    found = fuzz(float(arguments[0]) if arguments else 60.0, CRASHES)
    for path in sorted(CRASHES.glob("*.txt")):
        reason = path.read_text(encoding="utf-8").strip().splitlines()[-1][:200]
        print(f"crash: {reason}\n  again: {sys.executable} tests/fuzz/run.py {path.with_suffix('.bin')}")
    print(json.dumps(found))
    return 1 if found["crashes"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
