"""What the supervisor believes of a worker that may have been taken over."""

from __future__ import annotations

import math
import tracemalloc
import typing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.assignment import ModelFile, PipelineAssignment, PipelineOptions
from limpet.contracts.detected_events import LineEvent, ObjectEvent
from limpet.contracts.explanation import Change, Explained, Explanation, Importance
from limpet.contracts.messages import Message, Origin, Placed
from limpet.contracts.updates import ModelName
from limpet.errors import UnreadableError
from limpet.learning.changes import Levels
from limpet.learning.expected import Expected
from limpet.models.manifest import Manifest
from limpet.supervision.executors import AT_ONCE, MOST_IN_USE, MOST_OF_A_PIPELINE, Executors
from limpet.supervision.health import HealthReader, model_reported, now
from limpet.supervision.ledger import Account, Ledger
from limpet.updates.answers import MOST_PAIRS, Answer, Pair, Pairs
from limpet.updates.comparison import Comparisons
from limpet.wire import border
from limpet.wire.records import (
    LARGEST_OUTPUT,
    LARGEST_RECORD,
    LARGEST_SNAPSHOT,
    LONGEST_TEXT,
    MOST_CAUSES,
    MOST_SHOWN_CHANNELS,
    MOST_SHOWN_ROWS,
    Answered,
    Capture,
    EventDetected,
    ExplainWindow,
    Figures,
    FromWorker,
    Heartbeat,
    Inputs,
    Need,
    NeedShadow,
    Notice,
    RawResults,
    Result,
    Results,
    RunWindows,
    SetLogLevel,
    ShadowFailed,
    Snapshot,
    SwapReport,
    TakeSnapshot,
    Transition,
    WindowTimes,
)
from limpet.worker.commands import captured_answer

DECODER = msgspec.msgpack.Decoder(FromWorker)
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(["a", "b", "a/#", "\0", "x" * 70_000, "running", "gap"]))
NUMBERS = st.one_of(st.integers(-(1 << 63), (1 << 64) - 1), st.floats(), st.sampled_from([0, 1, -1, 959, 960]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.binary(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=12), st.dictionaries(st.one_of(TEXTS, NUMBERS), inner, max_size=4)
    ),
    max_leaves=30,
)
FIELDS = {
    "Results": ("items",),
    "Heartbeat": ("pipelines", "dropped", "inputs"),
    "Transition": ("pipeline", "state", "reason", "model", "delegate_share", "placement", "sandbox"),
    "Notice": ("pipeline", "event", "reason"),
    "EventDetected": ("pipeline", "event", "wall_ns"),
    "Answered": ("number", "error", "result"),
    "Need": ("number", "pipeline", "delegate"),
    "Snapshot": ("pipeline", "monotonic_ns", "wall_ns", "sample", "jpeg"),
    "WindowTimes": ("pipeline", "sample", "monotonic_ns", "transform_ns", "invoke_ns", "decode_ns"),
    "Dismiss": ("number",),
    "NeedShadow": ("number", "pipeline"),
    "Pairs": ("pipeline", "model", "version", "shadow", "shadow_version", "items", "errors", "skipped"),
    "ShadowFailed": ("pipeline", "shadow", "shadow_version", "reason"),
    "Expected": ("pipeline", "model", "version", "accuracy", "slices", "priors", "threshold"),
}
ANSWERS = st.tuples(VALUES, st.one_of(st.none(), st.floats(0, 1), VALUES))
PAIRS = st.tuples(st.integers(), st.integers(), ANSWERS, ANSWERS, st.none() | NUMBERS, NUMBERS, NUMBERS)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    tag = draw(st.sampled_from(sorted(FIELDS)))
    record = {"type": tag, **{name: draw(VALUES) for name in FIELDS[tag]}}
    if tag == "Results":
        record["items"] = draw(st.lists(st.tuples(*[VALUES] * 10), max_size=3))
    elif tag == "Pairs":
        record["items"] = draw(st.lists(PAIRS, max_size=3))
    if draw(st.booleans()) and "pipeline" in record:
        record["pipeline"] = "a"
    return record


JPEG = b"\xff\xd8\xff a picture \xff\xd9"
ORIGIN = Origin("d", "1-a", "0")


