"""The daemon in a network namespace of its own, whose line to the broker loses, throttles, flaps and goes dead.

It needs root, ip, tc and iptables. Outside of the namespace nothing changes but that the other end of its line is
there, which vanishes with it.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from faults.kills import drain, figures, prepare
from faults.tally import Tally, size_of
from support.broker import free_port, mosquitto
from support.daemon import Consumer, Daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OURS, THEIRS = "10.231.7.1", "10.231.7.2"


class NamespaceImpossibleError(Exception):
    """This machine or this user cannot make one."""


class Line:
    """The end of a veth pair in a namespace, and what is done to it."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.within = ["ip", "netns", "exec", name]
        self._device = f"{name}b"
        self._chance = chance

    def wait(self, low: float, high: float) -> None:
        time.sleep(self._chance.uniform(low, high))

    def link(self, state: str) -> None:
        _do(*self.within, "ip", "link", "set", self._device, state)

    @contextmanager
    def filtered(self, *rule: str) -> Iterator[None]:
        """Have a rule of iptables on what comes and what goes."""
        for chain in ("INPUT", "OUTPUT"):
            _do(*self.within, "iptables", "-w", "-A", chain, *rule)
        try:
            yield
        finally:
            for chain in ("INPUT", "OUTPUT"):
                _do(*self.within, "iptables", "-w", "-D", chain, *rule)

    @contextmanager
    def throttled(self, rate: str) -> Iterator[None]:
        """Let that much through; what does not fit into a short queue is lost."""
        _do(
            *self.within, "tc", "qdisc", "add", "dev", self._device, "root",
            "tbf", "rate", rate, "burst", "4kb", "limit", "16kb",
        )  # fmt: skip
        try:
            yield
        finally:
            _do(*self.within, "tc", "qdisc", "del", "dev", self._device, "root")

    def dropped(self) -> int:
        """Return how many packets its queue has dropped so far."""
        shown = _do(*self.within, "tc", "-s", "qdisc", "show", "dev", self._device)
        return int(shown.partition("dropped ")[2].split(",")[0] or 0)


def lossy(line: Line) -> int:
    with line.filtered("-p", "tcp", "-m", "statistic", "--mode", "random", "--probability", "0.2", "-j", "DROP"):
        line.wait(2.0, 4.0)
        return _matched(line)


def throttled(line: Line) -> int:
    with line.throttled("400kbit"):
        line.wait(2.0, 4.0)
        return line.dropped()


def flapping(line: Line) -> int:
    for _ in range(4):
        line.link("down")
        line.wait(0.1, 0.8)
        line.link("up")
        line.wait(0.1, 0.8)
    return 0


def dead(line: Line) -> int:
    """Say nothing: both ends believe that the connection stands."""
    with line.filtered("-p", "tcp", "-j", "DROP"):
        line.wait(2.0, 5.0)
        return _matched(line)


def reset(line: Line) -> int:
    with line.filtered("-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"):
        line.wait(1.0, 2.0)
        return _matched(line)


def all_at_once(line: Line) -> int:
    with line.throttled("800kbit"):
        return lossy(line) + flapping(line)


FAULTS: list[Callable[[Line], int]] = [lossy, flapping, throttled, dead, reset, all_at_once]


def run(folder: Path, faults: int, seed: int = 0) -> dict[str, Any]:
    """Do ``faults`` faults one after another to a daemon under load, and count."""
    tally, largest, dropped = Tally(), 0, 0
    port = free_port()
    with (
        namespace(f"lt{os.getpid() % 100_000}", random.Random(seed)) as line,
        mosquitto(folder / "broker", f"listener {port} {OURS}") as broker,
    ):
        path = prepare(folder / "device", f"mqtt://{OURS}:{port}")
        consumer = Consumer(broker.port)
        running = Daemon(path, within=line.within)
        running.start()
        try:
            consumer.wait_results("one", 10)
            for fault in itertools.islice(itertools.cycle(FAULTS), faults):
                dropped += fault(line)
                line.wait(0.5, 1.0)
                largest = max(largest, size_of(path.parent / "state"))
            drain(running, consumer)
        finally:
            running.process.kill()
            running.process.wait()
        consumer.close()
        tally.take(consumer.messages)
    return figures(tally, largest) | {"namespace_faults": faults, "packets_dropped": dropped}


@contextmanager
def namespace(name: str, chance: random.Random) -> Iterator[Line]:
    """Make a namespace with a line to ours. ``NamespaceImpossibleError`` says why that cannot be."""
    missing = [program for program in ("ip", "tc", "iptables") if not shutil.which(program)]
    if missing or os.geteuid():
        raise NamespaceImpossibleError(f"missing: {', '.join(missing) or 'root'}")
    inside = ["ip", "netns", "exec", name]
    try:
        _do("ip", "netns", "add", name)
    except subprocess.CalledProcessError as error:
        raise NamespaceImpossibleError(error.stderr) from error
    try:
        _do("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        _do("ip", "address", "add", f"{OURS}/30", "dev", f"{name}a")
        _do("ip", "link", "set", f"{name}a", "up")
        _do(*inside, "ip", "address", "add", f"{THEIRS}/30", "dev", f"{name}b")
        _do(*inside, "ip", "link", "set", f"{name}b", "up")
        yield Line(name, chance)
    finally:
        subprocess.run(["ip", "link", "delete", f"{name}a"], check=False, capture_output=True)
        _do("ip", "netns", "delete", name)


def _matched(line: Line) -> int:
    """Return how many packets the rules have matched so far."""
    shown = _do(*line.within, "iptables", "-w", "-nvxL")
    return sum(int(row.split()[0]) for row in shown.splitlines() if " tcp " in row)


def _do(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
