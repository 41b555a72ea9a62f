"""Captures: windows that are kept on the disk with their results. Their headers, their truths, and their health.

No numpy here: the supervisor writes the files. ``limpet.captures.form`` has their bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.fields import NAME_PATTERN, Share
from limpet.contracts.updates import TimeOfDay
from limpet.device.clock import Mark

Reason: TypeAlias = Literal["command", "event", "disagreement", "drifted", "rare", "unsure", "audit"]
"""Why a window is kept. The first ones are worth most, see ``limpet.captures.rules``."""

Loss: TypeAlias = Literal["hour", "busy", "large", "consent", "failed", "full", "disk"]
"""Why a window was not kept: see ``CaptureHealth``. A worker counts all but the last two."""

LARGEST_WINDOW = 8 << 20
"""Bytes of a captured window, with the output."""
MOST_CHANNELS = 1024
MOST_PARTS = 64
"""Pictures in one captured window."""
LONGEST_DETAIL = 200
MOST_LABELS = 100
"""Labels in one answer or one truth."""
MOST_GROUPS = 16

CaptureNumber = Annotated[int, Meta(ge=1, lt=10**10)]
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
_Word = Annotated[str, Meta(max_length=200)]
_Dimension = Annotated[int, Meta(ge=0, le=1 << 24)]
Dtype: TypeAlias = Literal[
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float16", "float32", "float64"
]
Answer: TypeAlias = (
    float | Annotated[str, Meta(max_length=200)] | Annotated[list[_Word], Meta(max_length=MOST_LABELS)] | None
)
"""A label, a number, all labels that apply, or nothing."""


class KeepHours(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """``hours`` of ``keep``: when windows may be kept, in the local time of the device. It may pass midnight."""

    begin: TimeOfDay
    """Local time from which on. Example: `"08:00"`."""
    end: TimeOfDay
    """Local time until which. Example: `"18:00"`."""


class KeepOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``keep`` of a pipeline: which windows are kept on the disk as captures, and which never."""

    bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 44)] = 50_000_000
    """Bytes that the captures of this pipeline may take. If there is no room, captures that are worth less go."""
    per_hour: Annotated[int, Meta(ge=1, le=100_000)] = 60
    """Windows kept in an hour, and at once after a quiet hour. Windows that the command `keep` takes do not
    count."""
    margin: Share = 0.1
    """Keep a window if the best two classes are closer than this. `0`: never."""
    score: Share = 0.0
    """Keep a window if the score of its result is below this. `0`: never. Example: `0.6`."""
    set_size: Annotated[int, Meta(ge=0, le=1000)] = 2
    """Keep a window if its conformal set has so many labels or more, or none. `0`: never."""
    abstained: bool = True
    """Whether to keep windows for which the model abstained."""
    drifted: Annotated[int, Meta(ge=0, le=1000)] = 16
    """Windows to keep after a monitor raises an alarm. `0`: none."""
    agreement: Share = 0.5
    """Keep a window if a shadow agrees with the model by less than this. `0`: never."""
    rare: Share = 0.01
    """Keep a window if its label is that of a smaller share of the windows so far. `0`: never."""
    labels: Annotated[list[str], Meta(max_length=MOST_LABELS)] = []
    """Labels whose windows are always worth keeping. Example: `["fault"]`."""
    audit: Annotated[int, Meta(ge=0, le=1 << 31)] = 10_000
    """Keep one of so many other windows, drawn at random. `0`: none."""
    events: bool = True
    """Whether to keep windows in which a stage found an event, such as a keyword or an object that came."""
    before: Annotated[int, Meta(ge=0, le=64)] = 0
    """Windows to keep before such an event. A source of pictures cannot have any. Example: `2`."""
    after: Annotated[int, Meta(ge=0, le=1000)] = 0
    """Windows to keep after such an event. Example: `2`."""
    never: Annotated[list[str], Meta(max_length=MOST_LABELS)] = []
    """Labels whose windows are never kept, for whatever reason. Example: `["person"]`."""
    hours: KeepHours | None = None
    """When windows may be kept. Default: at any time. Example: `{ begin = "08:00", end = "18:00" }`."""
    blur: Literal["none", "found", "all"] = "none"
    """What is blurred in pictures before they are kept: `found` is what the model found, `all` the whole picture.
    If the model finds no boxes, `found` blurs all."""
    quality: Annotated[int, Meta(ge=1, le=100)] = 95
    """Quality of the JPEG of a picture."""
    encrypt_for: Annotated[str, Meta(pattern=r"^([A-Za-z0-9+/]{43}=)?\Z")] = ""
    """Public key that windows and outputs are encrypted for, as `limpet captures key` prints it. Default: they are
    not encrypted. Example: `"mC0Jd5vYH6mAhJ7kVtQ2f3m9mQX1eXyEJb8cS2o5uHs="`."""


