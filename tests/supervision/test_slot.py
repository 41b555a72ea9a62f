from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from limpet.contracts.assignment import ModelFile, ShadowAssignment
from limpet.contracts.detected_events import ObjectEvent
from limpet.errors import UnreadableError
from limpet.supervision.cell_pipelines import LOADING_DEADLINE
from limpet.supervision.instructions import Kill, Report, Send, StartExecutor
from limpet.supervision.restarts import COOL_OFF, LIMIT
from limpet.supervision.slot import ENDS_AT_ONCE, Slot
from limpet.supervision.traffic import (
    BYTES_AT_ONCE,
    BYTES_PER_SECOND,
    LEAVING,
    MOVES_AT_ONCE,
    NOTICES_AT_ONCE,
    PAIRS_AT_ONCE,
    PAIRS_PER_SECOND,
)
from limpet.updates.answers import Answer, Pair, Pairs
from limpet.wire.fork_records import OpenShadow
from limpet.wire.records import (
    Ask,
    Dismiss,
    EventDetected,
    NeedShadow,
    Notice,
    RawAnswered,
    RawResult,
    RawResults,
    SetLogLevel,
    ShadowFailed,
    Snapshot,
    SwapReport,
    Transition,
    WindowTimes,
)
from support.assigned import cells

if TYPE_CHECKING:
    from limpet.contracts.assignment import Assignment
    from limpet.contracts.messages import State
    from limpet.supervision.instructions import Instruction

TABLES = {
    "device": {"id": "d"},
    "jsonl": {},
    "sources": {"s": {"kind": "replay"}},
    "pipelines": {
        "a": {"source": "s", "model": "a", "deadline": 2.0},
        "b": {"source": "s", "model": "b"},
    },
}


def cell(tables: dict[str, object]) -> Assignment:
    return cells(tables, Path("/nowhere"))["s"]


def slot(**changes: object) -> Slot:
    return Slot(cell(TABLES | changes))


def running(names: list[str], now: float = 0.0) -> Slot:
    made = slot()
    made.started(1)
    made.assign(now)
    for name in names:
        made.hear(Transition(name, "running"), now)
    return made


def result(pipeline: str) -> RawResults:
    return RawResults([RawResult(pipeline, "m", 1, "cpu", False, 0, 0, 0, 0, msgspec.Raw(b"{}"))])


def test_who_was_loading_is_to_blame() -> None:
    made = running(["a"])
    broken = made.ended(-11, 1.0)
    assert [(t.pipeline, t.state, t.reason) for t in broken] == [("b", "starting", "killed by SIGSEGV")]


def test_a_pipeline_that_was_not_loaded_yet_is_not_to_blame() -> None:
    made = running([])
    made.hear(Transition("a", "starting"), 0.0)
    assert [move.pipeline for move in made.ended(-11, 0.0)] == ["a"]
    made.started(2)
    made.assign(1.0)
    made.hear(Transition("a", "starting"), 1.0)
    made.hear(Transition("a", "running"), 1.0)
    made.hear(Transition("b", "starting"), 1.0)
    assert [move.pipeline for move in made.ended(-11, 1.0)] == ["b"]


def test_when_nobody_was_loading_all_are_to_blame() -> None:
    broken = running(["a", "b"]).ended(1, 1.0)
    assert [t.pipeline for t in broken] == ["a", "b"]
    assert broken[0].reason == "ended with exit status 1"


def test_a_pipeline_that_always_crashes_does_not_take_the_others_along() -> None:
    made = running(["a"])
    now = 0.0
    for _ in range(LIMIT):
        made.started(1)
        made.assign(now)
        made.hear(Transition("a", "running"), now)
        (broken,) = made.ended(-11, now)
        now = made.next_start() or 0.0
    assert (broken.pipeline, broken.state) == ("b", "failed")
    assert "next try in" in broken.reason
    assert made.pipelines.runnable(now) == ["a"]
    assert made.pipelines.runnable(now + 2 * COOL_OFF) == ["a", "b"]


def test_a_failed_pipeline_is_tried_again_beside_the_running_ones() -> None:
    made = slot()
    for _ in range(LIMIT):
        made.started(1)
        made.assign(0.0)
        made.hear(Transition("a", "running"), 0.0)
        made.ended(-11, 0.0)
    made.started(1)
    made.assign(1.0)
    made.hear(Transition("a", "running"), 1.0)
    assert not made.pipelines.revived(1.0)
    assert made.pipelines.revived(2 * COOL_OFF)
    made.assign(2 * COOL_OFF)
    assert not made.pipelines.revived(2 * COOL_OFF)
    made.hear(result("b"), 2 * COOL_OFF)
    assert made.ended(-11, 2 * COOL_OFF)[0].state == "starting"


