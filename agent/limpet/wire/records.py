"""What crosses the border between a worker and the supervisor: msgpack records, never tensors.

The supervisor imports this module, so it imports no numpy. The limits here hold where a record is decoded.
``limpet.wire.border`` checks what a type cannot say.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from limpet.captures.form import LARGEST_BODY
from limpet.contracts.assignment import Assignment
from limpet.contracts.captures import LONGEST_DETAIL, Loss, Reason, WindowForm
from limpet.contracts.captures import Answer as ShortAnswer
from limpet.contracts.detected_events import DetectedEvent
from limpet.contracts.drift import MonitorFigures
from limpet.contracts.explanation import Question
from limpet.contracts.messages import MOST_IN_FORCE, Placed, State
from limpet.contracts.savings import Saver, SavingCounts
from limpet.contracts.uncertainty import Uncertainties
from limpet.histogram import BUCKETS
from limpet.learning.changes import Levels
from limpet.learning.expected import Expected
from limpet.updates.answers import Pairs

T = TypeVar("T")

TimedStep: TypeAlias = Literal["queue", "transform", "invoke", "decode"]
TIMED_STEPS: tuple[TimedStep, ...] = ("queue", "transform", "invoke", "decode")

SwapStep: TypeAlias = Literal["begun", "done", "failed"]

WorkerEvent: TypeAlias = Literal["gap", "rate", "clipped", "frames", "warning", "learned"]
"""Events that a worker may report with ``Notice``. The others are the supervisor's own."""

LARGEST_RECORD = 1 << 21
"""Bytes of a record from a worker."""
LARGEST_OUTPUT = 1 << 17
"""Bytes of one result's output, as msgpack."""
LARGEST_SNAPSHOT = 256_000
"""Bytes of the JPEG of a snapshot."""
MOST_KEPT_FILES = 8
"""Files of windows for the ring that a worker has sent, and that were not read yet."""
LONGEST_TEXT = 1000
"""Characters of a reason."""
LONGEST_NAME = 64
"""Characters of a name, and of a cause of dropped samples."""
MOST_CAUSES = 32
"""Causes of dropped samples in one heartbeat, and in the health of one pipeline."""

MOST_SHOWN_CHANNELS, MOST_SHOWN_ROWS = 16, 8
"""Values of a source that a heartbeat carries: of so many channels, and so many samples."""

MOST_RESULTS = 1024
"""Results in one record."""
MOST_PIPELINES = 1024
"""Pipelines in one heartbeat."""
MOST_TENSORS, MOST_DIMENSIONS = 256, 8
"""Tensors in an answer, and the dimensions of each."""
MOST_CAPTURED = 65_536
"""Numbers in a captured window: its answer is one message."""

Text = Annotated[str, Meta(max_length=LONGEST_TEXT)]
Name = Annotated[str, Meta(max_length=LONGEST_NAME)]
DelegateName = Annotated[str, Meta(max_length=512)]
"""The name of a delegate, which may have a library's path in it."""
NonNegative = Annotated[int, Meta(ge=0, le=1 << 40)]
ModelVersion = Annotated[int, Meta(ge=0, le=1 << 53)]
"""As large as a manifest may say."""
Times = Annotated[int, Meta(ge=0, le=1 << 32)]
BucketIndex = Annotated[int, Meta(ge=0, lt=BUCKETS)]
Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class Result(msgspec.Struct, Generic[T], array_like=True):
    """What a pipeline concluded from one window.

    The times, in nanoseconds, are those of the window's last sample: ``monotonic_ns`` for durations,
    ``wall_ns`` for people. ``sample`` is that sample's ordinal in its source. ``latency_ns`` runs from the
    last sample to the decoded output. ``output``, of type ``T``, is the decoder's: a mapping, or a struct that
    encodes as one.
    """

    pipeline: Name
    model: Name
    version: ModelVersion
    delegate: DelegateName
    degraded: bool
    monotonic_ns: Int64
    wall_ns: Int64
    sample: Int64
    latency_ns: Int64
    output: T


class RawResult(Result[msgspec.Raw], array_like=True):
    """A result as it is received: the bytes of its output are looked at later, one result at a time."""

    output: msgspec.Raw


