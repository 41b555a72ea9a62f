"""What goes out of the device. The JSON Schemas under docs/schemas/ are made from these structs.

No numpy here: the supervisor makes these messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.accuracy import AccuracyHealth
from limpet.contracts.adaptation import AdaptationsHealth
from limpet.contracts.captures import CaptureHealth
from limpet.contracts.detected_events import DetectedEvent
from limpet.contracts.drift import DriftEvent, MonitorsHealth
from limpet.contracts.savings import Saver, Saving
from limpet.contracts.trust import TrustReport
from limpet.contracts.uncertainty import UncertaintyHealth
from limpet.contracts.updates import UpdateReport
from limpet.device.clock import Mark


class Origin(msgspec.Struct, frozen=True):
    """Who reports. ``boot`` names this run of the supervisor and never repeats; ``version`` is Limpet's."""

    device: str
    boot: str
    version: str


class ResultMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One result, on ``result/<pipeline>``. A batch is a JSON array of them, oldest first.

    ``id`` is ``device/pipeline/boot/sequence``. A redelivery has the same id. ``time`` is that of the newest
    sample of the result's window, in UTC. ``monotonic_ns`` is the same instant on the device's monotonic clock.
    ``sample`` is that sample's ordinal in its source. ``latency_us`` is the time from there to the decoded output.
    ``model`` and ``version``: which model answered. In a cascade that is one of two.
    ``clock``: the device did not know the time, so ``time`` counts from 1970. ``replayed``: the result could not
    be sent when it was made.
    """

    id: str
    device: str
    pipeline: str
    boot: str
    sequence: int
    time: datetime
    monotonic_ns: int
    sample: int
    model: str
    version: int
    delegate: str
    degraded: bool
    latency_us: float
    output: Any
    clock: Mark | None = None
    replayed: bool = False


EventDetails: TypeAlias = DetectedEvent | DriftEvent


class EventMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A change of state, on ``event/<pipeline>``; ``pipeline`` is empty for one of the whole device.

    ``clock`` is as in results. ``offset_s`` comes with ``clock_set``: by how many seconds the wall clock was set.
    ``details`` comes with ``object``, ``zone`` and ``line``, which a pipeline finds in pictures. ``time`` is then
    that of the picture. It comes with ``drift``, too.
    """

    device: str
    boot: str
    time: datetime
    event: str
    pipeline: str = ""
    reason: str = ""
    offset_s: float | None = None
    details: EventDetails | None = None
    clock: Mark | None = None
    replayed: bool = False


class StatusMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Whether the device is there, on ``status``, retained; the broker sends ``offline`` as last will."""

    device: str
    boot: str
    version: str
    status: Literal["online", "offline"]
    reason: str = ""


class StageLatency(msgspec.Struct, kw_only=True):
    """Latency of one stage in µs since the health message before.

    ``buckets`` is the histogram that the figures come from, mergeable, see ``limpet.histogram``.
    """

    count: int
    p50: float
    p95: float
    p99: float
    buckets: dict[str, int]


class SnapshotFigures(msgspec.Struct, kw_only=True):
    """Snapshots of a pipeline since the supervisor started.

    ``skipped``: one was wanted less than a second after another. ``failed``: it could not be drawn, or would be
    too large as a JPEG.
    """

    taken: int = 0
    skipped: int = 0
    failed: int = 0


class PipelineHealth(msgspec.Struct, kw_only=True):
    """Health of one pipeline, on ``health/<pipeline>``, retained. Counts run since the supervisor started.

    ``dropped`` has samples by cause, those of its source among them. ``delegate_share`` is the share of the
    model's ops that run on the delegate. ``placement`` is the proof of it if the delegate is not the CPU.
    ``failovers`` counts how often it left an accelerator that failed. ``sandbox`` is what its worker has given up.
    ``clipped`` is the share of examined windows with values that the model's quantized input cannot hold. It is
    null if there is no such input. ``events_left_out`` counts events of objects, zones and lines that were too
    many. ``snapshots`` is null if none was taken. ``savings`` has what a gate, a cache, a cascade and early exit
    saved, each by its name. It is null if the pipeline has none of them. ``uncertainty`` is null if no result can
    abstain, ``captures`` if no windows are kept. ``monitors`` is null if the model has no reference, or they are
    switched off.
    ``accuracy`` is null without feedback, ``adaptations`` if the device never changed anything.
    """

    device: str
    pipeline: str
    time: datetime
    state: State
    reason: str
    model: str
    version: int
    delegate: str
    delegate_share: float
    degraded: bool
    placement: Placed | None = None
    sandbox: list[str] = []
    results: int
    errors: int
    restarts: int
    failovers: int = 0
    clipped: float | None = None
    events_left_out: int = 0
    dropped: dict[str, int]
    snapshots: SnapshotFigures | None = None
    savings: dict[Saver, Saving] | None = None
    uncertainty: UncertaintyHealth | None = None
    monitors: MonitorsHealth | None = None
    captures: CaptureHealth | None = None
    accuracy: AccuracyHealth | None = None
    adaptations: AdaptationsHealth | None = None
    latency_us: dict[str, StageLatency]


class AcceleratorHealth(msgspec.Struct, kw_only=True):
    """An accelerator, and why it is not ``usable`` if it is not. ``delegate`` is what would use it."""

    name: str
    where: str
    delegate: str
    usable: bool
    why_not: list[str]


class AuditHealth(msgspec.Struct, kw_only=True):
    """The audit journal: number and SHA-256 of its last line, and lines that could not be written since the start.

    A person who keeps these can later see whether the journal was changed or cut: `limpet audit verify --head`.
    """

    seq: int
    sha256: str
    lost: int = 0


class ApiHealth(msgspec.Struct, kw_only=True):
    """The local API. ``addresses``: where it listens. ``restarts``: how often it was started again.

    ``problem``: why it does not listen.
    """

    state: Literal["starting", "listening", "failed"]
    addresses: list[str] = []
    restarts: int = 0
    problem: str = ""


class DeviceHealth(msgspec.Struct, kw_only=True):
    """Health of the device, on ``health``, retained. Values that this machine cannot measure are null.

    ``cpu_share`` is that of all cores since the previous message. ``pss_mb`` is that of the supervisor and all its
    children. ``temperature_c`` is that of the hottest thermal zone. ``throttled``: a cooling device is active.
    ``reporters`` has for each reporter, by name, its ``kind`` and its own figures: outbox depth and oldest age,
    reconnects, shed messages. ``waiting`` counts messages that it has not taken from the bus, ``missed`` those
    that were dropped before it read them. ``trust``: whose models run here. ``audit`` is null if there is no audit
    journal, ``api`` if there is no local API.
    """

    device: str
    boot: str
    version: str
    time: datetime
    uptime_s: float
    cpu_share: float | None
    load_1m: float | None
    pss_mb: float | None
    memory_available_mb: float | None
    temperature_c: float | None
    throttled: bool | None
    disk_free_mb: float | None
    clock_synchronised: bool | None
    accelerators: list[AcceleratorHealth] = []
    pipelines: dict[str, State]
    reporters: dict[str, dict[str, Any]]
    trust: TrustReport = msgspec.field(default_factory=lambda: TrustReport(models="unsigned"))
    audit: AuditHealth | None = None
    api: ApiHealth | None = None


class ModelReported(msgspec.Struct, kw_only=True):
    """Which model runs, on ``model/<pipeline>/reported``, retained.

    ``update``: how far an update of the model is, or how the last one ended. ``None`` if there was none.
    """

    device: str
    pipeline: str
    time: datetime
    model: str
    version: int
    state: State
    reason: str
    delegate: str
    degraded: bool
    placement: Placed | None = None
    update: UpdateReport | None = None


class InputMessage(msgspec.Struct, kw_only=True):
    """What a source gives, once a second on ``input/<source>`` of the monitor socket. It never goes to a broker.

    ``rate``: samples a second. ``values``: a few of the newest samples, oldest first, with a value of each of the
    first channels. It is empty if a sample is no row of numbers, such as a picture. ``shape``: that of one sample.
    ``pipelines``: those that the source feeds.
    """

    device: str
    source: str
    pipelines: list[str]
    time: datetime
    rate: float
    shape: list[int]
    channels: list[str]
    values: Sequence[Sequence[float | None]]


class LogMessage(msgspec.Struct, kw_only=True):
    """A line of the log, on ``log`` of the monitor socket and of the local API. It never goes to a broker.

    ``process``: the Limpet process that wrote it, such as ``supervisor`` or ``worker imu``. ``logger``: the part
    of the program. ``left_out``: lines of that process before this one that were too many.
    """

    device: str
    time: datetime
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    process: str
    logger: str
    text: str
    left_out: int = 0


class Reply(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The answer to a command, on its response topic: ``result``, or ``error`` where it was not done."""

    device: str
    command: str
    ok: bool
    error: str = ""
    result: Any = None


