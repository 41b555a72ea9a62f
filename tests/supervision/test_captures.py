"""What the supervisor does with windows that workers hand over: checks, limits, ids, and writing."""

from __future__ import annotations

import base64
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from limpet.captures import form, ring, sealing
from limpet.captures.writer import read_body
from limpet.config import Config, build
from limpet.contracts.captures import CaptureHealth, KeepHours, KeepOptions, Truth, WindowForm
from limpet.contracts.messages import EventMessage, FeedbackTaken, Origin
from limpet.errors import UnreadableError
from limpet.supervision.captures import MOST_UNKNOWN, Captures
from limpet.supervision.events import Events
from limpet.supervision.instructions import Report
from limpet.supervision.ledger import Ledger
from limpet.supervision.slot import Slot
from limpet.wire.memory_file import anonymous_file
from limpet.wire.records import Kept, KeptFile, RawResult
from support.assigned import cells
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.commands import Feedback


ORIGIN = Origin("press-07", "4-abc", "1.0")
TABLES: dict[str, Any] = {
    "device": {"id": "press-07"},
    "jsonl": {},
    "sources": {"s": {"kind": "replay"}},
    "pipelines": {"a": {"source": "s", "model": "a", "keep": {}}, "b": {"source": "s", "model": "b"}},
}
BODY = form.body_of(b'{"label":"x"}', [b"\0" * 8])
NOON = 1_770_000_000_000_000_000


def kept(sample: int = 70, pipeline: str = "a", body: bytes = BODY, **changes: Any) -> KeptFile:
    window = WindowForm(encoding="raw", shape=[1, 2], dtype="float32", parts=[8])
    fields: dict[str, Any] = {
        "pipeline": pipeline, "monotonic_ns": 5, "wall_ns": NOON, "sample": sample, "model": "m", "version": 3,
        "reasons": ["unsure"], "window": window, "size": len(body),
    }  # fmt: skip
    file = anonymous_file()
    file.write(body)
    file.flush()
    return KeptFile(Kept(**(fields | changes)), file)


def configured(**keep: Any) -> Config:
    wanted = {"source": "s", "model": "a", "keep": keep, "groups": {"site": "north"}}
    tables = TABLES | {"pipelines": TABLES["pipelines"] | {"a": wanted}}
    return build(tables, Path("/nowhere"))


class Desk:
    """The captures of a supervisor without its loop."""

    def __init__(self, state: Path, **keep: Any) -> None:
        self.state = state
        self.events: list[EventMessage] = []
        self.ledger = Ledger(ORIGIN, lambda _: None)
        self.ledger.assign({"a": "s", "b": "s"}, 0.0)
        self.feedback: list[Feedback] = []
        self.captures = Captures(
            ORIGIN, state, self.ledger, Events(ORIGIN, self.events.append), lambda: None, feedback=self.count
        )
        self.config = configured(**keep)
        self.tend()

    def count(self, feedback: Feedback) -> FeedbackTaken:
        self.feedback.append(feedback)
        if feedback.truth == "unknown":
            return FeedbackTaken(known=False, reason="there is no such result")
        if isinstance(feedback.truth, float):
            raise ValueError("a number and a label cannot be compared")
        return FeedbackTaken(known=True)

    def tend(self) -> None:
        self.captures.tend(self.config)

    def hear(self, record: KeptFile) -> None:
        self.captures.hear("s", record)

    def result(self, sample: int) -> str:
        made = RawResult("a", "m", 3, "cpu", False, 5, NOON, sample, 2500, form.msgspec.Raw(b"{}"))
        (numbered,) = self.ledger.accept("s", [made], 0.0)
        self.captures.accepted([numbered])
        return numbered.id

    @property
    def health(self) -> CaptureHealth:
        self.tend()
        found = self.ledger.account("a").captures
        return found or CaptureHealth(count=-1, bytes=0, most_bytes=0, kept={}, lost={})

    @property
    def lost(self) -> dict[str, int]:
        return dict(self.ledger.account("a").lost)

    def found(self) -> list[Any]:
        return [one.capture for one in ring.entries(ring.folder(self.state), "a")]


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, **getattr(request, "param", {}))
    yield made
    made.captures.close()


def test_a_window_is_written_with_the_id_of_its_result_whichever_comes_first(desk: Desk) -> None:
    before = desk.result(70)
    desk.hear(kept(70))
    desk.hear(kept(71))
    after = desk.result(71)
    desk.hear(kept(72))
    desk.captures.close()
    assert [(one.number, one.id) for one in desk.found()] == [(1, before), (2, after), (3, "")]
    desk.tend()
    assert (desk.health.count, desk.health.kept) == (3, {"unsure": 3})
    assert desk.found()[0].groups == {"site": "north"}
    file = form.read(ring.path_of(ring.folder(desk.state), "a", 1))
    assert form.contents(file.capture, file.body, "it").output == {"label": "x"}