class Results(msgspec.Struct, tag=True):
    """Results in the order in which they were made, possibly of several pipelines."""

    items: list[Result[Any]]


class RawResults(msgspec.Struct, tag="Results"):
    """Results as they are received."""

    items: Annotated[list[RawResult], Meta(max_length=MOST_RESULTS)]


SnapshotStep: TypeAlias = Literal["taken", "skipped", "failed"]


class Figures(msgspec.Struct, omit_defaults=True):
    """What happened in one pipeline since the figures before.

    ``discarded`` counts samples that are in no window, because of a gap. ``looked_at`` counts windows that
    were compared with the range of the model's quantized input, and ``clipped`` those that exceeded it.
    ``latency`` has a sparse histogram for each stage, see ``limpet.histogram``. ``snapshots`` is empty if there
    are none, and so is ``savings``. ``uncertainty`` is ``None`` if no result was made that can abstain, and so is
    ``monitors`` if there are none. ``lost`` counts windows that were not kept.
    ``levels``: means of channels, if offsets are adapted.
    """

    errors: NonNegative = 0
    discarded: NonNegative = 0
    looked_at: NonNegative = 0
    clipped: NonNegative = 0
    latency: dict[TimedStep, dict[BucketIndex, Times]] = msgspec.field(default_factory=dict)
    snapshots: dict[SnapshotStep, NonNegative] = {}
    savings: dict[Saver, SavingCounts] = {}
    uncertainty: Uncertainties | None = None
    monitors: MonitorFigures | None = None
    lost: dict[Loss, NonNegative] = {}
    levels: Levels | None = None


class Inputs(msgspec.Struct):
    """What came from a source since the heartbeat before: samples a second, and the values of a few of them.

    ``rows``: oldest first, with the values of the first channels. ``shape`` is that of one sample.
    """

    rate: Annotated[float, Meta(ge=0, le=1e12)]
    shape: Annotated[list[NonNegative], Meta(max_length=MOST_DIMENSIONS)]
    channels: Annotated[list[Name], Meta(max_length=MOST_SHOWN_CHANNELS)]
    rows: Annotated[
        list[Annotated[list[float], Meta(max_length=MOST_SHOWN_CHANNELS)]], Meta(max_length=MOST_SHOWN_ROWS)
    ]


class Heartbeat(msgspec.Struct, tag=True):
    """A sign of progress. ``dropped`` counts samples by cause since the heartbeat before."""

    pipelines: Annotated[dict[Name, Figures], Meta(max_length=MOST_PIPELINES)]
    dropped: Annotated[dict[Name, NonNegative], Meta(max_length=MOST_CAUSES)]
    inputs: Inputs | None = None


class Transition(msgspec.Struct, tag=True, omit_defaults=True):
    """A pipeline came into another state, or is in it with another delegate or model.

    ``placement`` is that of a delegate other than the CPU, ``sandbox`` what the worker has given up. ``revision``
    is that of the assignment that it runs, see ``Assign``.
    """

    pipeline: Name
    state: State
    reason: Text = ""
    model: Name = ""
    version: ModelVersion = 0
    delegate: DelegateName = ""
    delegate_share: float = 0.0
    degraded: bool = False
    placement: Placed | None = None
    sandbox: Annotated[list[str], Meta(max_length=MOST_IN_FORCE)] = []
    revision: NonNegative = 0


class SwapReport(msgspec.Struct, tag=True, omit_defaults=True):
    """A pipeline that runs is being changed to another revision of its assignment, see ``Assign``.

    ``begun``: the successor is being opened. ``done``: it has run its first window. ``failed``: the old pipeline
    goes on. ``reason`` says what took over, or why not.
    """

    pipeline: Name
    revision: NonNegative
    step: SwapStep
    reason: Text = ""


class Notice(msgspec.Struct, tag=True):
    """Something worth an event that changes no state, such as a gap in the samples."""

    pipeline: Name
    event: WorkerEvent
    reason: Text


class WindowTimes(msgspec.Struct, tag=True):
    """How long the stages of one window took, in ns. It comes before the window's result.

    ``sample`` and ``monotonic_ns`` are those of the result.
    """

    pipeline: Name
    sample: Int64
    monotonic_ns: Int64
    transform_ns: Int64
    invoke_ns: Int64
    decode_ns: Int64


