"""A reader that hostile roots have taken over: what it can have the supervisor write."""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING, Any

import pytest

from limpet.config import build
from limpet.contracts.trust import TrustReport
from limpet.supervision.helpers import Helpers
from limpet.supervision.roots import LARGEST_PAYLOAD, Roots
from limpet.wire.channel import Channel
from limpet.wire.fork_records import NewRoot, RootsRead

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

NOW = RootsRead(TrustReport(models="signed", root=2))


class Forks:
    """A fork server whose readers are in this test."""

    def __init__(self) -> None:
        self.tasks: list[Any] = []
        self.ends: list[Channel[Any]] = []

    def fork(self, name: str, task: object, end: socket.socket) -> int:
        del name
        self.tasks.append(task)
        self.ends.append(Channel(end.dup(), RootsRead))
        return len(self.ends)


class Supervisor:
    """A device with root 2 in force."""

    def __init__(self, folder: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.forks = Forks()
        self.helpers = Helpers(self.selector, self.forks)  # type: ignore[arg-type]
        self.roots = Roots(self.helpers)
        self.taken: list[int] = []
        self.refused: list[str] = []
        self.folder = folder / "state/trust"
        self.folder.mkdir(parents=True)
        (self.folder / "2.root.json").write_bytes(b"the second")
        tables = {"device": {"id": "d", "state": "state"}, "trust": {"root": "root.json"}}
        self.roots.use(build({**tables, **PIPELINE}, folder), self)
        self.answer(0, NOW)

    def root_taken(self, version: int) -> None:
        self.taken.append(version)

    def root_refused(self, reason: str) -> None:
        self.refused.append(reason)

    def answer(self, reader: int, record: RootsRead) -> None:
        self.forks.ends[reader].send(record)
        for key, _ in self.selector.select(0):
            key.data()

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


PIPELINE = {
    "sources": {"s": {"kind": "replay", "path": "r.csv"}},
    "pipelines": {"p": {"source": "s", "model": "m"}},
}


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    made.helpers.close()
    made.selector.close()
    for end in made.forks.ends:
        end.close()


@pytest.mark.parametrize("versions", [[2], [1], [4], [3, 5], [3, 3], [1 << 31], [2, 3]])
def test_attack_a_taken_over_reader_replaces_no_root_and_skips_none(
    supervisor: Supervisor, versions: list[int]
) -> None:
    supervisor.roots.take(b"[hostile]")
    lie = TrustReport(models="signed", root=99)
    supervisor.answer(1, RootsRead(lie, [NewRoot(version, b"forged") for version in versions]))
    assert supervisor.files() == {"2.root.json": b"the second"}
    assert "do not follow root 2" in supervisor.refused[0]
    assert supervisor.roots.report.root == 2
    assert supervisor.taken == []


def test_what_is_trusted_is_found_out_by_another_reader_after_a_new_root(supervisor: Supervisor) -> None:
    supervisor.roots.take(b"[roots]")
    lie = TrustReport(models="signed", root=99, problem="none at all")
    supervisor.answer(1, RootsRead(lie, [NewRoot(3, b"the third")]))
    assert supervisor.files() == {"2.root.json": b"the second", "3.root.json": b"the third"}
    assert supervisor.taken == [3]
    assert supervisor.forks.tasks[2].payload == b""
    supervisor.answer(2, RootsRead(TrustReport(models="signed", root=2, problem="3.root.json is damaged")))
    assert supervisor.roots.report.root == 2


def test_roots_that_come_before_it_is_known_what_is_trusted_wait(supervisor: Supervisor) -> None:
    supervisor.roots.take(b"[roots]")
    supervisor.answer(1, RootsRead(TrustReport(models="signed"), [NewRoot(3, b"the third")]))
    supervisor.roots.take(b"[more]")
    assert [task.payload for task in supervisor.forks.tasks] == [b"", b"[roots]", b""]
    supervisor.answer(2, RootsRead(TrustReport(models="signed", root=3)))
    assert supervisor.forks.tasks[3].payload == b"[more]"


def test_too_many_bytes_are_not_read(supervisor: Supervisor) -> None:
    supervisor.roots.take(b" " * (LARGEST_PAYLOAD + 1))
    assert "at most" in supervisor.refused[0]
    assert len(supervisor.forks.tasks) == 1
