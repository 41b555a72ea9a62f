"""A fork server that rests: another program waits in its place, and no request, end or descriptor is lost."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from limpet.fork import resting
from limpet.fork.launch import ForkServerProcess
from limpet.wire.channel import LENGTH, Channel
from limpet.wire.fork_records import Exited, Fork, Forked, FromForkServer, Preload, Rest
from support.broker import wait_until
from support.crew import Crew, configured
from support.resting import rests

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@dataclass
class Supervisor:
    """The other end of a fork server, and an open socket of each worker, so that the workers wait."""

    process: ForkServerProcess
    ends: list[socket.socket] = field(default_factory=list)
    received: list[FromForkServer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pid = self.process.pid
        self.process.socket.settimeout(20)
        self._channel: Channel[FromForkServer] = Channel(self.process.socket, FromForkServer)

    def fork(self, number: int) -> None:
        """Request a process."""
        ours, theirs = socket.socketpair()
        self.ends.append(ours)
        with theirs:
            self._channel.send(Fork(number, "w"), (theirs.fileno(),))

    def forked(self, number: int) -> int:
        """Request a process, and return its id."""
        self.fork(number)
        record = self.next()
        assert isinstance(record, Forked)
        assert record.number == number
        return record.pid

    def preload(self, *modules: str) -> None:
        """Request modules."""
        self._channel.send(Preload(list(modules)))

    def request_rest(self) -> None:
        """Request a rest, and do not wait for it."""
        self._channel.send(Rest())

    def rest(self) -> None:
        """Request a rest, and wait for it."""
        self.request_rest()
        wait_until(lambda: rests(self.pid))

    def next(self) -> FromForkServer:
        """Return the next record."""
        while not self.received:
            self.received += self._channel.receive()
        return self.received.pop(0)

    def close(self) -> None:
        """End all."""
        self.process.close()
        for end in self.ends:
            end.close()


@contextmanager
def supervisor() -> Iterator[Supervisor]:
    one = Supervisor(ForkServerProcess())
    try:
        yield one
    finally:
        one.close()


def files(pid: int) -> list[str]:
    """Return what a process has open, without numbers that differ from one socket to the next."""
    return sorted(file.readlink().name.partition("[")[0] for file in Path(f"/proc/{pid}/fd").iterdir())


def is_gone(pid: int) -> bool:
    """Whether a process has ended; it may not have been waited for."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


@given(pid=st.integers(1, 1 << 22), status=st.integers(-64, 255))
def test_the_end_of_a_worker_is_reported_as_the_fork_server_would(pid: int, status: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(resting.exited(pid, status))
        channel: Channel[FromForkServer] = Channel(theirs, FromForkServer)
        assert list(channel.receive()) == [Exited(pid, status)]
        assert channel.drained


def test_it_forks_again_after_a_rest_and_its_workers_are_still_its_own() -> None:
    with supervisor() as one:
        first = one.forked(1)
        before = files(one.pid)
        for number in (2, 3):
            one.rest()
            assert Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1] == str(one.pid)
            assert "numpy" not in Path(f"/proc/{one.pid}/maps").read_text()
            worker = one.forked(number)
            assert not rests(one.pid)
            assert files(one.pid) == before  # descriptors do not add up
            one.ends.pop().close()  # it has nothing to serve then
            assert one.next() == Exited(worker, 0)
        os.kill(first, signal.SIGKILL)
        assert one.next() == Exited(first, -signal.SIGKILL)


def test_a_worker_that_ends_during_a_rest_is_reported_once_and_the_others_stay_known() -> None:
    with supervisor() as one:
        pids = [one.forked(number) for number in (1, 2, 3)]
        one.rest()
        os.kill(pids[0], signal.SIGSEGV)
        assert one.next() == Exited(pids[0], -signal.SIGSEGV)
        one.ends[1].close()
        assert one.next() == Exited(pids[1], 0)
        assert rests(one.pid)
        one.preload()
        wait_until(lambda: not rests(one.pid))
        os.kill(pids[2], signal.SIGKILL)
        assert one.next() == Exited(pids[2], -signal.SIGKILL)
        assert isinstance(one.forked(4), int)
        assert not one.received


def test_what_happens_at_the_moment_of_a_rest_is_not_lost() -> None:
    with supervisor() as one:
        worker = one.forked(1)
        for number, delay in enumerate((0.0, 0.0, 0.001, 0.005, 0.01, 0.02, 0.03, 0.05), start=2):
            one.request_rest()
            time.sleep(delay)
            if number % 2:
                os.kill(worker, signal.SIGKILL)
                one.fork(number)
            else:
                one.fork(number)
                os.kill(worker, signal.SIGKILL)
            records = sorted((one.next(), one.next()), key=lambda record: type(record).__name__)
            assert records[0] == Exited(worker, -signal.SIGKILL)
            assert isinstance(records[1], Forked)
            assert records[1].number == number
            worker = records[1].pid


def test_a_rest_is_forgone_if_another_request_came_with_it() -> None:
    with supervisor() as one:
        one.forked(1)
        one.process.socket.sendall(b"".join(_encoded(record) for record in (Rest(), Preload(["colorsys"]))))
        one.forked(2)
        assert not rests(one.pid)


