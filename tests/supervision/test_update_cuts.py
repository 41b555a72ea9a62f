"""Updates on a real disk: a process that follows the rules is killed at each of its file operations.

The process has the daemon's own code for files. What other processes do is played: a download is written, and an
examination hashes what is there. A profiler ends the process before a call, so nothing after that instant is done.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from limpet.models import deployed
from limpet.supervision.update_files import PART, UpdateFiles
from limpet.updates import machine
from limpet.updates.facts import Facts
from limpet.updates.instructions import Admit, CleanUp, Fetch, Place, Stop, Verify
from limpet.updates.schedule import Disk
from limpet.updates.selection import selection
from limpet.updates.state import Deployed, Update, on_disk
from limpet.updates.stimuli import (
    Accepted,
    Admitted,
    Booted,
    Fetched,
    NotPlaced,
    NotVerified,
    Ordered,
    Placed,
    Tick,
    TookOver,
    Verified,
    Wanted,
)
from support.update_world import request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.updates.instructions import Instruction
    from limpet.updates.state import Updates
    from limpet.updates.stimuli import Stimulus

KILLED, DONE, WRONG = 9, 0, 1
WATCHED = {"write", "fsync", "replace", "unlink", "rmdir", "mkdir"}


def content(version: int) -> bytes:
    return bytes([version]) * 100_000


def bundle(version: int) -> Deployed:
    data = content(version)
    sha256 = hashlib.sha256(data).hexdigest()
    return Deployed(model="m", version=version, sha256=sha256, file_sha256=sha256, length=len(data))


class Shell:
    """Follows the rules with real files. Whatever other processes would answer is there at once."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.files = UpdateFiles(state)
        self.updates: Updates = deployed.kept(state, pytest.fail).updates
        self.happens: deque[Stimulus] = deque([Booted()])

    @property
    def update(self) -> Update:
        return self.updates.pipelines.get("p") or Update(pipeline="p")

    def run(self) -> None:
        while self.happens:
            self.step(self.happens.popleft())

    def want(self, version: int) -> None:
        form = request(bundle(version), policy={"trial_windows": 1})
        self.happens.append(Wanted(desired=b"%d" % version, request=form))
        self.run()

    def step(self, stimulus: Stimulus) -> None:
        facts = Facts(now=1.8e9, steady=0.0, disk=Disk(bound=1_000_000, free=1_000_000))
        applied = machine.apply(self.updates, "p", stimulus, facts)
        if on_disk(applied.updates) != on_disk(self.updates):
            deployed.write(self.state, on_disk(applied.updates))
        self.updates = applied.updates
        for instruction in applied.instructions:
            self.follow(instruction)
        if self.update.stage == "trial" and not self.happens and self.update.candidate is not None:
            one = self.update.candidate
            self.happens.extend([TookOver(one.sha256), Accepted(one.model, one.version, 1)])
        if machine.due(self.update, facts) == 0.0:
            self.happens.append(Tick())

    def follow(self, instruction: Instruction) -> None:
        match instruction:
            case Fetch(wanted):
                self.download(self.files.resume_download("p") / PART, content(versions(wanted.version)))
                self.happens.append(Fetched())
            case Verify(wanted):
                whole = self.files.whole("p")
                data = whole.read_bytes() if whole is not None else b""
                right = hashlib.sha256(data).hexdigest() == wanted.sha256
                found = bundle(versions(wanted.version))
                self.happens.append(Verified(found) if right else NotVerified("It is another file."))
            case Place(placed):
                try:
                    self.files.place("p", placed)
                except OSError as error:
                    self.happens.append(NotPlaced(str(error)))
                else:
                    self.happens.append(Placed())
            case Admit():
                self.happens.append(Admitted())
            case CleanUp():
                self.files.delete_download("p")
                self.files.prune(self.updates.deployed)
            case Stop():
                self.happens.clear()

    def download(self, part: Path, data: bytes) -> None:
        """Write what a deployer would, after what is there of it."""
        there = part.stat().st_size if part.exists() else 0
        for end in range(there, len(data), 50_000):
            with part.open("ab") as file:
                file.write(data[end : end + 50_000])


def versions(version: object) -> int:
    assert isinstance(version, int)
    return version


def forked(state: Path, kill_at: int | None) -> int:
    """Install version 2 in a process of its own, roll back and forth, and end at file operation ``kill_at``."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        if kill_at is not None:
            kill_after(kill_at)
        shell = Shell(state)
        shell.run()
        if shell.update.request is None or shell.update.request.version != 2:
            shell.want(2)
        os._exit(DONE if shell.update.good == bundle(2) else WRONG)
    finally:
        os._exit(WRONG)


def kill_after(operations: int) -> None:
    left = operations

    def count(_: object, event: str, function: object) -> None:
        nonlocal left
        if event == "c_call" and getattr(function, "__name__", "") in WATCHED:
            left -= 1
            if left < 0:
                os._exit(KILLED)

    sys.setprofile(count)


def check(state: Path) -> None:
    """A model that works can be run, and everything that can be selected is whole."""
    update = deployed.read(state, pytest.fail).pipelines["p"]
    chosen = [one for one in selection(update) if one is not None]
    assert bundle(1) in chosen
    for one in chosen:
        path = state / "deployed" / one.file
        assert hashlib.sha256(path.read_bytes()).hexdigest() == one.file_sha256


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory whose pipeline has version 1 as its good model."""
    shell = Shell(tmp_path)
    shell.run()
    shell.want(1)
    assert shell.update.good == bundle(1)
    return tmp_path


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if there is one: a process that is killed loses nothing of either kind."""
    memory = Path("/dev/shm")  # noqa: S108 - fsync is free there
    if not os.access(memory, os.W_OK):
        yield tmp_path / "work"
        return
    with TemporaryDirectory(prefix="limpet-cuts-", dir=memory) as folder:
        yield Path(folder)


def copied(state: Path, to: Path) -> Path:
    (to / "deployed").mkdir(parents=True)
    for path in (state / "updates.json", *(state / "deployed").iterdir()):
        (to / path.relative_to(state)).write_bytes(path.read_bytes())
    return to


def test_a_process_that_is_killed_at_any_file_operation_leaves_a_model_that_works_and_ends_the_update(
    state: Path, work: Path
) -> None:
    outcome, at = KILLED, 0
    while outcome == KILLED:
        device = copied(state, work / str(at))
        outcome = forked(device, at)
        check(device)
        if outcome == KILLED:
            if at % 5 == 0:  # It is killed once more, somewhere else.
                forked(device, at // 2)
                check(device)
            assert forked(device, None) == DONE
            check(device)
        assert sorted(path.name for path in (device / "deployed").iterdir()) == ["m-1.limpet", "m-2.limpet"]
        assert not list((device / "downloads").glob("*/*"))
        at += 1
    assert outcome == DONE
    assert at > 30


def test_a_rollback_needs_no_other_file_and_survives_a_restart(state: Path) -> None:
    assert forked(state, None) == DONE
    for good in (1, 2):
        shell = Shell(state)
        shell.run()
        before = sorted(path.name for path in (state / "deployed").iterdir())
        shell.step(Ordered("rollback", "console"))
        assert Shell(state).update.good == bundle(good)
        assert sorted(path.name for path in (state / "deployed").iterdir()) == before