def test_a_pipeline_that_failed_in_good_order_is_left_alone() -> None:
    made = running(["a"])
    made.hear(Transition("b", "failed", "no such model"), 0.0)
    assert made.pipelines.runnable(1e6) == ["a"]
    made.hear(Transition("a", "finished"), 0.0)
    assert made.ended(0, 1.0) == []
    assert made.next_start() is None


def test_a_source_whose_pipelines_all_failed_is_not_started_again() -> None:
    made = running([])
    for name in ("a", "b"):
        made.hear(Transition(name, "failed", "sources.s.kind: ..."), 0.0)
    made.ended(0, 0.0)
    assert made.next_start() is None


def test_a_process_that_keeps_ending_of_its_own_accord_is_slowed_down() -> None:
    made = running(["a"])
    ends = [made.ended(0, 0.0) for _ in range(ENDS_AT_ONCE + 1)]
    assert ends[:-1] == [[]] * ENDS_AT_ONCE
    assert [move.pipeline for move in ends[-1]] == ["b"]
    assert (made.next_start() or 0.0) > 0.0


def test_a_process_that_lied_is_to_blame_however_it_ended() -> None:
    made = running(["a"])
    made.hear(Transition("b", "finished"), 0.0)
    made.condemned, made.ending = True, "it sent garbage"
    assert [(move.pipeline, move.reason) for move in made.ended(0, 0.0)] == [
        ("a", "it sent garbage"),
        ("b", "it sent garbage"),
    ]


def test_a_question_that_was_asked_twice_is_answered_twice() -> None:
    made = running(["a"])
    for _ in range(2):
        made.traffic.ask(Ask(0, SetLogLevel("DEBUG")))
    for _ in range(2):
        answer = RawAnswered(0)
        made.check(answer, 0.0)
        made.hear(answer, 0.0)
    with pytest.raises(UnreadableError, match="not asked"):
        made.check(RawAnswered(0), 0.0)


def test_a_pipeline_that_was_taken_away_may_still_say_its_last_words() -> None:
    made = running(["a", "b"])
    tables = TABLES | {"pipelines": {"a": TABLES["pipelines"]["a"]}}  # type: ignore[index]
    made.want(cell(tables), 100.0)
    made.check(Transition("b", "stopped"), 101.0)
    with pytest.raises(UnreadableError, match="no pipeline of its source"):
        made.check(Transition("b", "stopped"), 101.0 + LEAVING)


def test_notices_beyond_the_rate_are_counted_in_the_next_one() -> None:
    made = running(["a"])
    passed = [made.traffic.admit(Notice("a", "gap", "1 gap"), 0.0) for _ in range(100)]
    assert sum(notice is not None for notice in passed) == NOTICES_AT_ONCE
    later = made.traffic.admit(Notice("a", "gap", "1 gap"), 60.0)
    assert later is not None
    assert f"{100 - NOTICES_AT_ONCE} more" in later.reason


def test_of_transitions_beyond_the_rate_the_last_one_counts() -> None:
    made = running(["a"])
    states: tuple[State, ...] = ("running", "waiting")
    passed = [made.traffic.admit(Transition("a", states[i % 2], str(i)), 0.0) for i in range(100)]
    assert sum(move is not None for move in passed) == MOVES_AT_ONCE - 1  # It has reported that it runs.
    assert made.traffic.postponed(0.5) == []
    assert [move.reason for move in made.traffic.postponed(60.0)] == ["99"]
    assert made.traffic.postponed(120.0) == []


def test_what_had_to_wait_is_said_at_the_end() -> None:
    made = running(["a"])
    for i in range(100):
        made.traffic.admit(Transition("a", "waiting", str(i)), 0.0)
    assert [move.reason for move in made.traffic.last_moves()] == ["99"]


def test_a_process_that_sends_too_much_waits() -> None:
    made = running(["a"])
    assert not made.traffic.spend(BYTES_AT_ONCE, 10.0)
    assert made.traffic.spend(BYTES_PER_SECOND, 10.0)
    assert made.traffic.paused_until == pytest.approx(11.0)
    assert made.overdue(1e6) is None


def test_silence_is_measured_by_the_shortest_deadline_once_all_models_are_loaded() -> None:
    made = running(["a"])
    assert made.overdue(60.0) is None
    assert made.overdue(LOADING_DEADLINE + 1) is not None
    made.hear(Transition("b", "running"), 60.0)
    assert made.overdue(61.9) is None
    assert made.overdue(62.5) == 2.5