class Snapshot(msgspec.Struct, tag=True):
    """A picture of one result, as a JPEG: what was found is drawn into it. The times are those of the result."""

    pipeline: Name
    monotonic_ns: Int64
    wall_ns: Int64
    sample: Int64
    jpeg: Annotated[bytes, Meta(max_length=LARGEST_SNAPSHOT)]


class Kept(msgspec.Struct, tag=True, kw_only=True, omit_defaults=True):
    """A window for the ring of captures. A file in memory with the body of its capture file comes along.

    The times, the sample and the model are those of its result. ``size``: bytes of the body. ``key``: the id of
    the public key that it is encrypted for. The rest is as in ``limpet.contracts.captures.Capture``.
    """

    pipeline: Name
    monotonic_ns: Int64
    wall_ns: Int64
    sample: Int64
    model: Name
    version: ModelVersion
    reasons: Annotated[list[Reason], Meta(min_length=1, max_length=7)]
    detail: Annotated[str, Meta(max_length=LONGEST_DETAIL)] = ""
    answer: ShortAnswer = None
    score: Annotated[float, Meta(ge=0, le=1)] | None = None
    output: Name = ""
    window: WindowForm
    size: Annotated[int, Meta(ge=0, le=LARGEST_BODY)]
    key: Annotated[str, Meta(pattern=r"^([0-9a-f]{16})?\Z")] = ""


class KeptFile(msgspec.Struct):
    """A window for the ring of captures, and the file with its body. It crosses no border."""

    record: Kept
    file: Any

    @property
    def pipeline(self) -> str:
        """The pipeline whose window it is."""
        return self.record.pipeline


class EventDetected(msgspec.Struct, tag=True):
    """An event of a decoder or a postprocess stage. ``wall_ns``: its Unix time, ``None`` for now."""

    pipeline: Name
    event: DetectedEvent
    wall_ns: Int64 | None = None


class LeftOut(msgspec.Struct):
    """An event of a worker was not passed on. It crosses no border."""

    pipeline: str


NIL = b"\xc0"
"""Nothing, as msgpack."""


class Answered(msgspec.Struct, tag=True, omit_defaults=True):
    """The answer to an ``Ask``; ``error`` says why it could not be done."""

    number: NonNegative
    error: Text = ""
    result: Any = None


class RawAnswered(msgspec.Struct, tag="Answered"):
    """An answer as it is received."""

    number: NonNegative
    error: Text = ""
    result: msgspec.Raw = msgspec.Raw(NIL)


class CapturedTensor(msgspec.Struct):
    """An input of a model, its numbers row by row. As a tree of lists they could take 60 times their bytes."""

    name: Text
    shape: Annotated[list[Annotated[int, Meta(ge=1, le=MOST_CAPTURED)]], Meta(max_length=MOST_DIMENSIONS)]
    dtype: Name
    values: Annotated[list[int | float | bool], Meta(max_length=MOST_CAPTURED)]


class CapturedWindow(msgspec.Struct):
    """What the model of a pipeline was given, as its worker answers ``Capture``."""

    inputs: Annotated[list[CapturedTensor], Meta(max_length=MOST_TENSORS)]


class Need(msgspec.Struct, tag=True):
    """Start an executor for a pipeline on one of its delegates, and hand over its socket with ``ExecutorSocket``.

    The worker chooses the number. The supervisor gives the executor the assignment with this revision.
    """

    number: NonNegative
    pipeline: Name
    delegate: DelegateName
    revision: NonNegative = 0


class Dismiss(msgspec.Struct, tag=True):
    """Kill this executor: it is not needed any more."""

    number: NonNegative


class NeedShadow(msgspec.Struct, tag=True):
    """Start the shadow of a pipeline, and hand over its socket with ``ExecutorSocket``.

    The worker chooses the number, as for executors. The supervisor decides which model the process loads.
    """

    number: NonNegative
    pipeline: Name


class ShadowFailed(msgspec.Struct, tag=True):
    """The shadow of a pipeline did not open, hung or crashed, for this reason. Its process is gone."""

    pipeline: Name
    shadow: Name
    shadow_version: ModelVersion
    reason: Text