BAD_EVENTS = [
    msgspec.structs.replace(
        ObjectEvent(
            type="new", id=1, label="cat", score=0.5, box=(0, 0, 1, 1), zones=["drive"], age_s=1.0, unseen_s=0.0
        ),
        **changes,
    )
    for changes in (
        {"id": 0},
        {"id": 1 << 53},
        {"label": "\x1b[31m"},
        {"label": "x" * 1000},
        {"score": math.nan},
        {"score": 1.5},
        {"box": (0.0, 0.0, math.inf, 1.0)},
        {"box": (0.0, 0.0, 1.0)},
        {"zones": ["a/#"]},
        {"zones": ["drive"] * 1000},
        {"age_s": -1.0},
        {"reason": "x" * 1000},
        {"reason": "two\nlines"},
        {"type": "gone"},
    )
]


def received(record: Any) -> Any:
    try:
        return DECODER.decode(msgspec.msgpack.encode(record))
    except OverflowError as error:
        raise UnreadableError("MessagePack has no number of more than 64 bits") from error


def said(record: Any, asked: dict[int, Any] | None = None) -> Any:
    """Return a record as the supervisor takes it from the worker of the pipelines ``a`` and ``b``."""
    decoded = received(record)
    border.check(decoded, {"a", "b"}, asked or {})
    return decoded


def result(**changes: Any) -> Results:
    made = Result("a", "m", 1, "cpu", False, 1, 2, 3, 4, {"x": 1.5})
    return Results([msgspec.structs.replace(made, **changes)])


def pair(**changes: Any) -> Pair:
    made = Pair(3, 1, Answer("walk", 0.5), Answer(["a", "b"]), 0.5, 100.0, 200.0)
    return msgspec.structs.replace(made, **changes)


WINDOW = {"encoding": "raw", "shape": [1, 2], "dtype": "float32", "parts": [8]}


def kept(pipeline: str, **changes: Any) -> dict[str, Any]:
    times = {"monotonic_ns": 1, "wall_ns": 2, "sample": 3}
    about = {"pipeline": pipeline, "model": "m", "version": 1, "reasons": ["unsure"], "window": WINDOW, "size": 20}
    return {"type": "Kept", **times, **about, **changes}


def test_a_window_for_the_ring_within_the_limits_is_taken() -> None:
    record = said(kept("a", answer=["x"], score=0.5, window={**WINDOW, "channels": ["x", "y"], "rate": 5.0}))
    assert (record.answer, record.window.channels) == (["x"], ["x", "y"])


def test_pairs_within_the_limits_are_taken() -> None:
    items = [pair(), pair(ours=Answer(2.5), theirs=Answer(None), agreement=None)]
    assert said(Pairs("a", "m", 1, "n", 2, items, 3, 4)).items == items


@given(records())
def test_whatever_is_said_is_about_its_own_pipelines_or_refused(record: dict[str, Any]) -> None:
    try:
        decoded = said(record, {1: Capture, 2: SetLogLevel})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnreadableError):
        return
    if isinstance(decoded, RawResults):
        assert {item.pipeline for item in decoded.items} <= {"a", "b"}
        for item in decoded.items:
            msgspec.json.decode(item.output)
            assert b"\n" not in bytes(item.output)
    elif isinstance(decoded, Heartbeat):
        assert decoded.pipelines.keys() <= {"a", "b"}
    elif isinstance(
        decoded,
        Transition
        | Notice
        | EventDetected
        | Need
        | Snapshot
        | WindowTimes
        | NeedShadow
        | Pairs
        | ShadowFailed
        | Expected,
    ):
        assert decoded.pipeline in {"a", "b"}