class WindowForm(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the bytes of a captured window are: the values before the first transform.

    ``encoding``: ``raw`` is one array, row by row, little-endian. ``jpeg`` is a JPEG for each frame. ``shape``:
    ``(samples, *shape of one)``. Of pictures it is that of the JPEGs. ``parts``: bytes of each array or JPEG, in
    their order. ``rate``: samples a second. ``changed``: what was done to a picture, such as ``blurred``.
    ``by_time``: a window was cut by time alone, so its number of samples varies.
    """

    encoding: Literal["raw", "jpeg"]
    shape: Annotated[list[_Dimension], Meta(min_length=1, max_length=8)]
    dtype: Dtype
    parts: Annotated[
        list[Annotated[int, Meta(ge=0, le=LARGEST_WINDOW)]], Meta(min_length=1, max_length=MOST_PARTS)
    ]
    channels: Annotated[list[_Word], Meta(max_length=MOST_CHANNELS)] = []
    units: Annotated[list[_Word], Meta(max_length=MOST_CHANNELS)] = []
    rate: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    changed: Annotated[str, Meta(max_length=LONGEST_DETAIL)] = ""
    by_time: bool = False


class Capture(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The header of a capture file. It is never encrypted: window and output are.

    ``number`` counts the captures of this device. ``id`` is that of the result, ``device/pipeline/boot/sequence``.
    It is empty if the result was not reported. ``time`` and ``sample`` are those of the window's last sample.
    ``reasons``: why it is kept, the weightiest first; ``detail``: in words. ``answer``, ``score``: the result in
    short. ``output``: the type of the output in ``limpet.contracts.outputs``, empty if it is another one.
    ``groups``: where the device was, for slices. ``encrypted_for``: the id of the public key, empty if it is not
    encrypted.
    """

    format: Literal[1] = 1
    number: CaptureNumber
    device: Name
    pipeline: Name
    id: Annotated[str, Meta(max_length=256)] = ""
    time: Annotated[datetime, Meta(tz=True)]
    clock: Mark | None = None
    sample: Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
    model: Annotated[str, Meta(max_length=64)]
    version: Annotated[int, Meta(ge=0, le=1 << 53)]
    reasons: Annotated[list[Reason], Meta(min_length=1, max_length=7)]
    detail: Annotated[str, Meta(max_length=LONGEST_DETAIL)] = ""
    answer: Answer = None
    score: Annotated[float, Meta(ge=0, le=1)] | None = None
    output: Annotated[str, Meta(max_length=64)] = ""
    groups: Annotated[dict[Name, Annotated[str, Meta(max_length=64)]], Meta(max_length=MOST_GROUPS)] = {}
    window: WindowForm
    encrypted_for: Annotated[str, Meta(max_length=64)] = ""

    @property
    def name(self) -> str:
        """The name of the capture: ``PIPELINE/NUMBER``."""
        return f"{self.pipeline}/{self.number}"


class Truth(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a person says about a capture. It is in a separate file beside the capture.

    ``truth`` and ``tolerance`` are as in ``command/feedback``. ``unsure``: the person cannot say; ``truth`` is
    null then. ``by``: who it was. ``sent``: it went out as feedback.
    """

    truth: Answer = None
    tolerance: Annotated[float, Meta(ge=0, le=1e300)] | None = None
    unsure: bool = False
    by: Annotated[str, Meta(max_length=200)] = ""
    time: Annotated[datetime, Meta(tz=True)]
    sent: bool = False


class Contents(msgspec.Struct, frozen=True):
    """What a capture file holds beside its header. ``parts``: see ``WindowForm``.

    ``output`` is decoded JSON. Its form is not checked.
    """

    output: Any
    parts: list[bytes]


class CaptureHealth(msgspec.Struct, kw_only=True):
    """The captures of a pipeline. ``kept`` and ``lost`` count since the supervisor started.

    ``count``, ``bytes``: captures on the disk. ``most_bytes``: how many bytes they may take. ``kept`` has captures
    by reason. ``lost`` has windows that were not kept, by cause: ``hour`` for the limit of an hour,
    ``busy``, ``large``, ``consent``, ``failed``, ``full`` and ``disk``. ``full``: all others are worth more.
    ``evicted``: captures that gave way to others. ``damaged``: files that could not be read and were deleted.
    ``labelled``: captures with a truth.
    ``uploaded``: captures that were sent. ``problem``: why captures are not written or not sent.
    """

    count: int
    bytes: int
    most_bytes: int
    kept: dict[str, int]
    lost: dict[str, int]
    evicted: int = 0
    damaged: int = 0
    labelled: int = 0
    uploaded: int = 0
    problem: str = ""