class Incident(msgspec.Struct):
    """An event that the supervisor itself found. It crosses no border.

    ``sha256``: of ``swap_failed``, the model that did not take over from another one. ``why``: what was wrong.
    """

    pipeline: str
    event: str
    reason: str
    sha256: str = ""
    why: str = ""


FromWorker: TypeAlias = (
    RawResults
    | Heartbeat
    | Transition
    | SwapReport
    | Notice
    | EventDetected
    | Snapshot
    | Kept
    | WindowTimes
    | RawAnswered
    | Need
    | Dismiss
    | NeedShadow
    | Pairs
    | ShadowFailed
    | Expected
)
ToSupervisor: TypeAlias = (
    RawResults
    | Heartbeat
    | Transition
    | Notice
    | EventDetected
    | LeftOut
    | Snapshot
    | KeptFile
    | WindowTimes
    | RawAnswered
    | Incident
    | Pairs
    | ShadowFailed
    | Expected
)
"""What is not for the fleet alone."""


class Assign(msgspec.Struct, tag=True):
    """Run these pipelines of one cell.

    ``revisions`` numbers the assignment of each pipeline: a pipeline that runs with this number is left alone.
    ``proven`` has the pipelines whose newer assignment failed: each runs an earlier one, which is given alone.
    ``prove``: pipelines that have another model to go back to. They are proven before they run.
    """

    assignment: Assignment
    revisions: dict[str, int] = {}
    proven: dict[str, Assignment] = {}
    prove: list[str] = []

    def of(self, pipeline: str) -> Assignment:
        """Return the assignment that a pipeline runs."""
        return self.proven.get(pipeline, self.assignment)


class Stop(msgspec.Struct, tag=True):
    """Finish the window at hand, hand over its result, and exit."""


class SetLogLevel(msgspec.Struct, tag=True):
    """Log from this level on: DEBUG, INFO, WARNING or ERROR."""

    level: str


class SetThreshold(msgspec.Struct, tag=True):
    """Have a pipeline's decoder use another threshold, until the pipeline is started again."""

    pipeline: str
    value: float


class Capture(msgspec.Struct, tag=True):
    """Send what the model of a pipeline is given for its next window."""

    pipeline: str


class KeepWindows(msgspec.Struct, tag=True):
    """Put the next windows of a pipeline into the ring of captures, and answer then."""

    pipeline: str
    windows: int


class TakeSnapshot(msgspec.Struct, tag=True):
    """Send a picture of the last result of a pipeline, and then what it shows."""

    pipeline: str


class DrawPicture(msgspec.Struct, tag=True):
    """Answer with a picture of the last result of a pipeline, a JPEG, which goes to no reporter."""

    pipeline: str


class EnrolLabel(msgspec.Struct, tag=True):
    """Take the next windows of a pipeline as examples of a label."""

    pipeline: str
    label: str
    windows: int


class ForgetLabel(msgspec.Struct, tag=True):
    """Remove a label that was enrolled in a pipeline."""

    pipeline: str
    label: str


class UndoLabels(msgspec.Struct, tag=True):
    """Take back the last changes of the labels that were enrolled in a pipeline."""

    pipeline: str
    count: int


class RunWindows(msgspec.Struct, tag=True):
    """Send what the model of a pipeline makes of windows. A file with them comes along as a descriptor."""

    pipeline: str


class ExplainWindow(msgspec.Struct, tag=True):
    """Answer with an explanation of the next window of a pipeline."""

    pipeline: str
    question: Question


class Ask(msgspec.Struct, tag=True):
    """Do this and answer with ``Answered`` under the same number."""

    number: int
    what: (
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
    )


class ExecutorSocket(msgspec.Struct, tag=True):
    """The worker's end of the socket of an executor that it requested. It comes along as a file descriptor."""

    number: int


class ModelSocket(msgspec.Struct, tag=True):
    """Serve the model of a pipeline on this socket, which comes along: ``limpet.wire.guest_records``."""

    pipeline: str


ToWorker: TypeAlias = Assign | Stop | Ask | ExecutorSocket | ModelSocket