@given(records())
def test_what_is_believed_can_be_put_into_every_message(record: dict[str, Any]) -> None:
    messages: list[Message] = []
    ledger = Ledger(ORIGIN, messages.extend)
    ledger.assign({"a": "cell", "b": "cell"}, 0.0)
    try:
        decoded = said(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnreadableError):
        return
    if isinstance(decoded, RawResults):
        ledger.accept("cell", decoded.items, 0.0)
        assert len(messages) == len(decoded.items)
    elif isinstance(decoded, Heartbeat):
        ledger.add("cell", decoded, 0.0)
    elif isinstance(decoded, Snapshot):
        ledger.accept_snapshot("cell", decoded, 0.0)
    elif isinstance(decoded, Transition):
        ledger.account(decoded.pipeline).move(decoded)
    elif isinstance(decoded, Pairs):
        comparisons = Comparisons("d", "1-a")
        comparisons.begin(decoded.pipeline, ModelName(decoded.shadow, decoded.shadow_version), trial=False)
        comparisons.take_pairs(decoded)
        msgspec.json.encode(comparisons.figures(decoded.pipeline))
    for account in ledger.accounts.values():
        messages += [HealthReader(ORIGIN).pipeline(account, now()), model_reported(ORIGIN, account, now())]
    for message in messages:
        msgspec.json.encode(message)


@pytest.mark.parametrize("pipeline", ["c", "a/#", "", "../a", "a\0", "A"])
def test_a_worker_speaks_about_no_other_pipeline(pipeline: str) -> None:
    for record in (
        result(pipeline=pipeline),
        Heartbeat({"a": Figures(), pipeline: Figures()}, {}),
        Transition(pipeline, "running"),
        WindowTimes(pipeline, 1, 1, 1, 1, 1),
        Notice(pipeline, "gap", ""),
        EventDetected(
            pipeline, LineEvent(line="gate", direction="forward", id=1, label="cat", forward=1, backward=0)
        ),
        Need(1, pipeline, "edgetpu"),
        SwapReport(pipeline, 1, "begun"),
        Snapshot(pipeline, 0, 0, 0, JPEG),
        kept(pipeline),
        NeedShadow(1, pipeline),
        Pairs(pipeline, "m", 1, "n", 2, []),
        ShadowFailed(pipeline, "n", 2, ""),
        Expected(pipeline, "m", 1),
    ):
        with pytest.raises(UnreadableError, match="no pipeline of its source"):
            said(record)


def test_an_output_becomes_json_that_the_supervisor_wrote() -> None:
    (item,) = said(result(output={"label": "a\nb", 1: [math.nan, b"x"]})).items
    assert bytes(item.output) == b'{"label":"a\\nb","1":[null,"eA=="]}'


@pytest.mark.parametrize(
    "output", [{1.5: 0, "x": msgspec.msgpack.Ext(1, b"")}, "x" * LARGEST_OUTPUT, [0] * LARGEST_OUTPUT]
)
def test_an_output_that_is_too_large_or_no_json_is_refused(output: object) -> None:
    with pytest.raises(UnreadableError):
        said(result(output=output))


def test_an_output_within_the_limit_is_taken() -> None:
    assert len(bytes(said(result(output="x" * (LARGEST_OUTPUT - 5))).items[0].output)) == LARGEST_OUTPUT - 3


