"""What is known of the devices that are watched: a message goes in, and changes what is shown. No I/O.

Messages may come from anyone who can publish at a broker. The topic decides what a message is about. A message
that says otherwise shows nothing and is counted, as is one of another form or about one device too many. Texts are
cleaned where they are drawn, see ``limpet.watch.words``.
"""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from limpet.contracts.messages import (
    DeviceHealth,
    EventMessage,
    InputMessage,
    LogMessage,
    ModelReported,
    PipelineHealth,
    ResultMessage,
    StageLatency,
    StatusMessage,
)
from limpet.errors import UnreadableError
from limpet.untrusted import reading
from limpet.watch import words

if TYPE_CHECKING:
    from collections.abc import Iterable

Content: TypeAlias = (
    StatusMessage
    | DeviceHealth
    | PipelineHealth
    | ModelReported
    | EventMessage
    | InputMessage
    | LogMessage
    | ResultMessage
)

LARGEST = 1 << 20
"""Bytes of a message."""
MOST_DEVICES, MOST_PIPELINES, MOST_SOURCES = 32, 64, 64
MOST_EVENTS, MOST_LINES = 50, 500
"""Events, and lines of the log, that are kept."""
HISTORY = 240
"""Values of a curve."""
MOST_CURVES = 16
RATE_SECONDS, LEAST_SECONDS = 10.0, 0.5
"""Seconds over which results are counted: at most, and at least."""
MARKS = 64
"""Times that are kept to count results."""
SPACING = 0.1
"""Seconds between two of those."""
OVERTAKEN = 5.0
"""Seconds by which a health message can be late. If it is older, the device's clock was set."""
_YEARS = range(1900, 9999)
_LARGEST_COUNT = 1 << 53
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""As ``limpet.config.Identifier``."""

_results = msgspec.json.Decoder(ResultMessage | list[ResultMessage])
_one: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (
        StatusMessage,
        DeviceHealth,
        PipelineHealth,
        ModelReported,
        EventMessage,
        InputMessage,
        LogMessage,
    )
}


@dataclass
class Pipeline:
    """One pipeline. ``latency`` is the last one of each stage that has one. ``curves`` are what results named."""

    name: str
    health: PipelineHealth | None = None
    model: ModelReported | None = None
    result: ResultMessage | None = None
    words: words.Result | None = None
    latency: dict[str, StageLatency] = field(default_factory=dict)
    curves: dict[str, deque[float]] = field(default_factory=dict)
    results: int = 0
    _marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=MARKS))

    @property
    def state(self) -> str:
        """The last state that was reported."""
        return self.health.state if self.health else self.model.state if self.model else "?"

    @property
    def reason(self) -> str:
        """Why it is in that state."""
        return self.health.reason if self.health else self.model.reason if self.model else ""

    @property
    def dropped(self) -> dict[str, int]:
        """Samples by cause."""
        return self.health.dropped if self.health else {}

    def rate(self, now: float) -> float | None:
        """Return results a second, lately. ``None`` before there are two."""
        recent = [mark for mark in self._marks if mark[0] > now - RATE_SECONDS] or []
        marks = recent if len(recent) > 1 else list(self._marks)[-2:]
        if len(marks) < 2:
            return None
        elapsed = now - marks[0][0]
        return max(marks[-1][1] - marks[0][1], 0) / elapsed if elapsed >= LEAST_SECONDS else None

    def take_result(self, result: ResultMessage, now: float) -> None:
        """Take a result that is newer than those before."""
        output = result.output
        if isinstance(output, msgspec.Raw):
            with reading("a result"):
                output = msgspec.json.decode(output)
        self.result, self.words = result, words.result(output)
        self.results = max(self.results, result.sequence)
        self._mark(now)
        for name, value in self.words.numbers:
            if (name in self.curves or len(self.curves) < MOST_CURVES) and math.isfinite(value):
                self.curves.setdefault(name, deque(maxlen=HISTORY)).append(value)

    def _mark(self, now: float) -> None:
        """Take note of how many results there are now. Those that came at once are one mark."""
        marks = self._marks
        if marks and (marks[-1][0] == now or (len(marks) > 1 and now - marks[-2][0] < SPACING)):
            marks.pop()
        marks.append((now, self.results))

    def take_health(self, health: PipelineHealth) -> None:
        """Take a health message, unless it was overtaken by a newer one."""
        age = (self.health.time - health.time).total_seconds() if self.health else 0.0
        if 0 < age < OVERTAKEN:
            return
        self.health = health
        self.results = max(self.results, health.results)
        self.latency |= {stage: one for stage, one in health.latency_us.items() if one.count and len(stage) < 40}
        for stage in list(self.latency)[:-8]:
            del self.latency[stage]


@dataclass
class Source:
    """The newest inputs of a source, and what its first channels were before."""

    newest: InputMessage
    curves: list[deque[float]] = field(default_factory=list)

    def take(self, inputs: InputMessage) -> None:
        """Take values."""
        self.newest = inputs
        for row in inputs.values[-HISTORY:]:
            for place, value in enumerate(row[:MOST_CURVES]):
                if place == len(self.curves):
                    self.curves.append(deque(maxlen=HISTORY))
                if value is not None and math.isfinite(value):
                    self.curves[place].append(value)


@dataclass
class Device:
    """One device. ``heard``: when its last message came, on the clock of ``now``."""

    name: str
    heard: float = 0.0
    status: StatusMessage | None = None
    health: DeviceHealth | None = None
    boot: str = ""
    pipelines: dict[str, Pipeline] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    events: deque[EventMessage] = field(default_factory=lambda: deque(maxlen=MOST_EVENTS))
    event_count: int = 0
    lines: deque[LogMessage] = field(default_factory=lambda: deque(maxlen=MOST_LINES))

    def source_of(self, pipeline: str) -> Source | None:
        """Return the source that feeds a pipeline, if its values are known."""
        for source in self.sources.values():
            if pipeline in source.newest.pipelines:
                return source
        return None

    def events_after(self, count: int) -> tuple[list[EventMessage], int]:
        """Return the events after the first ``count`` ones, and how many more there were that are not kept."""
        new = self.event_count - count
        return list(self.events)[-new:] if new else [], max(new - len(self.events), 0)

    def take(self, name: str, message: Content, now: float) -> None:
        """Take a message about the device (``name`` is empty), or about a pipeline or a source of that name."""
        self.heard = now
        if isinstance(message, StatusMessage):
            self.status = message
            self._begin(message.boot)
        elif isinstance(message, DeviceHealth):
            self.health = message
        elif isinstance(message, EventMessage | LogMessage):
            self._remember(message)
        elif isinstance(message, InputMessage):
            if name in self.sources or len(self.sources) < MOST_SOURCES:
                self.sources.setdefault(name, Source(message)).take(message)
        elif (pipeline := self._pipeline(name)) is not None:
            if isinstance(message, ResultMessage):
                pipeline.take_result(message, now)
            elif isinstance(message, PipelineHealth):
                pipeline.take_health(message)
            else:
                pipeline.model = message

    def _remember(self, message: EventMessage | LogMessage) -> None:
        """Keep a message that is not known yet: some come again after a new connection."""
        if isinstance(message, LogMessage):
            if message not in self.lines:
                self.lines.append(message)
        elif message not in self.events:
            self.events.append(message)
            self.event_count += 1

    def _begin(self, boot: str) -> None:
        """Forget the counts of the run before, if this is another one."""
        if self.boot and boot != self.boot:
            self.pipelines, self.sources, self.health = {}, {}, None
        self.boot = boot

    def _pipeline(self, name: str) -> Pipeline | None:
        if name not in self.pipelines and len(self.pipelines) >= MOST_PIPELINES:
            return None
        return self.pipelines.setdefault(name, Pipeline(name))


@dataclass
class Watched:
    """All devices. ``notice`` says what is wrong with the connection, if anything is.

    ``unreadable`` counts messages that were skipped, and ``missed`` those that this reader was too slow for.
    """

    devices: dict[str, Device] = field(default_factory=dict)
    notice: str = ""
    unreadable: int = 0
    missed: int = 0

    def take(self, device: str, topic: str, payload: bytes, now: float) -> None:
        """Take a message as it was received, on a topic below a device. Nothing in it can raise an exception."""
        if not payload and topic.partition("/")[0] in {"health", "model", "status"}:
            return  # a retained message that was deleted
        try:
            name, messages = read(device, topic, payload)
            for message in messages:
                self.take_message(device, name, message, now)
        except UnreadableError:
            self.unreadable += 1

    def take_message(self, device: str, name: str, message: Content, now: float) -> None:
        """Take a message that was read."""
        if device not in self.devices:
            if len(self.devices) >= MOST_DEVICES:
                raise UnreadableError(f"there are more than {MOST_DEVICES} devices")
            self.devices[device] = Device(device)
        self.devices[device].take(name, message, now)


def read(device: str, topic: str, payload: bytes) -> tuple[str, Iterable[Content]]:
    """Return the messages of a payload, and the pipeline or source that they are about.

    ``UnreadableError`` if the payload has another form than the topic says, or is about something else.
    """
    kind, name = _kind_of(topic)
    if not _NAME.fullmatch(device) or (name and not _NAME.fullmatch(name)):
        raise UnreadableError("a topic has a name that no device or pipeline can have")
    if len(payload) > LARGEST:
        raise UnreadableError(f"a message is larger than {LARGEST} bytes")
    with reading(f"a message on {topic}"):
        if kind is ResultMessage:
            found = _results.decode(payload)
            messages: list[Any] = found if isinstance(found, list) else [found]
        else:
            messages = [_one[kind].decode(payload)]
    for message in messages:
        if message.device != device or name_of(message) != name:
            raise UnreadableError(f"a message on {topic} is about something else")
        if not _is_believable(message):
            raise UnreadableError(f"a message on {topic} has a time or a count that no device sends")
    return name, messages


def _is_believable(message: Content) -> bool:
    """Whether times can be converted and compared, and counts be divided."""
    times = [] if isinstance(message, StatusMessage) else [message.time]
    counts: list[int] = []
    if isinstance(message, ResultMessage):
        counts = [message.sequence]
    elif isinstance(message, PipelineHealth):
        counts = [message.results, *(stage.count for stage in message.latency_us.values())]
    return all(time.tzinfo is not None and time.year in _YEARS for time in times) and all(
        0 <= count <= _LARGEST_COUNT for count in counts
    )


def name_of(message: Content) -> str:
    """Return the pipeline or the source that a message is about."""
    if isinstance(message, InputMessage):
        return message.source
    return "" if isinstance(message, StatusMessage | DeviceHealth | LogMessage) else message.pipeline


def _kind_of(topic: str) -> tuple[type[Content], str]:
    """Return the type of the messages on a topic below a device, and the name in the topic."""
    head, _, name = topic.partition("/")
    if topic in _WHOLE:
        return _WHOLE[topic], ""
    if head == "model" and name.endswith("/reported"):
        return ModelReported, name.removesuffix("/reported")
    if head in _NAMED and name:
        return _NAMED[head], name
    raise UnreadableError(f"messages on {topic[:80]!r} are not shown")


_WHOLE: dict[str, type[Content]] = {
    "status": StatusMessage,
    "health": DeviceHealth,
    "event": EventMessage,
    "log": LogMessage,
}
_NAMED: dict[str, type[Content]] = {
    "result": ResultMessage,
    "health": PipelineHealth,
    "event": EventMessage,
    "input": InputMessage,
}