def _encoded(record: Rest | Preload) -> bytes:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return Channel[FromForkServer](ours, FromForkServer).encode(record)


def test_a_part_of_a_record_is_not_lost() -> None:
    with supervisor() as one:
        one.forked(1)
        rest, preload = _encoded(Rest()), _encoded(Preload(["colorsys"]))
        for cut in (1, LENGTH.size, len(preload) - 1):
            one.process.socket.sendall(rest + preload[:cut])
            time.sleep(0.02)
            one.process.socket.sendall(preload[cut:])
            assert one.forked(2 + cut)


def test_modules_are_imported_again_after_a_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counted.py").write_text(f"import os\nopen(f'{tmp_path}/{{os.getpid()}}', 'a').write('x')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with supervisor() as one:
        one.preload("counted", "missing.module")
        for count in (1, 2, 3):
            one.forked(count)
            assert (tmp_path / str(one.pid)).read_text() == "x" * count
            one.rest()


def test_no_process_has_a_secret_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/somewhere")
    with supervisor() as one:
        one.forked(1)
        one.rest()
        assert b"CREDENTIALS" not in Path(f"/proc/{one.pid}/environ").read_bytes()
        worker = one.forked(2)
        for pid in (one.pid, worker):
            assert b"CREDENTIALS" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_no_module_is_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("limpet", "logging", "os", "select"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    with supervisor() as one:
        one.rest()
        one.forked(1)
    assert not (tmp_path / "imported").exists()


def test_it_stays_as_it_is_if_it_cannot_rest(capfd: pytest.CaptureFixture[str]) -> None:
    with supervisor() as one:
        worker = one.forked(1)
        limits = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (3, limits[1]))  # no descriptor for a worker
        one.request_rest()
        said: list[str] = []
        wait_until(lambda: said.append(capfd.readouterr().err) or "cannot rest" in "".join(said))
        assert not rests(one.pid)
        resource.prlimit(one.pid, resource.RLIMIT_NOFILE, limits)
        os.kill(worker, signal.SIGKILL)
        assert one.next() == Exited(worker, -signal.SIGKILL)
        assert one.forked(2)


def test_a_fork_server_that_cannot_be_started_again_is_tried_again_and_its_workers_live(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    program, missing = Path(resting.__file__), tmp_path / "missing"
    with ours, theirs:
        arguments = [sys.executable, "-S", program, str(theirs.fileno()), "", missing]
        pipe = subprocess.PIPE
        with subprocess.Popen(arguments, pass_fds=[theirs.fileno()], stdout=pipe, stderr=pipe) as process:
            theirs.close()
            assert process.stderr
            ours.sendall(b"x")
            assert b"cannot start" in process.stderr.readline()
            assert process.poll() is None
            missing.symlink_to("/bin/pwd")  # a program that prints a line and ends
            assert process.wait(20) == 0
            assert process.stdout
            assert process.stdout.read()


def test_it_ends_without_the_fork_server_if_the_supervisor_is_gone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arguments = [sys.executable, "-S", resting.__file__, str(theirs.fileno()), "", "/missing"]
        with subprocess.Popen(arguments, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as process:
            ours.close()
            assert process.communicate(timeout=20) == (None, b"")
            assert process.returncode == 0


SUPERVISOR = """
import sys
from fork.test_resting import supervisor
with supervisor() as one:
    worker = one.forked(1)
    one.rest()
    print(one.pid, worker, flush=True)
    sys.stdin.read()
"""


def test_all_die_with_the_supervisor_during_a_rest() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2
        process.kill()
        wait_until(lambda: all(map(is_gone, pids)))


def test_a_fleet_has_its_fork_server_rest_and_replaces_what_is_killed(tmp_path: Path) -> None:
    crew = Crew(ForkServerProcess(), rest_after=0.1)
    try:
        crew.run(configured(tmp_path))
        before = crew.fleet.pids()
        crew.turn_until(lambda: rests(before["fork server"]))

        os.kill(before["worker one"], signal.SIGKILL)
        del crew.said[:]
        crew.turn_until(lambda: "running" in crew.states("a"))
        after = crew.fleet.pids()
        assert "SIGKILL" in crew.crashes("a")[0]
        assert after["worker one"] != before["worker one"]
        assert after["worker two"] == before["worker two"]
        assert after["fork server"] == before["fork server"]

        crew.turn_until(lambda: rests(after["fork server"]))
        del crew.said[:]
        os.kill(after["fork server"], signal.SIGKILL)
        crew.turn_until(lambda: "running" in crew.states("a") and "running" in crew.states("b"))
        replaced = crew.fleet.pids()
        assert all(replaced[name] != after[name] for name in after)
        assert "its fork server is gone" in crew.crashes("b")[0]
        crew.turn_until(lambda: rests(replaced["fork server"]))
        crew.fleet.stop()
        assert rests(replaced["fork server"])  # it imports nothing in order to end
        assert not [name for name in crew.fleet.pids() if "worker" in name]
    finally:
        crew.close()
