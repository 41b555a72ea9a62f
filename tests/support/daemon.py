"""The real daemon as a process, and what it says through a real broker."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.broker import PATIENCE, Listener, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Daemon:
    """``limpet run`` on a configuration file that tests may rewrite. ``within``: a command that execs others."""

    def __init__(
        self,
        path: Path,
        environment: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
        python: Path | str = sys.executable,
    ) -> None:
        self.path = path
        self._python = python
        self._log = path.with_suffix(".log")
        self._within = within
        self._environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes]
        self._seen: set[int] = set()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._within, self._python, "-m", "limpet", "run", self.path],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        self._seen = set(self.descendants())
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(20)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def descendants(self) -> dict[int, str]:
        """Return the process ids and names of the fork server and the workers."""
        found: dict[int, str] = {}
        queue = [self.process.pid]
        while queue:
            for pid in _children(queue.pop()):
                with contextlib.suppress(OSError):
                    found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
                    queue.append(pid)
        return found

    def survivors(self) -> list[int]:
        """Return what is left of the processes that were there when it was last asked for them."""
        return [pid for pid in self._seen if Path(f"/proc/{pid}").exists()]

    def resident_mb(self) -> float:
        """Return the supervisor's resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6

    def pid_of(self, name: str) -> int:
        """Return the process id of a worker by its source's name, or of ``limpet-fork``."""
        wanted = {name, f"limpet:{name}"[:15]}
        found: list[int] = []

        def look() -> list[int]:
            found[:] = [pid for pid, comm in self.descendants().items() if comm in wanted]
            return found

        wait_until(look)
        return found[0]


def _children(parent: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return []


@contextlib.contextmanager
def daemon(
    path: Path, environment: Mapping[str, str] | None = None, python: Path | str = sys.executable
) -> Iterator[Daemon]:
    """Run it, and leave none of its processes behind."""
    running = Daemon(path, environment, python=python)
    running.start()
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.signal(signal.SIGTERM)
            try:
                running.wait()
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait()


class Consumer(Listener):
    """Collects a device's messages and answers questions about them."""

    def results(self, pipeline: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for message in list(self.messages):
            if message.topic.endswith(f"/result/{pipeline}"):
                content = json.loads(message.payload)
                found += content if isinstance(content, list) else [content]
        return found

    def events(self, pipeline: str, event: str) -> list[dict[str, Any]]:
        return [
            content
            for message in list(self.messages)
            if message.topic.endswith(f"/event/{pipeline}") and (content := message.json)["event"] == event
        ]

    def events_of_device(self, event: str) -> list[dict[str, Any]]:
        return [
            content
            for message in list(self.messages)
            if message.topic.endswith("/event") and (content := message.json)["event"] == event
        ]

    def last(self, topic: str) -> Any:
        """Return what was said last on a topic below the device, ``None`` if nothing was."""
        said = [message for message in list(self.messages) if message.topic.split("/", 2)[2] == topic]
        return said[-1].json if said else None

    def wait_results(self, pipeline: str, count: int, timeout: float = PATIENCE) -> None:
        """Wait for that many results more than there are."""
        wanted = len(self.results(pipeline)) + count
        wait_until(lambda: len(self.results(pipeline)) >= wanted, timeout)


def missing(results: list[dict[str, Any]]) -> dict[str, set[int]]:
    """Return by boot the sequence numbers below the highest that were not received."""
    seen: dict[str, set[int]] = {}
    for result in results:
        seen.setdefault(result["boot"], set()).add(result["sequence"])
    gaps = {boot: set(range(1, max(numbers) + 1)) - numbers for boot, numbers in seen.items()}
    return {boot: numbers for boot, numbers in gaps.items() if numbers}