class Tensor(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Real values, row by row. ``data`` has them little-endian, in base64 where this is JSON.

    ``values`` may have them as numbers instead. No dimension is larger than TFLite's, which are of 32 bits.
    """

    shape: Annotated[list[Annotated[int, Meta(ge=1, le=(1 << 31) - 1)]], Meta(min_length=1, max_length=8)]
    dtype: Literal["float32", "uint8"] = "float32"
    data: bytes = b""
    values: list[float] = []


class Inferred(msgspec.Struct, kw_only=True):
    """What a model made of windows that were given to it, and where.

    ``sha256`` is that of the model file in use, ``limpet`` the agent's version. ``outputs``: each of the model's,
    the windows first. ``run_us``: how long each window took in the model, in µs.
    """

    model: str
    version: int
    sha256: str
    limpet: str
    runtime: str
    delegate: str
    delegate_share: float
    placement: Placed | None
    outputs: list[Tensor]
    run_us: list[float]


class Enrolled(msgspec.Struct, kw_only=True):
    """What is enrolled in a pipeline, as ``command/enrol`` and ``command/forget`` answer it.

    ``labels``: how many windows each label was made of.
    """

    labels: Annotated[
        dict[Annotated[str, Meta(max_length=64)], Annotated[int, Meta(ge=0, le=1 << 53)]], Meta(max_length=256)
    ]


class Right(msgspec.Struct, kw_only=True):
    """Which of two models was right about a window."""

    old: bool
    new: bool


class FeedbackTaken(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of ``command/feedback``. ``known``: it counts. Otherwise ``reason`` says why not.

    ``was_right``: whether the result was right, null if the model had not decided. ``right``: which model was, if
    a new one is compared with the one before. If the comparison could not count it, ``reason`` says why. If the
    model has no such label, it counts, and ``reason`` says so. The same result may get feedback again; the last
    one counts.
    """

    known: bool
    reason: str = ""
    was_right: bool | None = None
    right: Right | None = None


class KeepTaken(msgspec.Struct, kw_only=True):
    """How many windows went to the ring of captures, as ``command/keep`` answers it."""

    windows: Annotated[int, Meta(ge=0, le=1 << 20)]


class Undone(msgspec.Struct, kw_only=True):
    """What ``command/undo`` has undone: numbers of adaptations, and how many of them were enrolled labels."""

    numbers: list[int]
    labels: int = 0


class SnapshotTaken(msgspec.Struct, kw_only=True):
    """What a snapshot shows, as ``command/snapshot`` answers it. The picture itself is on ``snapshot/<pipeline>``.

    ``time`` is that of the picture, in UTC. ``sample`` is its ordinal in its source. ``bytes``: size of the JPEG.
    """

    time: Annotated[datetime, Meta(tz=True)]
    sample: int
    width: int
    height: int
    bytes: int


class SnapshotMessage(msgspec.Struct, kw_only=True):
    """A picture of a result, on ``snapshot/<pipeline>``, retained: the JPEG alone is the payload.

    Empty ``jpeg``: there is none any more, and brokers are to forget the one before.
    """

    device: str
    pipeline: str
    time: datetime
    sample: int = 0
    jpeg: bytes = b""


class PipelineRemoved(msgspec.Struct, kw_only=True):
    """A pipeline is not configured any more. MQTT has no such message: its retained topics are cleared."""

    device: str
    pipeline: str
    time: datetime


Message: TypeAlias = (
    ResultMessage
    | EventMessage
    | PipelineHealth
    | DeviceHealth
    | ModelReported
    | SnapshotMessage
    | PipelineRemoved
)


State: TypeAlias = Literal["starting", "running", "waiting", "failed", "finished", "stopped"]
"""``waiting``: no usable sample, no complete window, or no delegate that it requires.

``finished``: its source came to an end.
"""
MOST_OPS = 256
"""Names of ops that a delegate left to the CPU."""
MOST_IN_FORCE = 16
"""Parts of a sandbox."""


class Placed(msgspec.Struct, omit_defaults=True):
    """Where a model runs, as proven when it was loaded on a delegate.

    Shares of the ops, of the multiply-adds and of a run's time that are the delegate's; ``None`` if that is
    unknown. ``speed``: times the CPU's. ``error``: largest absolute difference of real values to what is expected.
    ``run_us``: median of a run in µs. ``device``: what the delegate calls it. ``left``: ops that are the CPU's.
    ``sandbox``: what its executor has given up.
    """

    op_share: float
    mac_share: float | None = None
    time_share: float | None = None
    speed: float = 0.0
    error: float = 0.0
    run_us: float = 0.0
    device: str = ""
    left: Annotated[dict[str, int], Meta(max_length=MOST_OPS)] = {}
    sandbox: Annotated[list[str], Meta(max_length=MOST_IN_FORCE)] = []
