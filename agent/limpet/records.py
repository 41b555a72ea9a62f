"""What crosses the border between a worker and the supervisor: msgpack records, never tensors.

The supervisor imports this module, so it imports no numpy.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

State: TypeAlias = Literal["starting", "running", "waiting", "failed", "finished", "stopped"]
"""``waiting``: its source is away; ``finished``: its source came to an end."""

Stage: TypeAlias = Literal["queue", "transform", "invoke", "decode"]
STAGES: tuple[Stage, ...] = ("queue", "transform", "invoke", "decode")


class Result(msgspec.Struct, array_like=True):
    """What a pipeline concluded from one window.

    The times, in nanoseconds, are those of the window's last sample: ``monotonic_ns`` for durations,
    ``wall_ns`` for people. ``sample`` is that sample's ordinal in its source. ``latency_ns`` runs from the
    last sample to the decoded output. ``output`` is the decoder's: a mapping, or a struct that encodes as one.
    """

    pipeline: str
    model: str
    version: int
    delegate: str
    degraded: bool
    monotonic_ns: int
    wall_ns: int
    sample: int
    latency_ns: int
    output: Any


class Results(msgspec.Struct, tag=True):
    """Results in the order in which they were made, possibly of several pipelines."""

    items: list[Result]


class Figures(msgspec.Struct, omit_defaults=True):
    """What happened in one pipeline since the figures before.

    ``latency`` has a sparse histogram for each stage, see ``limpet.histogram``.
    """

    results: int = 0
    errors: int = 0
    latency: dict[str, dict[int, int]] = msgspec.field(default_factory=dict)


class Heartbeat(msgspec.Struct, tag=True):
    """A sign of progress. ``dropped`` counts samples by cause since the heartbeat before."""

    pipelines: dict[str, Figures]
    dropped: dict[str, int]


class Transition(msgspec.Struct, tag=True, omit_defaults=True):
    """A pipeline came into another state, or is in it with another delegate or model."""

    pipeline: str
    state: State
    reason: str = ""
    model: str = ""
    version: int = 0
    delegate: str = ""
    delegate_share: float = 0.0
    degraded: bool = False


class Notice(msgspec.Struct, tag=True):
    """Something worth an event that changes no state: a gap in the samples, a source reopened."""

    pipeline: str
    event: str
    reason: str


FromWorker: TypeAlias = Results | Heartbeat | Transition | Notice


class Stop(msgspec.Struct, tag=True):
    """Finish the window at hand, hand over its result, and exit."""


ToWorker: TypeAlias = Stop