def test_a_window_of_another_cell_is_refused(desk: Desk) -> None:
    with pytest.raises(UnreadableError):
        desk.captures.hear("other", kept())


def test_hours_of_consent_hold_in_local_time_and_past_midnight(desk: Desk) -> None:
    from datetime import datetime

    from limpet.captures.consent import may_keep

    def at(hour: int, minute: int = 0) -> datetime:
        return datetime(2026, 11, 29, hour, minute).astimezone()

    day, night = ({"hours": KeepHours(begin=b, end=e)} for b, e in (("08:00", "18:00"), ("22:00", "06:30")))
    assert [may_keep(KeepOptions(**day), at(hour)) for hour in (7, 8, 17, 18)] == [False, True, True, False]
    times = [at(21, 59), at(22), at(0), at(6, 29), at(6, 30)]
    assert [may_keep(KeepOptions(**night), time) for time in times] == [False, True, True, True, False]
    never = datetime.fromtimestamp(NOON / 1e9).astimezone()
    other = f"{(never.hour + 2) % 24:02d}:00"
    desk.config = configured(hours={"begin": other, "end": other})
    desk.tend()
    desk.hear(kept())
    assert desk.lost == {"consent": 1}


@pytest.mark.parametrize("desk", [{"per_hour": 3}], indirect=True)
def test_a_worker_cannot_exceed_the_limit_of_an_hour(desk: Desk) -> None:
    for sample in range(6):
        desk.result(sample)
        desk.hear(kept(sample))
    desk.captures.close()
    assert len(desk.found()) == 4
    assert desk.lost == {"hour": 2}


def test_what_a_command_wants_is_kept_beyond_the_limit_and_no_more_than_that(desk: Desk) -> None:
    desk.config = configured(per_hour=1)
    desk.tend()
    for sample in range(4):
        desk.result(sample)
        desk.hear(kept(sample, reasons=["command"]))
    desk.captures.command("a", 2)
    for sample in range(4, 8):
        desk.result(sample)
        desk.hear(kept(sample, reasons=["command"]))
    desk.captures.close()
    assert [one.sample for one in desk.found()] == [0, 1, 4, 5]
    assert desk.lost == {"hour": 4}


KEY = "mC0Jd5vYH6mAhJ7kVtQ2f3m9mQX1eXyEJb8cS2o5uHs="


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        ({"never": ["person"]}, {"answer": "person"}),
        ({"never": ["person"]}, {"answer": ["dog", "person"]}),
        ({"encrypt_for": KEY}, {}),
        ({"encrypt_for": KEY}, {"key": "0123456789abcdef"}),
        ({}, {"key": "0123456789abcdef"}),
    ],
)
def test_consent_and_encryption_hold_whatever_a_worker_hands_over(
    desk: Desk, keep: dict[str, Any], said: dict[str, Any]
) -> None:
    desk.config = configured(**keep)
    desk.tend()
    desk.result(1)
    desk.hear(kept(1, **said))
    right = {"key": sealing.key_id(base64.b64decode(KEY))} if "encrypt_for" in keep else {}
    desk.hear(kept(1, answer="dog", **right))
    desk.captures.close()
    assert desk.lost == {"consent": 1}
    assert [one.answer for one in desk.found()] == ["dog"]


def test_windows_without_a_result_are_bounded(desk: Desk) -> None:
    for sample in range(MOST_UNKNOWN + 1):
        desk.hear(kept(sample))
    wait_until(lambda: desk.health.count == 1)
    assert desk.found()[0].sample == MOST_UNKNOWN


@pytest.mark.parametrize("desk", [{"bytes": 1 << 16}], indirect=True)
def test_a_full_ring_is_an_event_once(desk: Desk) -> None:
    body = form.body_of(b"{}", [b"\0" * 40_000])
    window = WindowForm(encoding="raw", shape=[10_000], dtype="float32", parts=[40_000])
    for sample, reason in enumerate(["command", "unsure", "audit"]):
        desk.result(sample)
        desk.hear(kept(sample, body=body, window=window, reasons=[reason]))
    wait_until(lambda: (desk.tend(), desk.lost == {"full": 2})[1])
    assert [event.event for event in desk.events] == ["captures_full"]
    assert desk.health.problem


def test_a_file_that_is_none_or_lies_costs_only_that_window(desk: Desk) -> None:
    desk.result(1)
    desk.hear(kept(1, size=len(BODY) + 1))
    read, write = os.pipe()
    os.close(write)
    pipe = kept(1)
    pipe.file.close()
    pipe.file = os.fdopen(read, "rb")
    desk.hear(pipe)
    desk.hear(kept(1))
    wait_until(lambda: desk.health.count == 1)
    assert desk.lost == {"failed": 2}


