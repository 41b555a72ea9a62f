"""What the supervisor and the gateway say to each other. Requests have a number, which the answer repeats.

The gateway reads what anyone in the network sends, so it may have been taken over. It is believed about nothing
but what its own clients want, and gets no more than they may have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.fields import NAME_PATTERN
from limpet.contracts.messages import DeviceHealth, ModelReported, Origin, PipelineHealth
from limpet.tables import ApiTable
from limpet.wire.records import Text

LARGEST_FROM_GATEWAY = 1 << 22
"""Bytes of a record of the gateway: a command with windows in it is the largest."""
LARGEST_TO_GATEWAY = 1 << 24
MOST_RECENT = 100
"""Results of a pipeline that are kept for those who come later."""
Number = Annotated[int, Meta(ge=1, le=1 << 53)]
Name = Annotated[str, Meta(max_length=64, pattern=NAME_PATTERN)]
Version = Annotated[int, Meta(ge=0, le=1 << 31)]

# --- from the supervisor


class Begin(msgspec.Struct, tag=True):
    """The first record: what the gateway serves, and where. ``socket`` is the path of the Unix socket, if any.

    ``commands``: those that this device takes.
    """

    origin: Origin
    table: ApiTable
    socket: Path | None
    commands: list[str]


class Ping(msgspec.Struct, tag=True):
    """Answer with ``Alive``: a gateway that does not is taken to hang."""


class Watching(msgspec.Struct, tag=True):
    """The answer to ``Watch``. A socket comes along, which speaks as the monitor socket does.

    ``problem`` says why there is none.
    """

    number: int
    problem: str = ""


class CpuTime(msgspec.Struct):
    """For how many seconds all cores of the machine together worked, and worked or idled, since it started."""

    busy_s: float
    all_s: float


class Figures(msgspec.Struct, tag=True):
    """The answer to ``GetFigures``: health as it is now. ``started``: Unix time at which the supervisor started.

    The memory of the processes is that of the last health message, as it takes long to measure. ``latency``: by
    pipeline and stage, all latencies since the supervisor started, as a histogram of ``limpet.histogram``.
    """

    number: int
    device: DeviceHealth
    pipelines: list[PipelineHealth]
    models: list[ModelReported]
    latency: dict[str, dict[str, dict[int, int]]]
    started: float = 0.0
    cpu: CpuTime | None = None


class TracedWindow(msgspec.Struct):
    """The way of one window. ``id`` is that of its result. ``unix_ns``: when its last sample came.

    The stages follow one another. ``source_ns``: how long the sample waited for its pipeline. ``publish_ns``: from
    the decoded output until the reporters could take the result.
    """

    id: str
    pipeline: str
    model: str
    version: int
    delegate: str
    degraded: bool
    unix_ns: int
    source_ns: int
    transform_ns: int
    invoke_ns: int
    decode_ns: int
    publish_ns: int


class Traces(msgspec.Struct, tag=True):
    """The answer to ``GetTraces``: windows since the last one, oldest first. ``missed``: so many were too many."""

    number: int
    windows: list[TracedWindow]
    missed: int


class Recent(msgspec.Struct, tag=True):
    """The answer to ``GetRecent``: the last results of a pipeline, oldest first. Each is a message as JSON."""

    number: int
    results: list[bytes]


class Picture(msgspec.Struct, tag=True):
    """The answer to ``GetPicture``: a JPEG; or, if it is empty, why there is none."""

    number: int
    jpeg: bytes = b""
    problem: str = ""


class ServedModel(msgspec.Struct):
    """A model that clients can use, or could load. ``pipelines``: those that run it.

    ``ready``: it can be used now. ``reason`` says why not.
    """

    name: str
    version: int
    ready: bool
    pipelines: list[str] = []
    reason: str = ""


class Models(msgspec.Struct, tag=True):
    """The answer to ``GetModels``."""

    number: int
    models: list[ServedModel]


class Opened(msgspec.Struct, tag=True):
    """The answer to ``OpenModel``. A socket to the model's process comes along; or ``problem`` says why not.

    ``limpet.wire.guest_records`` has the records on it.
    """

    number: int
    problem: str = ""


class Done(msgspec.Struct, tag=True):
    """The answer to ``Load`` and ``Unload``. ``problem``: why not."""

    number: int
    problem: str = ""


class Replied(msgspec.Struct, tag=True):
    """The answer to ``Obey``: a ``Reply`` as JSON."""

    number: int
    reply: bytes


class NotFound(msgspec.Struct, tag=True):
    """The answer to a request about a pipeline that does not exist."""

    number: int
    problem: str


Answer: TypeAlias = Watching | Figures | Traces | Recent | Picture | Models | Opened | Done | Replied | NotFound
ToGateway: TypeAlias = Begin | Ping | Answer

# --- from the gateway


class Listening(msgspec.Struct, tag=True):
    """The gateway accepts connections at these addresses; or ``problem`` says why it does not."""

    addresses: Annotated[list[Text], Meta(max_length=64)] = []
    problem: Text = ""


class Alive(msgspec.Struct, tag=True):
    """The answer to ``Ping``."""


class Watch(msgspec.Struct, tag=True):
    """A client wants to see results, events or health as they come."""

    number: Number


class GetFigures(msgspec.Struct, tag=True):
    """A client wants figures, such as a Prometheus."""

    number: Number


class GetTraces(msgspec.Struct, tag=True):
    """The gateway exports traces."""

    number: Number


class GetRecent(msgspec.Struct, tag=True):
    """A client wants the last results of a pipeline."""

    number: Number
    pipeline: Name
    most: Annotated[int, Meta(ge=1, le=MOST_RECENT)]


class GetPicture(msgspec.Struct, tag=True):
    """A client wants to see the last result of a pipeline on its picture. It goes to no reporter."""

    number: Number
    pipeline: Name


class GetModels(msgspec.Struct, tag=True):
    """A client wants to know which models there are."""

    number: Number


class OpenModel(msgspec.Struct, tag=True):
    """A client wants to use a model. ``version``: ``None`` for the one that runs, or the highest."""

    number: Number
    name: Name
    version: Version | None = None


class Load(msgspec.Struct, tag=True):
    """A client wants a model of the store in memory."""

    number: Number
    name: Name
    version: Version | None = None


class Unload(msgspec.Struct, tag=True):
    """A model of the store is not needed in memory any more."""

    number: Number
    name: Name
    version: Version | None = None


class Obey(msgspec.Struct, tag=True):
    """A client with a token sent a command. ``sender`` says who, for the audit journal."""

    number: Number
    name: Annotated[str, Meta(max_length=64)]
    payload: Annotated[bytes, Meta(max_length=1 << 21)]
    sender: Annotated[str, Meta(max_length=128)] = ""


Request: TypeAlias = (
    Watch | GetFigures | GetTraces | GetRecent | GetPicture | GetModels | OpenModel | Load | Unload | Obey
)
FromGateway: TypeAlias = Listening | Alive | Request
