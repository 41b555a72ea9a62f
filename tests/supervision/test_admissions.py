"""Candidates are tried one after the other. However a trial ends, there is one outcome, in words."""

from __future__ import annotations

import selectors
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from limpet.contracts.assignment import (
    Assignment,
    Folders,
    ModelFile,
    PipelineAssignment,
    PipelineOptions,
    SourceTable,
)
from limpet.supervision.admissions import Admissions, last_lines
from limpet.supervision.helpers import Helpers
from limpet.supervision.update_files import delete_admissions
from limpet.updates.stimuli import Admitted, NotAdmitted
from limpet.wire.channel import Channel
from limpet.wire.fork_records import Admit, CheckStep, Verdict

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

MODEL = ModelFile(Path("/store/motion-2.limpet"), "motion", 2, "a" * 64)


class Forks:
    """A fork server whose processes are ends of sockets in this test. Their ids lead to no process."""

    def __init__(self) -> None:
        self.tasks: list[Admit] = []
        self.ends: list[Channel[object]] = []

    def fork(self, name: str, task: Admit, end: socket.socket) -> int:
        assert name == task.pipeline
        self.tasks.append(task)
        self.ends.append(Channel(end.dup(), Verdict))
        return len(self.ends)


class Desk:
    """Admissions, and the outcomes that came by pipeline."""

    def __init__(self, folder: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.forks = Forks()
        self.helpers = Helpers(self.selector, self.forks)  # type: ignore[arg-type]
        self.admissions = Admissions(self.helpers)
        self.outcomes: dict[str, Any] = {}
        options = PipelineOptions(opening=7.0, deadline=3.0)
        pipelines = {name: PipelineAssignment(name, ("s",), MODEL, options) for name in "abc"}
        folders = Folders(folder, folder / "state", folder / "store", folder / "memory")
        self.cell = Assignment("s", folders, {"s": SourceTable("replay", {})}, pipelines, {})

    def start(self, pipeline: str) -> None:
        self.admissions.start(self.cell, pipeline, MODEL, lambda *said: self.outcomes.update({pipeline: said}))

    def send(self, record: CheckStep | Verdict, number: int = 0) -> None:
        self.forks.ends[number].send(record)
        for key, _ in self.selector.select(0):
            key.data()

    def exited(self, status: int) -> None:
        self.helpers.forked(len(self.forks.ends), 999_999_999)
        self.helpers.exited(999_999_999, status)

    def reason(self, pipeline: str = "a") -> str:
        outcome, verdict = self.outcomes[pipeline]
        assert isinstance(outcome, NotAdmitted)
        assert verdict is None
        return outcome.reason


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.helpers.close()
    made.selector.close()
    for end in made.forks.ends:
        end.close()


def test_a_verdict_is_passed_on_and_what_was_written_is_deleted(desk: Desk) -> None:
    desk.start("a")
    (task,) = desk.forks.tasks
    (task.folder / "cache").mkdir()
    in_memory = task.assignment.folders.memory
    assert in_memory is not None
    in_memory.mkdir(parents=True)
    desk.send(CheckStep("load"))
    assert desk.outcomes == {}
    verdict = Verdict(delegate="cpu", load_s=0.5, latency_p95_us=1500, memory_bytes=2_000_000, notes=["a\nb"])
    desk.send(verdict)
    outcome, passed = desk.outcomes["a"]
    assert isinstance(outcome, Admitted)
    assert (
        outcome.figures == "On 'cpu', 95 of 100 windows take up to 1.5 ms. It loads in 0.5 s and takes 2 MB. A b."
    )
    assert passed == verdict
    assert not task.folder.parent.parent.exists()
    assert not in_memory.exists()


def test_a_process_is_given_the_candidate_and_a_folder_apart_from_the_state(desk: Desk, tmp_path: Path) -> None:
    desk.start("b")
    (task,) = desk.forks.tasks
    assert task.pipeline == "b"
    assert list(task.assignment.pipelines) == ["b"]
    assert task.assignment.pipelines["b"].model is MODEL
    assert task.assignment.models == {"b": (MODEL.path,)}
    assert task.assignment.folders.state == task.folder
    assert tmp_path / "state" / "cache" in task.folder.parents
    assert task.folder not in task.output.parents


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGSEGV, "the runtime crashed (SIGSEGV) while the golden vectors ran"),
        (
            signal.SIGKILL,
            "the kernel killed the process (SIGKILL), as it does if memory runs out, while the golden",
        ),
        (signal.SIGXCPU, "the model used too much CPU time (SIGXCPU) while the golden vectors ran"),
        (signal.SIGABRT, "the runtime gave up (SIGABRT), as for lack of memory while the golden vectors ran"),
    ],
)
def test_a_process_that_ends_without_a_verdict_refuses_the_model_in_words(
    number: signal.Signals, words: str, desk: Desk
) -> None:
    desk.start("a")
    desk.send(CheckStep("golden"))
    desk.exited(-number)
    assert desk.reason().startswith(f"Admission failed: {words}")
    assert desk.outcomes["a"][0].final == (number != signal.SIGKILL)


