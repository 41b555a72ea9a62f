"""A candidate is tried in its own process. What is wrong with it is a sentence, and ends that process alone."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from limpet.accelerators.delegate_kinds import resolve
from limpet.config import build
from limpet.deployment.assignments import assignments
from limpet.deployment.desired import desired
from limpet.deployment.local import examined, look_up
from limpet.device.directories import admissions
from limpet.fork.launch import ForkServerProcess
from limpet.updates.stimuli import Admitted, NotAdmitted
from limpet.wire.channel import Channel
from limpet.wire.fork_records import Admit, Exited, Fork, FromForkServer
from limpet.worker.candidate_check import why_not_tried
from support import bad_models, models
from support.crew import Crew, configured
from support.delegate import build as build_delegate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.contracts.assignment import Assignment
    from limpet.wire.fork_records import Verdict


class Desk:
    """Tries candidates for the pipeline ``p``, which runs the model that gives back its number."""

    def __init__(self, folder: Path, crew: Crew) -> None:
        self.folder = folder
        self.crew = crew
        self.options: dict[str, Any] = {"opening": 20.0}
        self.delegates: dict[str, Any] = {}
        (folder / "recording.csv").write_text("n\n1\n")
        bad_models.good(folder)

    def cell(self) -> Assignment:
        source = {"kind": "replay", "path": "recording.csv", "rate": 50}
        tables = {
            "device": {"id": "d", "state": "state"},
            "sources": {"s": source},
            "pipelines": {"p": {"source": "s", "model": "number-1.limpet", **self.options}},
            "jsonl": {},
            "delegates": self.delegates,
        }
        config = build(tables, self.folder)
        (cell,) = assignments(desired(config, look_up(config))).values()
        return cell

    def try_(self, path: Path) -> tuple[str, Verdict | None]:
        """Return why a model is not admitted, empty if it is; and the figures. It passes the examination."""
        said: list[tuple[Admitted | NotAdmitted, Verdict | None]] = []
        assert examined(path).problem == ""
        self.crew.fleet.admissions.start(
            self.cell(), "p", examined(path).file, lambda *outcome: said.append(outcome)
        )
        self.crew.turn_until(lambda: said)
        ((outcome, verdict),) = said
        assert not admissions(self.folder / "state").exists()
        return outcome.reason if isinstance(outcome, NotAdmitted) else "", verdict

    def task(self, bad: str, seconds: int) -> Admit:
        """Return the task of trying a bad model, with its folder."""
        path = bad_models.bad(self.folder, bad, 2)
        cell, folder = self.cell(), self.folder / "trial"
        folder.mkdir()
        one = replace(cell.pipelines["p"], model=examined(path).file)
        folders = replace(cell.folders, state=folder)
        tried = replace(cell, folders=folders, pipelines={"p": one}, models={"p": (path,)})
        return Admit(tried, "p", folder, self.folder / "output", seconds)


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """One fork server for all tests, with the modules of a check in memory: no candidate harms it."""
    made = Crew(ForkServerProcess())
    made.prepare(configured(tmp_path_factory.mktemp("prepared")))
    yield made
    made.close()


@pytest.fixture
def desk(tmp_path: Path, crew: Crew) -> Desk:
    return Desk(tmp_path, crew)


def test_a_sound_model_is_admitted_with_its_figures(desk: Desk) -> None:
    problem, verdict = desk.try_(bad_models.good(desk.folder, 2))
    assert problem == ""
    assert verdict is not None
    assert (verdict.delegate, verdict.golden_error, verdict.notes, verdict.passing) == ("cpu", 0.0, [], False)
    assert verdict.load_s > 0
    assert 0 < verdict.latency_p50_us <= verdict.latency_p95_us
    assert verdict.windows >= 5
    assert verdict.memory_bytes > 0


REASONS = {
    "segfault": "the runtime crashed (SIGSEGV) while the model was loaded",
    "hang": "nothing happened for 0.5 s while one window ran",
    "memory": "memory",
    "wrong answers": "wrong outputs for its golden vectors: off by 5, 0 is allowed",
    "wrong shape": "the model's input 'input' has shape [1, 3], but its source, window and transforms give [1, 1]",
}


@pytest.mark.parametrize("what", bad_models.BAD)
def test_a_bad_model_is_refused_in_a_sentence(what: str, desk: Desk) -> None:
    if what == "hang":
        desk.options["deadline"] = 0.5
    problem, _ = desk.try_(bad_models.bad(desk.folder, what, 2))
    assert REASONS[what] in problem
    problem, _ = desk.try_(bad_models.good(desk.folder, 3))
    assert problem == ""


def test_a_model_without_golden_vectors_is_admitted_with_a_note(desk: Desk) -> None:
    problem, verdict = desk.try_(bad_models.write(desk.folder, "number", 2, bad_models.plus_five))
    assert problem == ""
    assert verdict is not None
    assert verdict.notes == ["the outputs were not checked: the bundle has no golden vectors"]
    assert verdict.golden_error is None


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"latency_ms": 1e-6}, "its manifest allows 1e-06 ms"),
        ({"memory_bytes": 1000}, "its manifest allows 1000"),
        ({"load_seconds": 1e-9}, "its manifest allows 1e-09 s"),
    ],
)
def test_a_model_over_the_limits_of_its_manifest_is_refused(
    limits: dict[str, Any], reason: str, desk: Desk
) -> None:
    problem, verdict = desk.try_(bad_models.good(desk.folder, 2, limits=limits))
    assert reason in problem
    assert verdict is not None
    assert verdict.windows >= 5


def test_memory_that_a_model_takes_only_for_a_while_counts(desk: Desk) -> None:
    path = bad_models.write(desk.folder, "number", 2, lambda path: models.hungry(path, tensors=2, rows=128))
    _, verdict = desk.try_(path)
    assert verdict is not None
    assert verdict.memory_bytes > 2 * 128 * (1 << 15)


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_model(desk: Desk) -> None:
    said: list[Any] = []
    path = bad_models.good(desk.folder, 2)
    cell = desk.cell()
    (desk.folder / "file").touch()
    cell = replace(cell, folders=replace(cell.folders, state=desk.folder / "file"))
    desk.crew.fleet.admissions.start(cell, "p", examined(path).file, lambda outcome, _: said.append(outcome))
    desk.crew.turn_until(lambda: said)
    assert "cannot be unpacked" in said[0].reason
    assert not said[0].final


def test_a_candidate_that_is_given_up_is_not_heard_of(desk: Desk) -> None:
    said: list[str] = []
    admissions, cell = desk.crew.fleet.admissions, desk.cell()
    hangs = examined(bad_models.bad(desk.folder, "hang", 2)).file
    admissions.start(cell, "p", hangs, lambda *_: said.append("hangs"))
    admissions.stop("p")
    admissions.start(cell, "p", hangs, lambda *_: said.append("hangs"))
    admissions.start(cell, "p", examined(bad_models.good(desk.folder, 3)).file, lambda *_: said.append("good"))
    desk.crew.turn_until(lambda: said)
    assert said == ["good"]


def test_the_kernel_ends_a_trial_that_takes_too_much_cpu_time(desk: Desk) -> None:
    task = desk.task("hang", seconds=1)
    launched = ForkServerProcess()
    ours, theirs = socket.socketpair()
    try:
        server: Channel[Any] = Channel(launched.socket, FromForkServer)
        launched.socket.settimeout(20)
        server.send(Fork(1, "p", task), (theirs.fileno(),))
        records: list[Any] = []
        while len(records) < 2:
            records += server.receive()
        assert records[1] == Exited(records[0].pid, -signal.SIGXCPU)
    finally:
        launched.close()
        ours.close()
        theirs.close()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_delegate(tmp_path_factory.mktemp("delegate"))


def dense(path: Path) -> Path:
    return models.dense(path, inputs=1, outputs=1, int8=False)


def on_delegate(desk: Desk, library: Path, fault: str, *, require: float = 0.0) -> None:
    desk.options |= {"delegates": ["npu2"], "least_speed": 0.0, "require": require}
    desk.delegates = {"npu2": {"kind": "external", "library": str(library), "options": {"fault": fault}}}


def test_a_model_is_run_on_the_delegate_that_the_pipeline_uses(desk: Desk, library: Path) -> None:
    on_delegate(desk, library, "")
    problem, verdict = desk.try_(bad_models.write(desk.folder, "number", 2, dense, **bad_models.vectors()))
    assert problem == ""
    assert verdict is not None
    assert (verdict.delegate, verdict.golden_error, verdict.notes) == ("npu2", 0.0, [])


CRASHED = (
    "the runtime crashed (SIGSEGV) while a delegate ran the model. "
    "The runtime printed: fault_delegate: crashes in invoke"
)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("crash", CRASHED),
        ("wrong", "delegate 'npu2': wrong numbers: off by"),
    ],
)
def test_a_delegate_that_the_model_breaks_refuses_it(fault: str, reason: str, desk: Desk, library: Path) -> None:
    on_delegate(desk, library, fault)
    problem, _ = desk.try_(bad_models.write(desk.folder, "number", 2, dense, **bad_models.vectors()))
    assert reason in problem


def test_a_delegate_that_does_not_take_the_model_is_noted_unless_it_is_required(desk: Desk, library: Path) -> None:
    on_delegate(desk, library, "init")
    path = bad_models.write(desk.folder, "number", 2, dense, **bad_models.vectors())
    problem, verdict = desk.try_(path)
    assert problem == ""
    assert verdict is not None
    assert verdict.delegate == "cpu"
    assert verdict.notes[0].startswith("'npu2' does not run it:")
    on_delegate(desk, library, "init", require=0.5)
    assert desk.try_(path)[0] != ""


def test_an_accelerator_that_is_not_there_is_noted(desk: Desk, library: Path) -> None:
    desk.options["delegates"] = ["edgetpu"]
    desk.delegates = {"edgetpu": {"kind": "edgetpu", "library": str(library)}}
    problem, verdict = desk.try_(bad_models.good(desk.folder, 2))
    assert problem == ""
    assert verdict is not None
    assert verdict.delegate == "cpu"
    assert verdict.notes[0].startswith("not checked on 'edgetpu': no device for it was found")


def test_an_accelerator_that_one_process_at_a_time_can_have_is_left_to_the_swap() -> None:
    assert why_not_tried(resolve("edgetpu", {}), "").startswith("one process at a time can have it")
    assert why_not_tried(resolve("edgetpu", {}), "it is away") == "it is away"
    assert why_not_tried(resolve("gpu", {}), "") == ""