@pytest.mark.parametrize(
    "record",
    [
        Transition("a", "running", "two\nlines"),
        Transition("a", "running", "\x1b[31m"),
        Transition("a", "running", delegate_share=math.nan),
        Transition("a", "running", delegate_share=1.01),
        Transition("a", "running", placement=Placed(math.inf)),
        Transition("a", "running", placement=Placed(1.0, speed=math.nan)),
        Transition("a", "running", placement=Placed(1.0, device="x" * 1000)),
        Transition("a", "running", placement=Placed(1.0, left={"op": -1})),
        Transition("a", "running", placement=Placed(1.0, left={str(i): 1 for i in range(10_000)})),
        Transition("a", "running", sandbox=["x"] * 100),
        Notice("a", "gap", "\0"),
        *(EventDetected("a", one) for one in BAD_EVENTS),
        Snapshot("a", 0, 0, 0, b""),
        Snapshot("a", 0, 0, 0, b"\xff\xd8\xff"),
        Snapshot("a", 0, 0, 0, b"\x89PNG" + JPEG),
        Snapshot("a", 0, 0, 0, b"\xff\xd8\xff" + bytes(LARGEST_SNAPSHOT) + b"\xff\xd9"),
        Snapshot("a", 0, 1 << 63, 0, JPEG),
        kept("a", reasons=[]),
        kept("a", reasons=["because"]),
        kept("a", detail="two\nlines"),
        kept("a", answer="\x1b[2J"),
        kept("a", answer=["x", "\0"]),
        kept("a", answer=math.nan),
        kept("a", score=1.1),
        kept("a", score=math.nan),
        kept("a", size=7),
        kept("a", size=1 << 30),
        kept("a", key="../.."),
        kept("a", output="\n"),
        kept("a", window={**WINDOW, "parts": [4]}),
        kept("a", window={**WINDOW, "parts": [8] * 100}),
        kept("a", window={**WINDOW, "shape": [1 << 24] * 8}),
        kept("a", window={**WINDOW, "dtype": "object"}),
        kept("a", window={**WINDOW, "channels": ["x", "y\n"]}),
        kept("a", window={**WINDOW, "rate": math.inf}),
        *(
            Pairs("a", "m", 1, "n", 2, [one])
            for one in (
                pair(ours=Answer(math.inf)),
                pair(theirs=Answer(math.nan)),
                pair(theirs=Answer("x\x1b[2J")),
                pair(theirs=Answer(["x\n"])),
                pair(theirs=Answer("x" * 65)),
                pair(theirs=Answer(["x"] * 33)),
                pair(theirs=Answer("x", 1.5)),
                pair(theirs=Answer("x", math.nan)),
                pair(agreement=-0.1),
                pair(agreement=math.nan),
                pair(theirs_us=-1.0),
                pair(theirs_us=math.inf),
                pair(ours_us=math.nan),
            )
        ),
        Pairs("a", "m", 1, "n", 2, [pair()] * (MOST_PAIRS + 1)),
        Pairs("a", "m", 1, "n", 2, [], errors=-1),
        Pairs("a", "m", 1, "n\n", 2, []),
        ShadowFailed("a", "n", 2, "two\nlines"),
        Expected("a", "m\n", 1),
        Expected("a", "m", -1),
        Expected("a", "m", 1, accuracy=math.nan),
        Expected("a", "m", 1, accuracy=1.5),
        Expected("a", "m", 1, slices={"site\x1b[2J": 0.5}),
        Expected("a", "m", 1, slices={"x" * 65: 0.5}),
        Expected("a", "m", 1, slices={f"s{n}": 0.5 for n in range(257)}),
        Expected("a", "m", 1, priors={f"c{n}": 0.5 for n in range(257)}),
        Expected("a", "m", 1, priors={"walk\n": 0.5}),
        Expected("a", "m", 1, priors={"walk": -0.5}),
        Expected("a", "m", 1, threshold=math.inf),
        Heartbeat({"a": Figures(levels=Levels(-1))}, {}),
        Heartbeat({"a": Figures(levels=Levels(1, (math.nan,), (0.0,)))}, {}),
        Heartbeat({"a": Figures(levels=Levels(1, (0.0,), (math.inf,)))}, {}),
        Heartbeat({"a": Figures(levels=Levels(1, (0.0,) * 65, (0.0,) * 65))}, {}),
        Heartbeat({"a": Figures(snapshots={"lost": 1})}, {}),  # type: ignore[dict-item]
        Heartbeat({"a": Figures(snapshots={"taken": -1})}, {}),
        Heartbeat({}, {"cause\n": 1}),
        Heartbeat({}, {}, Inputs(1.0, [1], ["x\x1b[2J"], [])),
        Heartbeat({}, {}, Inputs(math.nan, [1], [], [])),
        Heartbeat({}, {}, Inputs(-1.0, [1], [], [])),
        Heartbeat({}, {}, Inputs(1.0, [1], [], [[0.0]] * (MOST_SHOWN_ROWS + 1))),
        Heartbeat({}, {}, Inputs(1.0, [1], [], [[0.0] * (MOST_SHOWN_CHANNELS + 1)])),
    ],
)
def test_texts_and_numbers_that_nothing_can_show_are_refused(record: object) -> None:
    with pytest.raises((UnreadableError, msgspec.ValidationError)):
        said(record)