def test_a_disk_that_cannot_be_written_is_an_event_and_the_next_window_is_kept(desk: Desk) -> None:
    wait_until(lambda: desk.health.count == 0)
    there = ring.folder(desk.state)
    there.rename(there.with_name("away"))
    there.write_text("a file in its place")
    desk.result(1)
    desk.hear(kept(1))
    wait_until(lambda: desk.health.problem)
    assert (desk.lost, [event.event for event in desk.events]) == ({"disk": 1}, ["captures_failed"])
    there.unlink()
    there.with_name("away").rename(there)
    desk.hear(kept(1))
    wait_until(lambda: desk.health.count == 1)
    assert not desk.health.problem


def test_labels_and_deletions_by_a_person_are_seen_with_the_next_window(desk: Desk) -> None:
    for sample in range(3):
        desk.result(sample)
        desk.hear(kept(sample))
    wait_until(lambda: desk.health.count == 3)
    root = ring.folder(desk.state)
    ring.delete(ring.path_of(root, "a", 1))
    desk.hear(kept(1))
    wait_until(lambda: desk.health.kept == {"unsure": 4})
    assert desk.health.count == 3


def test_without_keep_a_window_of_a_worker_goes_no_further() -> None:
    made = Slot(cells(TABLES, Path("/nowhere"))["s"])
    made.started(1)
    made.assign(0.0)
    for pipeline, passed in (("a", 1), ("b", 0)):
        record = kept(pipeline=pipeline)
        record.file.close()
        made.check(record.record, 1.0)
        assert made.hear(record, 1.0) == [Report(record)] * passed


def test_a_body_is_read_only_from_a_file_of_its_size() -> None:
    with kept().file as file:
        assert read_body(file, len(BODY)) == BODY
        for size in (0, len(BODY) - 1, len(BODY) + 1, form.LARGEST_BODY + 1):
            with pytest.raises(UnreadableError):
                read_body(file, size)


def labelled(desk: Desk, number: int, truth: Truth) -> None:
    ring.write_truth(ring.path_of(ring.folder(desk.state), "a", number), truth)


def sent(desk: Desk, number: int) -> bool:
    truth = ring.read_truth(ring.path_of(ring.folder(desk.state), "a", number))
    return truth is not None and truth.sent


def test_what_a_person_said_beside_a_capture_counts_once_as_feedback(desk: Desk) -> None:
    ids = [desk.result(70), desk.result(71), desk.result(72)]
    for sample in (70, 71, 72):
        desk.hear(kept(sample))
    wait_until(lambda: desk.health.count == 3)
    when = datetime(2026, 11, 29, tzinfo=timezone.utc)
    labelled(desk, 1, Truth(truth="idle", by="ann", time=when))
    labelled(desk, 2, Truth(unsure=True, time=when))
    labelled(desk, 3, Truth(truth=["a", "b"], time=when))
    desk.hear(kept(73))  # the writer looks at the folder, as it does every few seconds
    wait_until(lambda: desk.health.count == 4 and sent(desk, 1) and sent(desk, 3))
    assert [(one.id, one.truth) for one in desk.feedback] == [(ids[0], "idle"), (ids[2], ["a", "b"])]
    assert desk.feedback[0].groups == {"site": "north"}
    assert not sent(desk, 2)
    labelled(desk, 1, Truth(truth="walking", time=when))
    desk.hear(kept(74))
    wait_until(lambda: desk.health.count == 5 and sent(desk, 1))
    assert [one.truth for one in desk.feedback] == ["idle", ["a", "b"], "walking"]


def test_a_truth_that_cannot_count_is_reported_once_and_stays(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.result(70), desk.result(71)
    desk.hear(kept(70))
    desk.hear(kept(71))
    wait_until(lambda: desk.health.count == 2)
    when = datetime(2026, 11, 29, tzinfo=timezone.utc)
    labelled(desk, 1, Truth(truth="unknown", time=when))
    labelled(desk, 2, Truth(truth=3.0, tolerance=0.5, time=when))
    for count in (3, 4):
        desk.hear(kept(70 + count))
        wait_until(lambda count=count: desk.health.count == count)
    wait_until(lambda: len(caplog.messages) == 2)
    assert caplog.messages == [
        "capture a/1: its truth does not count: there is no such result",
        "capture a/2: its truth does not count: a number and a label cannot be compared",
    ]
    assert desk.feedback[1].tolerance == 0.5
    assert not sent(desk, 1)
    assert not sent(desk, 2)
