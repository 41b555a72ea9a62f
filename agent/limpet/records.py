"""What crosses the border between a worker and the supervisor: msgpack records, never tensors.

The supervisor imports this module, so it imports no numpy.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from limpet.config import Config

State: TypeAlias = Literal["starting", "running", "waiting", "failed", "finished", "stopped"]
"""``waiting``: its source is away, or a delegate that it requires; ``finished``: its source came to an end."""

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

    ``discarded`` counts samples that came to lie in no window, because of a gap. ``latency`` has a sparse
    histogram for each stage, see ``limpet.histogram``.
    """

    errors: int = 0
    discarded: int = 0
    latency: dict[Stage, dict[int, int]] = msgspec.field(default_factory=dict)


class Heartbeat(msgspec.Struct, tag=True):
    """A sign of progress. ``dropped`` counts samples by cause since the heartbeat before."""

    pipelines: dict[str, Figures]
    dropped: dict[str, int]


class Placed(msgspec.Struct, omit_defaults=True):
    """Where a model runs, as proven when it was loaded on a delegate.

    Shares of the ops, of the multiply-adds and of a run's time that are the delegate's; ``None`` where nobody can
    tell. ``speed``: times the CPU's. ``error``: largest absolute difference of real values to what is expected.
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
    left: dict[str, int] = {}
    sandbox: list[str] = []


class Transition(msgspec.Struct, tag=True, omit_defaults=True):
    """A pipeline came into another state, or is in it with another delegate or model.

    ``placement`` is that of a delegate other than the CPU, ``sandbox`` what the worker has given up.
    """

    pipeline: str
    state: State
    reason: str = ""
    model: str = ""
    version: int = 0
    delegate: str = ""
    delegate_share: float = 0.0
    degraded: bool = False
    placement: Placed | None = None
    sandbox: list[str] = []


class Notice(msgspec.Struct, tag=True):
    """Something worth an event that changes no state: a gap in the samples, a source reopened."""

    pipeline: str
    event: str
    reason: str


class Refused(msgspec.Struct, tag=True):
    """The configuration of a pipeline, or of the source if none is named, cannot be used, for these reasons."""

    problems: list[str]
    pipeline: str = ""


class Answered(msgspec.Struct, tag=True, omit_defaults=True):
    """What became of an ``Ask``; ``error`` says why it could not be done."""

    number: int
    error: str = ""
    result: Any = None


class Need(msgspec.Struct, tag=True):
    """Start an executor under this key, and hand over the end of its socket with ``Lent``."""

    key: str


class Dismiss(msgspec.Struct, tag=True):
    """Kill this executor: it is of no use any more."""

    key: str


ToSupervisor: TypeAlias = Results | Heartbeat | Transition | Notice | Refused | Answered
"""What is not for the fleet alone."""
FromWorker: TypeAlias = ToSupervisor | Need | Dismiss


class Assign(msgspec.Struct, tag=True):
    """Run these pipelines of one source. Those that already run with the same configuration are left alone."""

    config: Config


class Stop(msgspec.Struct, tag=True):
    """Finish the window at hand, hand over its result, and exit."""


class SetLogLevel(msgspec.Struct, tag=True):
    """Log from this level on: DEBUG, INFO, WARNING or ERROR."""

    level: str


class SetThreshold(msgspec.Struct, tag=True):
    """Have a pipeline's decoder use another threshold, until the pipeline is started anew."""

    pipeline: str
    value: float


class Capture(msgspec.Struct, tag=True):
    """Send what the model of a pipeline is given for its next window."""

    pipeline: str


class RunWindows(msgspec.Struct, tag=True):
    """Send what the model of a pipeline makes of windows. A file with them comes along as a descriptor."""

    pipeline: str


class Ask(msgspec.Struct, tag=True):
    """Do this and answer with ``Answered`` under the same number."""

    number: int
    what: SetLogLevel | SetThreshold | Capture | RunWindows


class Lent(msgspec.Struct, tag=True):
    """The executor that was asked for. The end of its socket comes along as a file descriptor."""

    key: str


ToWorker: TypeAlias = Assign | Stop | Ask | Lent


class Preload(msgspec.Struct, tag=True):
    """To the fork server: import these modules, so that workers need not."""

    modules: list[str]


class Fork(msgspec.Struct, tag=True):
    """To the fork server: make a worker or an executor. Its end of the socket pair comes along as a descriptor."""

    worker: str
    role: Literal["worker", "executor"] = "worker"


class Forked(msgspec.Struct, tag=True):
    """From the fork server: the worker is there."""

    worker: str
    pid: int


class Exited(msgspec.Struct, tag=True):
    """From the fork server: a worker is gone. ``status`` is negative for the signal that ended it."""

    pid: int
    status: int


ToForkServer: TypeAlias = Preload | Fork
FromForkServer: TypeAlias = Forked | Exited
