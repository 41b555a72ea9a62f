"""Which assignment a pipeline goes back to if its successor fails, or crashes the worker that both are in."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.contracts.assignment import (
    Assignment,
    DelegateTable,
    Folders,
    ModelFile,
    PipelineAssignment,
    PipelineOptions,
    SourceTable,
)
from limpet.errors import UnreadableError
from limpet.supervision.cell_pipelines import LOADING_DEADLINE
from limpet.supervision.instructions import Report, Send, StartExecutor
from limpet.supervision.revisions import MOST_OFFERED
from limpet.supervision.slot import Slot
from limpet.wire.records import Assign, Incident, Need, RawResult, RawResults, SwapReport, Transition

if TYPE_CHECKING:
    from limpet.supervision.instructions import Instruction
    from limpet.wire.records import FromWorker, SwapStep


def cell(version: int = 1, library: str = "one.so", **options: Any) -> Assignment:
    """Two pipelines of one source. All but ``library`` is about the first."""
    pipelines = {
        "a": _pipeline("a", version, deadline=2.0, **options),
        "b": _pipeline("b", 1),
    }
    folders = Folders(Path("/base"), Path("/state"), Path("/store"))
    tables = {"gpu": DelegateTable(kind="external", library=library)}
    return Assignment("s", folders, {"s": SourceTable("replay", {})}, pipelines, tables)


def _pipeline(name: str, version: int, **options: Any) -> PipelineAssignment:
    model = ModelFile(Path(f"/store/{name}-{version}.limpet"), name, version, f"sha-{version}")
    return PipelineAssignment(name, ("s",), model, PipelineOptions(**options))


class Worker:
    """A worker as a slot sees it."""

    def __init__(self) -> None:
        self.slot = Slot(cell())
        self._reported: list[Incident] = []
        self.start()

    def hear(self, record: FromWorker, now: float = 0.0) -> list[Instruction]:
        return self._take(self.slot.hear(record, now))

    def _take(self, instructions: list[Instruction]) -> list[Instruction]:
        records = [one.record for one in instructions if isinstance(one, Report)]
        self._reported += [one for one in records if isinstance(one, Incident) and one.event != "crashed"]
        return instructions

    def start(self) -> Assign:
        """Begin a process that opens all pipelines and gives a result of each."""
        self.slot.started(1)
        assigned = self.slot.assign(0.0)
        for name in assigned.revisions:
            self.run(name, assigned.revisions[name])
        return assigned

    def run(self, name: str, revision: int) -> None:
        self.hear(Transition(name, "running", revision=revision))
        self.hear(RawResults([RawResult(name, "m", 1, "cpu", False, 0, 0, 0, 0, msgspec.Raw(b"{}"))]))

    def want(self, assignment: Assignment) -> int:
        """Assign something else, and return the revision of the first pipeline."""
        self.slot.want(assignment, 0.0)
        return self.slot.assign(0.0).revisions["a"]

    def swap(self, revision: int, *steps: SwapStep, reason: str = "why") -> None:
        for step in steps:
            self.hear(SwapReport("a", revision, step, reason))

    def crash(self) -> list[str]:
        instructions = self._take(self.slot.exited(-signal.SIGSEGV, 0.0))
        records = [one.record for one in instructions if isinstance(one, Report)]
        return [record.pipeline for record in records if isinstance(record, Transition)]

    def incidents(self) -> list[Incident]:
        return self._reported

    def events(self) -> list[tuple[str, str, str]]:
        found, self._reported = self._reported, []
        return [(one.pipeline, one.event, one.reason) for one in found]

    def model(self) -> str:
        """Return the model of the first pipeline that a new process would be told to run."""
        assigned = self.slot.assign(100.0)
        return assigned.of("a").pipelines["a"].model.path.name


def test_a_successor_that_took_over_is_what_a_new_process_runs() -> None:
    worker = Worker()
    worker.swap(worker.want(cell(2)), "begun", "done", reason="a 2 on cpu")
    assert worker.events() == [("a", "swapped", "a 2 on cpu took over")]
    assert worker.crash() == ["a", "b"]
    assert worker.events() == []
    assert worker.model() == "a-2.limpet"


def test_after_a_successor_failed_a_new_process_runs_the_old_one() -> None:
    worker = Worker()
    worker.swap(worker.want(cell(2)), "begun", "failed", reason="wrong numbers")
    assert [(one.sha256, one.why) for one in worker.incidents()] == [("sha-2", "wrong numbers")]
    assert worker.events() == [("a", "swap_failed", "a 2 is not used, a 1 goes on: wrong numbers")]
    assert worker.crash() == ["a", "b"]
    assert worker.events() == []
    assert worker.model() == "a-1.limpet"
    assert worker.slot.assign(0.0).prove == []


def test_a_crash_in_the_middle_of_a_swap_is_the_successors_fault() -> None:
    worker = Worker()
    worker.swap(worker.want(cell(2)), "begun")
    assert worker.crash() == ["a"]
    assert worker.events() == [("a", "swap_failed", "a 2 is not used, a 1 goes on: killed by SIGSEGV")]
    assert worker.slot.next_start() == 0.0  # At once: what crashed is gone.
    assert worker.model() == "a-1.limpet"
    worker.start()
    assert worker.crash() == ["a", "b"]
    assert worker.events() == []


def test_a_crash_before_the_swap_has_begun_is_not_the_successors_fault() -> None:
    worker = Worker()
    worker.want(cell(2))
    assert worker.crash() == ["a", "b"]
    assert worker.events() == []
    assert worker.model() == "a-2.limpet"


def test_what_failed_is_tried_again_when_it_changes_or_a_person_restarts_it() -> None:
    worker = Worker()
    failed = worker.want(cell(2))
    worker.swap(failed, "begun", "failed")
    assert worker.want(cell(2)) != failed
    assert worker.want(cell(2, every=2)) > failed
    assert worker.model() == "a-2.limpet"
    worker.swap(worker.want(cell(3)), "begun", "failed")
    assert worker.model() == "a-1.limpet"
    worker.slot.restart("a")
    assert worker.model() == "a-3.limpet"


def test_a_change_back_is_no_change() -> None:
    worker = Worker()
    first = worker.slot.assign(0.0).revisions["a"]
    worker.swap(worker.want(cell(2)), "begun")
    assert worker.want(cell()) == first


def test_a_new_process_proves_what_is_new_before_it_runs_it_and_goes_back_if_it_fails() -> None:
    worker = Worker()
    second = worker.want(cell(2))
    worker.slot.ended(0, 0.0)  # its sandbox lacks the folder of the new model
    worker.slot.started(2)
    assert worker.slot.assign(0.0).prove == ["a"]
    record = Transition("a", "failed", "no such file", revision=second)
    (told,) = [one.record for one in worker.hear(record) if isinstance(one, Send)]
    assert record.state == "starting"
    assert isinstance(told, Assign)
    assert told.of("a").pipelines["a"].model.path.name == "a-1.limpet"
    assert worker.events() == [("a", "swap_failed", "a 2 is not used, a 1 goes on: no such file")]
    assert worker.model() == "a-1.limpet"


def test_a_first_assignment_that_fails_has_nothing_to_go_back_to() -> None:
    slot = Slot(cell())
    slot.started(1)
    revision = slot.assign(0.0).revisions["a"]
    record = Transition("a", "failed", "no such model", revision=revision)
    assert slot.hear(record, 0.0) == [Report(record)]
    assert slot.pipelines.runnable(0.0) == ["b"]


def test_reports_about_other_revisions_change_nothing() -> None:
    worker = Worker()
    revision = worker.want(cell(2))
    worker.swap(revision, "done", "failed")  # never begun
    worker.swap(revision + 1000, "begun", "failed", "done")
    assert worker.events() == []
    worker.swap(revision, "begun", "done", "failed", "done", "begun", "done", "begun", "failed")
    assert [event for _, event, _ in worker.events()] == ["swapped"]


def may_report(worker: Worker, name: str, model: str, version: int) -> bool:
    """Whether a worker may say, with a result and with a state, that a pipeline runs a model."""
    result = RawResult(name, model, version, "cpu", False, 0, 0, 0, 0, msgspec.Raw(b"\x80"))
    refusals = set()
    for record in (RawResults([result]), Transition(name, "running", model=model, version=version)):
        try:
            worker.slot.check(record, 0.0)
        except UnreadableError as error:
            refusals.add(str(error))
        else:
            refusals.add("")
    (refusal,) = refusals
    return not refusal


def test_a_worker_may_report_the_models_that_it_was_given_and_no_other() -> None:
    worker = Worker()
    assert may_report(worker, "a", "a", 1)
    assert not may_report(worker, "a", "a", 2)
    assert not may_report(worker, "a", "b", 1)
    worker.want(cell(version=2))
    assert may_report(worker, "a", "a", 1)
    assert may_report(worker, "a", "a", 2)
    worker.slot.exited(0, 0.0)
    worker.start()
    assert may_report(worker, "a", "a", 2)
    worker.want(cell(version=3))
    worker.slot.exited(0, 0.0)
    worker.start()
    assert not may_report(worker, "a", "a", 1)


def test_a_worker_may_report_the_light_model_of_a_cascade() -> None:
    worker = Worker()
    assert not may_report(worker, "a", "light", 7)
    given = cell()
    light = ModelFile(Path("/store/light-7.limpet"), "light", 7, "sha-light")
    a = msgspec.structs.replace(given.pipelines["a"], light=light)
    worker.want(msgspec.structs.replace(given, pipelines={**given.pipelines, "a": a}))
    assert may_report(worker, "a", "light", 7)
    assert not may_report(worker, "b", "light", 7)


def test_a_pipeline_that_was_taken_away_may_still_report_its_model() -> None:
    worker = Worker()
    worker.slot.want(cell().only(["b"]), 0.0)
    assert may_report(worker, "a", "a", 1)
    assert not may_report(worker, "a", "a", 2)


def test_a_worker_whose_source_changes_may_hand_over_what_the_model_before_gave() -> None:
    worker = Worker()
    changed = msgspec.structs.replace(cell(version=2), sources={"s": SourceTable("serial", 1, {})})
    worker.slot.want(changed, 0.0)
    assert may_report(worker, "a", "a", 1)


def test_a_ladder_that_is_gone_up_and_down_for_ever_is_not_remembered_for_ever() -> None:
    worker = Worker()
    first = worker.want(cell(every=1, version=2))
    latest = [worker.want(cell(every=2 + number % 2)) for number in range(100)][-1]
    for number, known in ((latest, True), (latest - 2 * MOST_OFFERED, False), (first, False)):
        need = Need(1, "a", "gpu", number)
        assert (worker.slot.pipelines.revision_of(need) is not None) == known


def test_an_executor_runs_the_revision_that_asks_for_it() -> None:
    worker = Worker()
    first = worker.want(cell(1, delegates=["gpu"]))
    worker.run("a", first)
    second = worker.want(cell(2, delegates=["gpu"]))
    for number, model in ((first, "a-1.limpet"), (second, "a-2.limpet")):
        (start,) = worker.hear(Need(1, "a", "gpu", number))
        assert isinstance(start, StartExecutor)
        assert start.task.assignment.pipelines["a"].model.path.name == model
        assert list(start.task.assignment.pipelines) == ["a"]
    assert worker.hear(Need(1, "a", "gpu", second + 1000)) == []
    assert worker.hear(Need(1, "gone", "gpu", first)) == []


def test_another_table_of_a_delegate_changes_the_pipelines_that_name_it() -> None:
    worker = Worker()
    with_it = cell(delegates=["gpu"])
    first = worker.want(with_it)
    before = worker.slot.assign(0.0).revisions["b"]
    assert worker.want(cell(delegates=["gpu"], library="two.so")) > first
    assert worker.slot.assign(0.0).revisions["b"] == before


def test_a_worker_that_opens_a_successor_has_the_time_that_loading_takes() -> None:
    worker = Worker()
    assert worker.slot.overdue(2.5) == 2.5
    worker.swap(worker.want(cell(2)), "begun")
    assert worker.slot.overdue(LOADING_DEADLINE) is None
    worker.hear(SwapReport("a", worker.slot.assign(0.0).revisions["a"], "done", "a 2"), 10.0)
    assert worker.slot.overdue(12.5) == 2.5


def test_a_revision_says_which_model_runs_also_if_two_have_the_same_name_and_version() -> None:
    worker = Worker()
    first = worker.slot.assign(0.0).revisions["a"]
    other, model = cell(), ModelFile(Path("/state/deployed/a-1.limpet"), "a", 1, "another sha")
    other.pipelines["a"] = msgspec.structs.replace(other.pipelines["a"], model=model)
    worker.slot.pipelines.want(other, alive=True)
    second = worker.slot.assign(0.0).revisions["a"]
    identity = worker.slot.pipelines.identity
    assert identity(Transition("a", "running", model="a", version=1, revision=first)) == "sha-1"
    assert identity(Transition("a", "running", model="a", version=1, revision=second)) == "another sha"
    assert identity(Transition("a", "running", model="a", version=1, revision=second + 1)) == ""
    assert identity(Transition("c", "running", model="a", version=1, revision=first)) == ""
