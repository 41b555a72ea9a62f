"""Captures: windows that are kept on the disk with their results. Their headers, their truths, and their health.

No numpy here: the supervisor writes the files. ``limpet.captures.form`` has their bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.fields import NAME_PATTERN
from limpet.device.clock import Mark

Reason: TypeAlias = Literal["command", "event", "disagreement", "drifted", "rare", "unsure", "audit"]
"""Why a window is kept. The first ones are worth most, see ``limpet.captures.rules``."""

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


class WindowForm(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the bytes of a captured window are: the values before the first transform.

    ``encoding``: ``raw`` is one array, row by row, little-endian. ``jpeg`` is a JPEG for each frame. ``shape``:
    ``(samples, *shape of one)``. Of pictures it is that of the JPEGs. ``parts``: bytes of each array or JPEG, in
    their order. ``rate``: samples a second. ``changed``: what was done to a picture, such as ``blurred``.
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

    ``truth`` is as in ``command/feedback``. ``unsure``: the person cannot say; ``truth`` is null then. ``by``: who
    it was. ``sent``: it went out as feedback.
    """

    truth: Answer = None
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
    by reason. ``lost`` has windows that could not be kept, by cause: ``hour`` for the limit of an hour,
    ``full``, ``large``, ``consent``, ``busy`` and ``disk``. ``full``: all other captures are worth more.
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
