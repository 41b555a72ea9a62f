"""What the supervisor believes of what a worker sends. Decides, without I/O.

A worker parses bytes that someone else wrote, so it may have been taken over. Its channel limits the size and the
types of a record. Here is the rest: a worker speaks only about its own pipelines, and within limits. Whatever is
wrong is ``UnreadableError``, and ends that worker alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from limpet.captures import form
from limpet.contracts.commands import MOST_WINDOWS
from limpet.contracts.detected_events import KeywordEvent, LineEvent
from limpet.contracts.explanation import LONGEST_PART, Explained
from limpet.contracts.messages import MOST_IN_FORCE, MOST_OPS, Enrolled, Inferred, KeepTaken, SnapshotTaken
from limpet.errors import UnreadableError
from limpet.learning.expected import Expected
from limpet.untrusted import reading
from limpet.updates.answers import Pairs
from limpet.wire.records import (
    LARGEST_OUTPUT,
    LARGEST_RECORD,
    LARGEST_SNAPSHOT,
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_CAPTURED,
    MOST_CAUSES,
    MOST_DIMENSIONS,
    MOST_TENSORS,
    NIL,
    Capture,
    CapturedWindow,
    Dismiss,
    DrawPicture,
    EnrolLabel,
    EventDetected,
    ExplainWindow,
    ForgetLabel,
    Heartbeat,
    KeepWindows,
    Kept,
    Notice,
    RawAnswered,
    RawResult,
    RawResults,
    RunWindows,
    SetLogLevel,
    SetThreshold,
    ShadowFailed,
    Snapshot,
    SwapReport,
    TakeSnapshot,
    Transition,
    UndoLabels,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from limpet.contracts.drift import MonitorFigures
    from limpet.contracts.explanation import Explanation
    from limpet.contracts.messages import Placed
    from limpet.updates.answers import Answer
    from limpet.wire.records import CapturedTensor, FromWorker

    Question = type[
        SetLogLevel
        | SetThreshold
        | Capture
        | KeepWindows
        | TakeSnapshot
        | DrawPicture
        | EnrolLabel
        | ForgetLabel
        | RunWindows
        | ExplainWindow
        | UndoLabels
    ]

OTHER = "other"
"""The cause under which dropped samples are counted once there are ``MOST_CAUSES`` others."""
LARGEST_EXPLANATION = 1 << 18
"""Bytes of an explanation as msgpack."""
LARGEST_CAPTURE = 640 * 1024
"""Bytes of a captured window as msgpack: ``MOST_CAPTURED`` numbers, and what they are called."""
JPEG_BEGIN, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
MOST_LISTS = 4 * MOST_CAPTURED
"""Lists into which the numbers of one captured tensor are put."""


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    """A ``Tensor`` whose numbers are bytes, as workers send it: lists of numbers take 30 times as much."""

    shape: Annotated[list[int], Meta(max_length=MOST_DIMENSIONS)]
    data: bytes
    dtype: str = "float32"


class _Inferred(Inferred, kw_only=True):
    """``Inferred`` within limits."""

    outputs: Annotated[list[_Output], Meta(max_length=MOST_TENSORS)]  # type: ignore[assignment]
    run_us: Annotated[list[float], Meta(max_length=MOST_WINDOWS)]


_ANSWERS: dict[type, tuple[Any, int]] = {
    Capture: (CapturedWindow, LARGEST_CAPTURE),
    RunWindows: (_Inferred, LARGEST_RECORD),
    TakeSnapshot: (SnapshotTaken, 1024),
    KeepWindows: (KeepTaken, 64),
    DrawPicture: (bytes, LARGEST_SNAPSHOT + 8),
    EnrolLabel: (Enrolled, 1 << 17),
    ForgetLabel: (Enrolled, 1 << 17),
    ExplainWindow: (Explained, LARGEST_EXPLANATION),
    UndoLabels: (Enrolled, 1 << 17),
}
"""Type and largest size of the answers that are more than "done", by question."""
_VALUE = msgspec.msgpack.Decoder()
_JSON = msgspec.json.Encoder()
"""JSON that this process wrote itself is valid wherever it is put."""


def check(record: FromWorker, own: Collection[str], questions: Mapping[int, Question]) -> None:
    """See that a worker may say this. ``UnreadableError`` says why not.

    ``own`` are the names of its pipelines, ``questions`` those that it has not answered, by number. Outputs
    and answers become JSON.
    """
    for pipeline in _pipelines(record):
        if pipeline not in own:
            raise UnreadableError(f"it sent a record about {pipeline!r}, which is no pipeline of its source")
    if isinstance(record, RawResults):
        _check_results(record.items)
    elif isinstance(record, Heartbeat):
        _check_heartbeat(record)
    elif isinstance(record, Transition):
        _check_transition(record)
    elif isinstance(record, Snapshot | Kept):
        _check_kept(record) if isinstance(record, Kept) else _check_snapshot(record)
    elif isinstance(record, RawAnswered):
        _check_answer(record, questions)
    elif isinstance(record, Pairs):
        _check_pairs(record)
    elif isinstance(record, Notice | SwapReport | EventDetected | ShadowFailed | Expected):
        _refuse_unprintable(*_texts(record))


def _check_heartbeat(record: Heartbeat) -> None:
    _refuse_unprintable(*record.dropped, *(record.inputs.channels if record.inputs else ()))
    for figures in record.pipelines.values():
        if figures.monitors is not None:
            check_monitors(figures.monitors)


def _texts(record: Notice | SwapReport | EventDetected | ShadowFailed | Expected) -> Sequence[str]:
    if isinstance(record, Expected):
        return (record.model, *record.slices, *record.priors)
    if isinstance(record, ShadowFailed):
        return (record.shadow, record.reason)
    if not isinstance(record, EventDetected):
        return (record.reason,)
    event = record.event
    return (event.label,) if isinstance(event, LineEvent | KeywordEvent) else (event.label, event.reason)


def _pipelines(record: FromWorker) -> Collection[str]:
    """Return the pipelines that a record is about."""
    if isinstance(record, RawResults):
        return {result.pipeline for result in record.items}
    if isinstance(record, Heartbeat):
        return record.pipelines
    return () if isinstance(record, RawAnswered | Dismiss) else (record.pipeline,)


def _check_results(results: Sequence[RawResult]) -> None:
    """Check results, and turn their outputs into JSON. This takes most of the time that a result costs here."""
    _refuse_unprintable(*{name for result in results for name in (result.model, result.delegate)})
    with reading("a value"):
        for result in results:
            result.output = msgspec.Raw(_output_as_json(result.output))


def check_output(data: bytes) -> None:
    """See that a result may have this output, as msgpack. ``UnreadableError`` says why not."""
    with reading("a value"):
        _output_as_json(data)


def _output_as_json(data: msgspec.Raw | bytes) -> bytes:
    _refuse_large(data, LARGEST_OUTPUT)
    return _JSON.encode(_VALUE.decode(data))


def _check_snapshot(record: Snapshot) -> None:
    """Check that a snapshot begins and ends as a JPEG does. The programs that show it decode it."""
    _refuse_no_jpeg(record.jpeg)


def _check_kept(record: Kept) -> None:
    """Check what the header of a capture file is made of. Its body is never read here."""
    window, answer = record.window, record.answer
    labels = [answer] if isinstance(answer, str) else answer if isinstance(answer, list) else []
    texts = (record.model, record.detail, record.output, window.changed)
    _refuse_unprintable(*texts, *labels, *window.channels, *window.units)
    if isinstance(answer, float) and not math.isfinite(answer):
        raise UnreadableError("it sent an answer that is no finite number")
    if sum(window.parts) > record.size:
        raise UnreadableError(f"it sent a window of {sum(window.parts)} bytes in {record.size} bytes")
    form.check_window(window, "what it sent")


def _refuse_no_jpeg(jpeg: bytes) -> None:
    if not (jpeg.startswith(JPEG_BEGIN) and jpeg.endswith(JPEG_END)):
        raise UnreadableError("it sent a picture that is no JPEG")


def _check_pairs(record: Pairs) -> None:
    """Check what two models answered."""
    _refuse_unprintable(record.model, record.shadow)
    for pair in record.items:
        for answer in (pair.ours, pair.theirs):
            _check_short_answer(answer)


def _check_short_answer(answer: Answer) -> None:
    value = answer.value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UnreadableError("it sent an answer that is no finite number")
    elif value is not None:
        _refuse_unprintable(*([value] if isinstance(value, str) else value))


def _check_answer(record: RawAnswered, questions: Mapping[int, Question]) -> None:
    _refuse_unprintable(record.error)
    question = questions.get(record.number)
    if question is None:
        raise UnreadableError("it sent an answer to a question that it was not asked")
    if bytes(record.result) != NIL:
        kind, largest = _ANSWERS.get(question, (None, 1))
        _refuse_large(record.result, largest)
        with reading("a value"):
            answer = msgspec.msgpack.decode(record.result, type=kind)
            if isinstance(answer, Inferred) and answer.placement is not None:
                check_placed(answer.placement)
            if isinstance(answer, bytes):
                _refuse_no_jpeg(answer)
            if isinstance(answer, Explained):
                _check_explained(answer)
            shown = _shown(answer) if isinstance(answer, CapturedWindow) else answer
            record.result = msgspec.Raw(_JSON.encode(shown))


def _check_explained(explained: Explained) -> None:
    found = explained.explanation
    changes = found.changes or []
    _refuse_unprintable(explained.model, found.label, found.answer or "", *found.notes)
    _refuse_unprintable(*(part.name for part in found.parts))
    _refuse_unprintable(*(name for change in changes for name in (*change.parts, change.answer or "")))
    numbers = [found.value, found.hidden, *(found.cut or ())]
    numbers += [number for part in found.parts for number in (part.value, part.error or 0.0)]
    numbers += [number for change in changes for number in (change.size, change.spreads or 0.0)]
    if not all(map(math.isfinite, numbers)):
        raise UnreadableError("it sent an explanation with numbers that are not finite")


def _shown(window: CapturedWindow) -> dict[str, Any]:
    """Return a captured window as it is published."""
    return {
        "inputs": [
            {"name": one.name, "shape": one.shape, "dtype": one.dtype, "values": _nested(one)}
            for one in window.inputs
        ]
    }


def _nested(tensor: CapturedTensor) -> Any:
    """Return the numbers of a tensor as lists of lists."""
    shape, values = tensor.shape, tensor.values
    if math.prod(shape) != len(values) or lists_of(shape) > MOST_LISTS:
        raise UnreadableError(f"it sent {len(values)} numbers of shape {shape}")
    for size in reversed(shape[1:]):
        values = [values[i : i + size] for i in range(0, len(values), size)]  # type: ignore[misc]
    return values if shape else values[0]


def lists_of(shape: Sequence[int]) -> int:
    """Return how many lists a tensor of this shape is."""
    return sum(math.prod(shape[:depth]) for depth in range(len(shape)))


def _refuse_large(value: msgspec.Raw | bytes, largest: int) -> None:
    if (size := len(value)) > largest:
        raise UnreadableError(f"it sent a value of {size} bytes; the limit is {largest}")


def _check_transition(record: Transition) -> None:
    _refuse_unprintable(record.reason, record.model, record.delegate)
    if not 0 <= record.delegate_share <= 1:
        raise UnreadableError(f"it sent a share of {record.delegate_share}")
    if len(record.sandbox) > MOST_IN_FORCE:
        raise UnreadableError(f"it sent {len(record.sandbox)} parts of a sandbox")
    _refuse_long(*record.sandbox)
    if record.placement is not None:
        check_placed(record.placement)


def check_placed(placed: Placed) -> None:
    """Check an executor's report about a model's placement before it is passed on. Raise ``UnreadableError``."""
    shares = [share for share in (placed.op_share, placed.mac_share, placed.time_share) if share is not None]
    if not all(0 <= share <= 1 for share in shares):
        raise UnreadableError("it sent a share that is not between 0 and 1")
    if not all(math.isfinite(number) and number >= 0 for number in (placed.speed, placed.run_us)):
        raise UnreadableError("it sent a speed or a time that is no positive number")
    if math.isnan(placed.error) or len(placed.left) > MOST_OPS or len(placed.sandbox) > MOST_IN_FORCE:
        raise UnreadableError("it sent a placement with values out of range")
    if not all(0 <= count < 1 << 32 for count in placed.left.values()):
        raise UnreadableError("it sent a number of ops that is out of range")
    _refuse_long(placed.device, *placed.left, *placed.sandbox)


def check_monitors(figures: MonitorFigures) -> None:
    """Check what monitors saw. Raise ``UnreadableError``."""
    _refuse_unprintable(figures.problem, *figures.monitors, *figures.sketches)
    numbers: list[float] = []
    for state in figures.monitors.values():
        _refuse_unprintable(state.problem)
        numbers.append(state.level)
        if (alarm := state.alarm) is not None:
            _refuse_unprintable(alarm.reason, *(moved.name for moved in alarm.moved))
            numbers += (alarm.since_s, alarm.p_value)
            numbers += (number for moved in alarm.moved for number in (moved.before, moved.now))
    if not all(map(math.isfinite, numbers)):
        raise UnreadableError("it sent a number of a monitor that is not finite")


def _refuse_long(*names: str) -> None:
    for name in names:
        if len(name) > 2 * LONGEST_NAME:
            raise UnreadableError(f"it sent a name of {len(name)} characters")
    _refuse_unprintable(*names)


def _refuse_unprintable(*texts: str) -> None:
    for text in texts:
        if not text.isprintable():
            raise UnreadableError(f"it sent a text with characters that cannot be printed: {text[:40]!r}")


# --- for those who send


def cleaned(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text that ``check`` lets pass: printable, and not too long."""
    if len(text) > longest:
        text = text[: longest - 3] + "..."
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def cleaned_placed(placed: Placed) -> Placed:
    """Return a placement whose names ``check_placed`` lets pass."""
    longest = 2 * LONGEST_NAME
    left = {cleaned(name, longest): count for name, count in list(placed.left.items())[:MOST_OPS]}
    return msgspec.structs.replace(placed, left=left, device=cleaned(placed.device, longest))


def cleaned_explanation(found: Explanation) -> Explanation:
    """Return an explanation whose texts ``check`` lets pass. It is changed in place."""
    found.label = cleaned(found.label, LONGEST_PART)
    found.notes = [cleaned(note, 200) for note in found.notes[:8]]
    found.answer = None if found.answer is None else cleaned(found.answer, LONGEST_PART)
    for part in found.parts:
        part.name = cleaned(part.name, LONGEST_PART)
    for change in found.changes or ():
        change.parts = [cleaned(name, LONGEST_PART) for name in change.parts]
        change.answer = None if change.answer is None else cleaned(change.answer, LONGEST_PART)
    return found


def folded(counts: Mapping[str, int], known: Collection[str] = ()) -> dict[str, int]:
    """Return counts with no more causes than ``MOST_CAUSES``, ``known`` ones among them; the rest is ``OTHER``."""
    causes: dict[str, int] = {}
    for name, count in _cleaned_causes(counts):
        has_room = len({*known, *causes, OTHER}) < MOST_CAUSES
        cause = name if has_room or name in known or name in causes else OTHER
        causes[cause] = causes.get(cause, 0) + count
    return causes


def _cleaned_causes(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    for name, count in counts.items():
        yield cleaned(name, LONGEST_NAME), count