def test_only_what_was_asked_is_answered_and_only_once() -> None:
    assert bytes(said(Answered(3, result={"inputs": []}), {3: Capture}).result) == b'{"inputs":[]}'
    assert said(Answered(0), {0: SetLogLevel}).error == ""
    for number, asked in ((4, {3: Capture}), (3, {})):
        with pytest.raises(UnreadableError, match="not asked"):
            said(Answered(number), asked)
    for question in (SetLogLevel, RunWindows):
        with pytest.raises(UnreadableError):
            said(Answered(3, result={"anything": 1}), {3: question})


@given(st.text(max_size=3 * LONGEST_TEXT))
def test_what_a_worker_cleans_is_believed(text: str) -> None:
    cleaned = border.cleaned(text)
    assert said(Transition("a", "failed", cleaned)).reason == cleaned


def test_cleaning_leaves_no_surrogate_and_no_line_break() -> None:
    assert border.cleaned("a\ud800\n\x1b[1mb") == "a   [1mb"


@given(st.dictionaries(st.text(max_size=80), st.integers(0, 9), max_size=3 * MOST_CAUSES))
def test_causes_beyond_the_limit_are_counted_as_other(counts: dict[str, int]) -> None:
    folded = border.folded(counts)
    assert len(folded) <= MOST_CAUSES
    assert sum(folded.values()) == sum(counts.values())
    assert said(Heartbeat({"a": Figures()}, folded)).dropped == folded


def test_counts_stay_numbers_that_can_be_written_however_many_a_worker_adds() -> None:
    account = Account("a", "d/a/1-a/", Transition("a", "stopped"))
    most = 1 << 40
    for _ in range(1 << 14):
        account.add(Figures(errors=most, discarded=most, looked_at=most, clipped=most), {"queue": most})
    health = msgspec.json.decode(msgspec.json.encode(HealthReader(ORIGIN).pipeline(account, now())))
    assert health["errors"] == health["dropped"]["queue"] == health["dropped"]["gap"] == (1 << 53) - 1
    assert health["clipped"] == 1.0


def test_causes_of_many_heartbeats_do_not_add_up_without_end() -> None:
    account = Account("a", "d/a/1-a/", Transition("a", "stopped"))
    for number in range(1000):
        account.add(Figures(discarded=1), {f"cause {number}": 1, "crc": 1})
    assert len(account.dropped) <= MOST_CAUSES + 1
    assert account.dropped["crc"] == 1000
    assert account.dropped["gap"] == 1000
    assert sum(account.dropped.values()) == 3000


MODEL = ModelFile(Path("m.tflite"), "m", 0, "")


def on(delegate: str) -> PipelineAssignment:
    return PipelineAssignment("a", ("s",), MODEL, PipelineOptions(delegates=[delegate]))


PIPELINE = on("edgetpu")


def need(number: int, pipeline: str = "a", delegate: str = "edgetpu", revision: int = 1) -> Need:
    return Need(number, pipeline, delegate, revision)


def test_an_executor_is_for_a_delegate_that_the_configuration_names() -> None:
    executors = Executors()
    assert executors.refusal(need(1), PIPELINE, 1, 0.0) == ""
    assert "no delegate '/tmp/evil.so'" in executors.refusal(need(2, delegate="/tmp/evil.so"), PIPELINE, 1, 0.0)  # noqa: S108
    assert "no delegate" in executors.refusal(need(3, pipeline="gone"), None, 1, 0.0)
    assert "no delegate 'cpu'" in executors.refusal(need(4, delegate="cpu"), on("cpu"), 1, 0.0)


def test_a_pipeline_uses_two_executors_at_once_and_no_number_twice() -> None:
    executors = Executors()
    executors.add(100, need(1))
    with pytest.raises(UnreadableError, match="twice"):
        executors.refusal(need(1), PIPELINE, 1, 0.0)
    for number in range(1, MOST_IN_USE):
        executors.add(100 + number, need(1 + number))
    with pytest.raises(UnreadableError, match="more than 2 executors"):
        executors.refusal(need(9), PIPELINE, 1, 0.0)
    assert executors.refusal(need(9, revision=2), PIPELINE, 1, 0.0) == ""  # its successor, beside it
    executors.dismiss(1)
    assert executors.refusal(need(9), PIPELINE, 1, 0.0) == ""