def test_a_process_that_ends_as_if_all_were_well_refuses_the_model(desk: Desk) -> None:
    desk.start("a")
    desk.send(CheckStep("plan"))
    desk.exited(0)
    assert desk.reason() == "Admission failed: ended with exit status 0 while the bundle was read."
    assert desk.outcomes["a"][0].final


def test_a_process_that_never_began_says_nothing_about_the_model(desk: Desk) -> None:
    desk.start("a")
    desk.helpers.not_forked(1, "Cannot allocate memory")
    assert "it could not be started: Cannot allocate memory" in desk.reason()
    assert not desk.outcomes["a"][0].final


def test_a_problem_of_the_device_is_not_final(desk: Desk) -> None:
    desk.start("a")
    desk.send(Verdict(problem="no space left", passing=True))
    assert desk.outcomes["a"][0] == NotAdmitted("Admission failed: no space left.", final=False)


def test_each_step_has_its_time(desk: Desk) -> None:
    desk.start("a")
    desk.send(CheckStep("window"))
    due = desk.helpers.next_due()
    assert due is not None
    desk.helpers.tend(due - 0.1)
    assert desk.outcomes == {}
    desk.helpers.tend(due)
    assert desk.reason() == "Admission failed: nothing happened for 3 s while one window ran."


def test_a_process_that_reports_steps_without_end_is_ended(desk: Desk) -> None:
    desk.start("a")
    for _ in range(100):
        if desk.outcomes:
            break
        desk.send(CheckStep("load"))
    assert "too many steps" in desk.reason()


def test_what_the_runtime_printed_last_is_in_the_reason(desk: Desk) -> None:
    desk.start("a")
    (task,) = desk.forks.tasks
    task.output.write_bytes(b"x" * 10_000 + b"\n\nINFO: Created\n\x1b[31mout of\tarena\xff\nlast words\n")
    desk.exited(-signal.SIGABRT)
    assert desk.reason().endswith("out of arena� | last words.")
    assert desk.reason().isprintable()
    assert len(desk.reason()) < 1000


def test_output_that_is_no_plain_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "output").symlink_to(tmp_path / "secret")
    assert last_lines(tmp_path / "output") == ""
    assert last_lines(tmp_path) == ""
    assert last_lines(tmp_path / "absent") == ""


def test_what_a_crash_left_behind_is_deleted(tmp_path: Path) -> None:
    left = [tmp_path / place / "cache" / "admission" / "p" / "work" for place in ("state", "memory")]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "model").write_bytes(b"x")
    (tmp_path / "state" / "kept").touch()
    delete_admissions(Folders(tmp_path, tmp_path / "state", tmp_path / "store", tmp_path / "memory"))
    assert not any(folder.parent.parent.exists() for folder in left)
    assert (tmp_path / "state" / "kept").exists()
    delete_admissions(Folders(tmp_path, tmp_path / "state", tmp_path / "store"))


def test_one_candidate_is_tried_at_a_time(desk: Desk) -> None:
    for name in "abc":
        desk.start(name)
    assert [task.pipeline for task in desk.forks.tasks] == ["a"]
    desk.admissions.stop("b")
    assert desk.forks.tasks[0].folder.exists()
    desk.send(Verdict(problem="it is wrong"))
    assert desk.outcomes["a"][0] == NotAdmitted("Admission failed: it is wrong.")
    assert [task.pipeline for task in desk.forks.tasks] == ["a", "c"]
    desk.send(Verdict(), 1)
    assert isinstance(desk.outcomes["c"][0], Admitted)
    assert "b" not in desk.outcomes


def test_a_trial_that_is_given_up_ends_and_makes_room_for_the_next(desk: Desk) -> None:
    desk.start("a")
    desk.start("b")
    desk.admissions.stop("a")
    assert [task.pipeline for task in desk.forks.tasks] == ["a", "b"]
    desk.send(Verdict(), 1)
    assert list(desk.outcomes) == ["b"]
