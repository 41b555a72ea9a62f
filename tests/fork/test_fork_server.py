"""The fork server where the kernel refuses to fork, and a fleet that lives with that."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from limpet.deployment.assignments import to_check
from limpet.fork.launch import ForkServerProcess
from limpet.supervision.helpers import Helpers
from limpet.wire.channel import Channel
from limpet.wire.fork_records import Check, Checked, Exited, Fork, Forked, FromForkServer, NotForked
from support.crew import Crew, configured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from limpet.supervision.forks import Forks

LIMITED = """
import ctypes, os, resource, signal, sys
import limpet.worker.process
from limpet.fork import server
if os.getuid() == 0:  # limits on processes do not hold for root, nor for who may lift them
    os.setresuid(54321, 0, 0)
    without = ~(1 << 21 | 1 << 24) & 0xFFFFFFFF  # CAP_SYS_ADMIN, CAP_SYS_RESOURCE
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capget(header, sets) == 0
    sets[0] &= without
    sets[1] &= without
    assert ctypes.CDLL(None).capset(header, sets) == 0
hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
for number, soft in ((signal.SIGUSR1, 0), (signal.SIGUSR2, hard)):
    signal.signal(number, lambda *_, soft=soft: resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard)))
server.main(sys.argv[1:])
"""


class Launched:
    """A fork server that belongs to a user whose number of processes can be limited."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", LIMITED, str(os.getpid()), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
            )
        self.pid = self._process.pid

    def limit(self, *, none: bool) -> None:
        """Allow its user no process beside those that run, or as many as before."""
        os.kill(self.pid, signal.SIGUSR1 if none else signal.SIGUSR2)

    def close(self) -> None:
        self.socket.close()
        self._process.kill()
        self._process.wait()


@contextmanager
def launched() -> Iterator[Launched]:
    running = Launched()
    try:
        yield running
    finally:
        running.close()


def next_record(channel: Channel[FromForkServer]) -> FromForkServer:
    while True:
        for record in channel.receive():
            return record


def test_a_fork_that_fails_is_an_answer_and_the_next_one_works() -> None:
    with launched() as running:
        channel: Channel[FromForkServer] = Channel(running.socket, FromForkServer)
        running.socket.settimeout(20)
        for number in range(1, 5):
            refused = number in (2, 3)
            if number > 1:  # by then it is no longer root, for whom no limit holds
                running.limit(none=refused)
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    channel.send(Fork(number, "w"), (theirs.fileno(),))
                answer = next_record(channel)
                assert isinstance(answer, NotForked if refused else Forked)
                assert answer.number == number
                if isinstance(answer, Forked):
                    ours.close()  # it has nothing to serve then
                    assert next_record(channel) == Exited(answer.pid, 0)
                elif isinstance(answer, NotForked):
                    assert answer.reason
                    ours.settimeout(5)
                    assert ours.recv(1) == b""  # nobody holds the other end


def test_one_that_is_started_anew_takes_no_module_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a service the working directory is /. A sandbox leaves open what Python has in its path."""
    for name in ("limpet", "logging"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    started = ForkServerProcess()
    try:
        channel: Channel[FromForkServer] = Channel(started.socket, FromForkServer)
        started.socket.settimeout(20)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                channel.send(Fork(1, "w"), (theirs.fileno(),))
            assert isinstance(next_record(channel), Forked)
        assert not (tmp_path / "imported").exists()
    finally:
        started.close()


class Dripping:
    """A fork server whose checker sends a byte now and then, and never a whole answer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._drip)

    def fork(self, name: str, task: object, end: socket.socket) -> int:
        del name, task
        self._end = end.dup()
        self._thread.start()
        return 1

    def _drip(self) -> None:
        with self._end, contextlib.suppress(OSError):
            for byte in self._data:
                self._end.send(bytes([byte]))
                if self._over.wait(0.5):
                    return

    def close(self) -> None:
        self._over.set()
        self._thread.join()


def test_a_checker_that_never_ends_its_answer_is_not_waited_for(tmp_path: Path) -> None:
    dripping = Dripping(b"\xff\xff\0\0" + b"x" * 10_000)
    forks: Forks = dripping  # type: ignore[assignment]
    answers: list[tuple[object, str]] = []
    with selectors.DefaultSelector() as selector:
        helpers = Helpers(selector, forks)
        try:
            task = Check(*to_check(configured(tmp_path), {}))
            helpers.start("check", task, Checked, 1.2, lambda *answer: answers.append(answer))
            while not answers:
                for key, _ in selector.select(0.1):
                    key.data()
                helpers.tend(time.monotonic())
        finally:
            dripping.close()
            helpers.close()
    assert answers == [(None, "it took too long")]


def test_a_worker_that_cannot_be_forked_is_started_later_and_the_others_go_on(tmp_path: Path) -> None:
    wanted = configured(tmp_path)
    with launched() as running:
        process: ForkServerProcess = running  # type: ignore[assignment]
        crew = Crew(process)
        try:
            crew.run(wanted)
            before = crew.fleet.pids()
            running.limit(none=True)
            os.kill(before["worker one"], signal.SIGKILL)
            crew.turn_until(lambda: any("could not be started" in reason for reason in crew.crashes("a")))
            assert crew.fleet.pids()["worker two"] == before["worker two"]
            assert crew.fleet.pids()["fork server"] == before["fork server"]
            del crew.said[:]
            running.limit(none=False)
            crew.turn_until(lambda: "running" in crew.states("a"))
            assert crew.fleet.pids()["worker two"] == before["worker two"]
            assert not crew.crashes("b")
        finally:
            crew.close()