def test_executors_that_do_not_end_when_killed_count() -> None:
    executors = Executors()
    for number in range(MOST_OF_A_PIPELINE):
        executors.add(number, need(number))
        assert executors.forked(number, 1000 + number) is None
        assert executors.dismiss(number) == [1000 + number]
    assert "have not ended" in executors.refusal(need(9), PIPELINE, 1, 0.0)
    ended = executors.ended(1000)
    assert ended
    assert ended.dismissed
    assert executors.refusal(need(9), PIPELINE, 1, 0.0) == ""


def test_one_that_is_dismissed_before_it_is_born_is_killed_at_its_birth() -> None:
    executors = Executors()
    executors.add(7, need(1))
    assert executors.dismiss() == []
    assert executors.not_forked_yet() == {7}
    assert executors.forked(7, 4711) == 4711


def test_asking_for_executors_without_end_is_refused() -> None:
    executors = Executors()
    for number in range(int(AT_ONCE)):
        executors.refusal(need(number), PIPELINE, 1, 0.0)
    with pytest.raises(UnreadableError, match="too often"):
        executors.refusal(need(99), PIPELINE, 1, 0.0)


def _packed(number: int, tag: bytes = b"\xdd") -> bytes:
    return tag + number.to_bytes(4, "big")


def _with(record: dict[str, Any], key: str, value: bytes) -> bytes:
    """Return a record with one more field, given as msgpack."""
    encoded = msgspec.msgpack.encode(record)
    return bytes([encoded[0] + 1]) + encoded[1:] + msgspec.msgpack.encode(key) + value


MOST = LARGEST_RECORD - 1000