def test_another_source_starts_every_pipeline_anew() -> None:
    made = running(["a", "b"])
    made.want(cell(TABLES | {"sources": {"s": {"kind": "replay", "queue": 3}}}), 0.0)
    made.ending = "its source changed"
    assert made.ended(0, 5.0) == []
    assert made.next_start() == 0.0
    assert made.pipelines.runnable(5.0) == ["a", "b"]


def test_only_the_changed_pipeline_is_forgiven_its_crashes() -> None:
    made = running(["a", "b"])
    made.ended(-9, 1.0)
    pipelines = TABLES["pipelines"] | {"b": {"source": "s", "model": "other"}}  # type: ignore[operator]
    made.want(cell(TABLES | {"pipelines": pipelines}), 0.0)
    assert made.pipelines.runnable(1.0) == ["b"]
    assert made.pipelines.runnable(2.0) == ["a", "b"]


def test_times_of_windows_are_passed_on_only_while_they_are_traced() -> None:
    times = WindowTimes("a", 1, 1, 1, 1, 1)
    made = running(["a"])
    assert made.hear(times, 1.0) == []
    made.want(msgspec.structs.replace(made.assignment, traces=0.5), 2.0)
    assert made.hear(times, 3.0) == [Report(times)]


def test_a_picture_is_passed_on_only_if_the_configuration_says_so() -> None:
    def passed(made: Slot, pipeline: str) -> bool:
        picture = Snapshot(pipeline, 0, 0, 0, b"\xff\xd8\xff\xd9")
        made.check(picture, 1.0)
        return bool(made.hear(picture, 1.0))

    pipelines: dict[str, dict[str, object]] = {name: {"source": "s", "model": name} for name in ("a", "b")}
    with_pictures = pipelines | {"a": pipelines["a"] | {"snapshots": {}}}
    made = slot(pipelines=with_pictures)
    made.started(1)
    made.assign(0.0)
    assert passed(made, "a")
    assert not passed(made, "b")
    made.want(cell(TABLES | {"pipelines": pipelines}), 1.0)
    assert not passed(made, "a")


def seen(made: Slot, number: int, pipeline: str = "a") -> None:
    new = ObjectEvent(
        type="new", id=number, label="cat", score=0.5, box=(0, 0, 1, 1), zones=[], age_s=0.0, unseen_s=0.0
    )
    assert made.hear(EventDetected(pipeline, new), 0.0) == [Report(EventDetected(pipeline, new))]


def ended(instructions: list[Instruction]) -> list[tuple[str, int, str]]:
    """Return what was reported to end: the pipeline, the object, and why."""
    return [
        (one.record.pipeline, one.record.event.id, one.record.event.reason)
        for one in instructions
        if isinstance(one, Report)
        and isinstance(one.record, EventDetected)
        and isinstance(one.record.event, ObjectEvent)
        and one.record.event.type == "end"
    ]


def test_objects_end_when_their_pipeline_is_over_or_changes_its_model() -> None:
    made = running(["a", "b"])
    seen(made, 1)
    seen(made, 1, "b")
    assert ended(made.hear(Transition("a", "waiting", "no frame"), 0.0)) == []
    assert ended(made.hear(SwapReport("a", 2, "failed"), 0.0)) == []
    assert ended(made.hear(SwapReport("a", 2, "done"), 0.0)) == [("a", 1, "another model took over")]
    seen(made, 2)
    assert ended(made.hear(Transition("a", "failed"), 0.0)) == [("a", 2, "the pipeline is failed")]


def test_objects_end_with_the_process_whoever_is_to_blame_before_the_crash_is_reported() -> None:
    made = running(["a", "b"])
    seen(made, 1)
    seen(made, 1, "b")
    instructions = made.exited(-9, 1.0)
    assert ended(instructions) == [("a", 1, "its worker ended"), ("b", 1, "its worker ended")]
    assert ended(made.exited(-9, 1.0)) == []


def shadowed(share: float = 0.0) -> Slot:
    """A slot whose pipeline ``a`` runs, and has a shadow."""
    made = running(["a", "b"])
    shadow = ShadowAssignment(ModelFile(Path("/models/new-2.limpet"), "new", 2, "0" * 64), 1, share)
    made.want(msgspec.structs.replace(made.assignment, shadows={"a": shadow}), 0.0)
    return made


def compared(**changes: object) -> Pairs:
    pair = Pair(1, 2, Answer("x"), Answer("y"), 0.0, 1.0, 2.0)
    return msgspec.structs.replace(Pairs("a", "a", 0, "new", 2, [pair]), **changes)  # type: ignore[arg-type]


def test_a_shadow_is_sent_to_the_process_and_changes_no_revision() -> None:
    made = running(["a", "b"])
    before = made.assign(0.0)
    shadow = ShadowAssignment(ModelFile(Path("/models/new-2.limpet"), "new", 2, "0" * 64))
    (sent,) = made.want(msgspec.structs.replace(made.assignment, shadows={"a": shadow}), 0.0)
    assert isinstance(sent, Send)
    assert sent.record.revisions == before.revisions  # type: ignore[union-attr]
    assert sent.record.assignment.shadows == {"a": shadow}  # type: ignore[union-attr]


def test_the_key_of_an_encrypted_shadow_goes_to_its_process_alone() -> None:
    made = running(["a", "b"])
    model = ModelFile(Path("/models/new-2.limpet"), "new", 2, "0" * 64, key=b"secret")
    (sent,) = made.want(msgspec.structs.replace(made.assignment, shadows={"a": ShadowAssignment(model)}), 0.0)
    assert isinstance(sent, Send)
    assert b"secret" not in msgspec.msgpack.encode(sent.record, enc_hook=str)
    (start,) = made.hear(NeedShadow(1, "a"), 0.0)
    assert isinstance(start, StartExecutor)
    assert start.task.assignment.pipelines["a"].model.key == b"secret"


def test_the_process_of_a_shadow_loads_what_the_supervisor_says_on_the_cpu_alone() -> None:
    made = shadowed()
    (start,) = made.hear(NeedShadow(1, "a"), 0.0)
    assert isinstance(start, StartExecutor)
    assert isinstance(start.task, OpenShadow)
    (pipeline,) = start.task.assignment.pipelines.values()
    assert (pipeline.name, pipeline.model.name, pipeline.options.delegates) == ("a", "new", ["cpu"])
    assert start.task.assignment.cell not in made.assignment.sources


def test_a_pipeline_without_a_shadow_gets_none() -> None:
    assert shadowed().hear(NeedShadow(1, "b"), 0.0) == []


def test_a_second_shadow_at_once_is_refused() -> None:
    made = shadowed()
    made.executors.add(100, NeedShadow(1, "a"), made.assignment.shadows["a"].model)
    with pytest.raises(UnreadableError, match="more than 1 shadow"):
        made.hear(NeedShadow(2, "a"), 0.0)


def test_a_shadow_that_crashes_is_reported_unless_it_was_dismissed() -> None:
    made = shadowed()
    made.executors.add(100, NeedShadow(1, "a"), made.assignment.shadows["a"].model)
    made.executors.forked(100, 1000)
    ended = made.executors.ended(1000)
    assert ended is not None
    (report,) = made.shadow_ended(ended, -11)
    assert isinstance(report, Report)
    assert isinstance(report.record, ShadowFailed)
    assert (report.record.pipeline, report.record.shadow, report.record.shadow_version) == ("a", "new", 2)
    assert "SIGSEGV" in report.record.reason
    made.executors.add(101, NeedShadow(2, "a"), made.assignment.shadows["a"].model)
    made.executors.forked(101, 1001)
    assert made.hear(Dismiss(2), 0.0) == [Kill(1001)]
    dismissed = made.executors.ended(1001)
    assert dismissed is not None
    assert made.shadow_ended(dismissed, -9) == []


@pytest.mark.parametrize(
    "record",
    [
        compared(shadow="other"),
        compared(shadow_version=3),
        compared(model="new", version=2),
        compared(pipeline="b", model="b"),
        ShadowFailed("a", "a", 0, "x"),
    ],
)
def test_a_process_speaks_about_no_shadow_that_it_was_not_given(record: Pairs | ShadowFailed) -> None:
    made = shadowed()
    made.check(compared(), 0.0)
    with pytest.raises(UnreadableError, match="which it was not given"):
        made.check(record, 0.0)


def test_results_of_a_shadow_are_taken_only_if_it_has_a_share() -> None:
    def results() -> RawResults:
        return RawResults([RawResult("a", "new", 2, "cpu", False, 0, 0, 0, 0, msgspec.Raw(b"\xc0"))])

    shadowed(share=0.5).check(results(), 0.0)
    with pytest.raises(UnreadableError, match="which it was not given"):
        shadowed().check(results(), 0.0)
    with pytest.raises(UnreadableError, match="which it was not given"):
        shadowed(share=0.5).check(Transition("a", "running", model="new", version=2), 0.0)


def test_pairs_beyond_the_rate_are_counted_as_skipped() -> None:
    made = shadowed()
    many = compared(items=compared().items * 250)
    passed = [made.hear(many, 0.0) for _ in range(int(PAIRS_AT_ONCE) // 250 + 2)]
    assert [len(reports) for reports in passed[-3:]] == [1, 0, 0]
    (report,) = made.hear(compared(skipped=5), 250 / PAIRS_PER_SECOND)
    assert isinstance(report, Report)
    assert report.record.skipped == 505  # type: ignore[union-attr]