MOVE = {"type": "Transition", "pipeline": "a", "state": "running"}
ANSWER = {"type": "Answered", "number": 1}
SAID: dict[str, Any] = dict.fromkeys(("model", "sha256", "limpet", "runtime", "delegate"), "m")
SAID |= {"version": 1, "delegate_share": 0.0, "placement": None, "run_us": []}
EXPANDING = {
    "results": _with(
        {"type": "Results"},
        "items",
        _packed(MOST // 11) + (b"\x9a" + b"\xa0\xa0\0\xa0\xc2" + b"\0" * 4 + b"\xc0") * (MOST // 11),
    ),
    "pipelines": _with(
        {"type": "Heartbeat", "dropped": {}},
        "pipelines",
        _packed(1 << 16, b"\xdf") + b"".join(b"\xa4" + f"{i:04x}".encode() + b"\x80" for i in range(1 << 16)),
    ),
    "parts of a sandbox": _with(MOVE, "sandbox", _packed(MOST // 3) + b"\xa2ab" * (MOST // 3)),
    "ops": _with(
        MOVE,
        "placement",
        _with(
            {"op_share": 0},
            "left",
            _packed(1 << 16, b"\xdf") + b"".join(b"\xa4" + f"{i:04x}".encode() + b"\1" for i in range(1 << 16)),
        ),
    ),
    "lists in a captured window": _with(
        ANSWER, "result", _packed(border.LARGEST_CAPTURE - 9) + b"\x90" * (border.LARGEST_CAPTURE - 9)
    ),
    "lists of a captured tensor": _with(
        ANSWER,
        "result",
        msgspec.msgpack.encode(
            {"inputs": [{"name": "x", "shape": [65536, *[1] * 7], "dtype": "int8", "values": [0] * 65536}]}
        ),
    ),
    "numbers of an output": _with(
        {**ANSWER, "number": 2},
        "result",
        _with(
            SAID, "outputs", b"\x91" + _with({"shape": [1]}, "values", _packed(MOST - 300) + b"\0" * (MOST - 300))
        ),
    ),
    "outputs": _with(
        {**ANSWER, "number": 2},
        "result",
        _with(SAID, "outputs", _packed(MOST // 13) + b"\x82\xa5shape\x90\xa4data\xa0" * (MOST // 16)),
    ),
    "ops of an answer": _with(
        {**ANSWER, "number": 2}, "result", _with({**SAID, "placement": {"op_share": 7}}, "outputs", b"\x90")
    ),
}
"""Records within the limit on bytes that would be many times as large as objects."""


@pytest.mark.parametrize("name", EXPANDING)
def test_a_record_that_would_take_many_times_its_bytes_is_refused(name: str) -> None:
    data = EXPANDING[name]
    assert len(data) <= LARGEST_RECORD
    tracemalloc.start()
    try:
        with pytest.raises((UnreadableError, msgspec.DecodeError)):
            border.check(DECODER.decode(data), {"a"}, {1: Capture, 2: RunWindows})
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [[], [3], [1, 3], [2, 3, 1]])
def test_a_captured_window_comes_out_as_the_lists_of_its_shape(shape: list[int]) -> None:
    values = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    tensor = {"name": "x", "shape": shape, "dtype": "float32", "values": values.ravel().tolist()}
    answer = said(Answered(1, result={"inputs": [tensor]}), {1: Capture})
    assert msgspec.json.decode(answer.result) == {"inputs": [{**tensor, "values": values.tolist()}]}


def test_every_version_that_a_manifest_may_have_can_be_reported() -> None:
    (limit,) = [info.le for info in typing.get_type_hints(Manifest, include_extras=True)["version"].__metadata__]
    assert said(result(version=limit)).items[0].version == limit
    assert said(Transition("a", "running", version=limit)).version == limit


def test_a_window_with_more_inputs_or_dimensions_than_an_answer_holds_is_an_error() -> None:
    for inputs in ([np.zeros(1)] * 300, [np.zeros((1,) * 9)]):
        answer = captured_answer(1, ["x"] * len(inputs), inputs)
        assert "are not sent" in said(answer, {1: Capture}).error


def test_a_picture_within_the_limits_is_taken() -> None:
    largest = b"\xff\xd8\xff".ljust(LARGEST_SNAPSHOT - 2, b"x") + b"\xff\xd9"
    assert said(Snapshot("a", 1, 2, 3, largest)).jpeg == largest


@pytest.mark.parametrize(
    "answer",
    [
        {"time": "now", "sample": 1, "width": 1, "height": 1, "bytes": 1},
        {"time": now(), "sample": 1, "width": 1, "height": 1, "bytes": 1, "more": "x" * 2000},
        {"sample": 1},
        [1],
    ],
)
def test_the_answer_to_a_command_for_a_picture_says_what_it_shows_and_no_more(answer: object) -> None:
    with pytest.raises(UnreadableError):
        said(Answered(3, result=answer), {3: TakeSnapshot})


def explanation(**changes: Any) -> Explained:
    found = Explanation(
        answer="walk",
        label="walk",
        value=0.9,
        hidden=0.1,
        by="channels",
        method="shapley",
        baseline="mean",
        exact=True,
        invokes=10,
        shape=[1],
        parts=[Importance(name="ax", value=0.8, error=0.1)],
        changes=[Change(kind="shift", parts=["ax"], size=1.5, spreads=1.0, answer="rest")],
    )
    found = msgspec.structs.replace(found, **changes)
    return Explained(model="m", version=1, time=now(), sample=3, explanation=found)


def test_an_explanation_is_passed_on_as_it_is() -> None:
    sent = explanation()
    answer = said(Answered(3, result=sent), {3: ExplainWindow})
    assert msgspec.json.decode(answer.result, type=Explained) == sent


@pytest.mark.parametrize(
    "changes",
    [
        {"label": "\x1b[31m"},
        {"label": "x" * 1000},
        {"answer": "two\nlines"},
        {"value": math.nan},
        {"by": "smells"},
        {"notes": ["\0"]},
        {"notes": ["x" * 300]},
        {"shape": [1] * 3},
        {"parts": [Importance(name="ax", value=math.inf)]},
        {"parts": [Importance(name="a\nx", value=0.0)]},
        {"parts": [Importance(name="ax", value=0.0)] * 1025},
        {"cut": (0.0, 0.0, math.nan, 1.0)},
        {"changes": [Change(kind="hide", parts=["\0"], size=0.5)]},
        {"changes": [Change(kind="hide", parts=["ax"], size=math.nan)]},
        {"changes": [Change(kind="hide", parts=["ax"], size=0.5)] * 17},
    ],
)
def test_an_explanation_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((UnreadableError, msgspec.DecodeError)):
        said(Answered(3, result=explanation(**changes)), {3: ExplainWindow})
