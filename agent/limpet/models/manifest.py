"""What a bundle says of its model. The manifest is JSON; this module reads, checks and writes it, without I/O."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

FORMAT = 1

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]
Positive = Annotated[float, Meta(gt=0, le=1e9)]
"""Also no infinity: as nanoseconds it must fit into 64 bits."""
Count = Annotated[int, Meta(ge=1, le=1 << 31)]
Samples = Annotated[int, Meta(ge=1, le=1 << 24)]
"""Samples of a window. How many bytes they may take depends on the source, see ``limpet.inference.window``."""
Dimension = Annotated[int, Meta(ge=-1, le=1 << 31)]
_MANY = Meta(max_length=65_536)
"""Numbers or names for the channels of one tensor, at most."""
_FEW = Meta(max_length=256)
"""Tensors, transforms or variants of a model, at most."""


class WindowSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How samples become windows: by count (``size``, ``hop``) or by time (``seconds``, ``hop_seconds``).

    A window by time with a ``size`` is resampled to that many samples by linear interpolation. ``hop`` defaults
    to the whole window. ``max_gap`` in seconds: two samples further apart have a gap between them, which no
    window spans unless ``span_gaps``.
    """

    size: Samples | None = None
    hop: Count | None = None
    seconds: Positive | None = None
    hop_seconds: Positive | None = None
    max_gap: Positive | None = None
    span_gaps: bool = False

    def __post_init__(self) -> None:
        if self.size is None and self.seconds is None:
            raise ValueError("a window needs a size (samples) or seconds")
        if self.seconds is None and self.hop_seconds is not None:
            raise ValueError("hop_seconds goes with seconds; use hop with size")
        if self.seconds is not None and self.hop is not None:
            raise ValueError("hop goes with a window by count; use hop_seconds with seconds")


class GivenInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an input of a model gets that is no part of a window.

    ``state``: the model's output of the run before, by its name; zeros at the start and after a gap.
    ``constant``: one number, or as many as the input holds.
    """

    state: str = ""
    constant: float | list[float] | None = None

    def __post_init__(self) -> None:
        if bool(self.state) == (self.constant is not None):
            raise ValueError("an input gets either a state or a constant")


InputValue: TypeAlias = list[str] | GivenInput
"""Channels of the source, all as they are if the list is empty; or something else."""


class TensorInfo(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An input or output tensor as the model's maker knows it.

    ``shape`` has -1 for a dimension that may vary. ``channels`` are the channels of the source, in order, that
    this input takes; empty for all. ``unit`` is that of its real values. ``state`` and ``constant``: what an input
    gets in place of channels, see ``GivenInput``.
    """

    name: str
    shape: Annotated[list[Dimension], Meta(max_length=16)]
    dtype: str
    scale: Annotated[list[float], _MANY] = []
    zero_point: Annotated[list[int], _MANY] = []
    channels: Annotated[list[str], _MANY] = []
    unit: str = ""
    state: str = ""
    constant: float | list[float] | None = None

    def __post_init__(self) -> None:
        if bool(self.channels) + bool(self.state) + (self.constant is not None) > 1:
            raise ValueError("an input gets channels, a state or a constant")


class Member(msgspec.Struct, forbid_unknown_fields=True):
    """Length in bytes and SHA-256 in hexadecimal of one file of a bundle."""

    length: Annotated[int, Meta(ge=0, le=1 << 31)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Tolerance(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How far an output may lie from the golden one: the largest absolute difference of real values."""

    absolute: Annotated[float, Meta(ge=0, le=1e30)] = 0.0


class Variant(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The same model in another form, for a runtime or a delegate that the first one does not suit.

    ``model`` names a member: a file, or a folder as a zip (``model.mlpackage.zip``). ``delegates`` it was made
    for; empty for any. ``tolerance`` holds for it in place of the manifest's.
    """

    runtime: str
    model: str
    delegates: list[str] = []
    tolerance: Tolerance = msgspec.field(default_factory=Tolerance)


class Manifest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model and all that is needed to run it.

    ``model``, ``labels``, ``golden`` and ``card`` name members of the bundle. ``transforms`` and ``decoder`` are
    tables as in the configuration: ``kind`` and the plugin's own keys. ``rate`` is in samples a second.
    ``stateful``: whether the model's state lasts from window to window, until a gap, or is cleared before each.
    Default: what the model file shows.
    """

    format: Annotated[int, Meta(ge=1)] = FORMAT
    name: Name
    version: Annotated[int, Meta(ge=0, le=1 << 53)]
    task: str = ""
    description: str = ""
    licence: str = ""
    runtime: str = "tflite"
    model: str = "model.tflite"
    labels: str = ""
    golden: str = ""
    card: str = ""
    variants: Annotated[list[Variant], _FEW] = []
    tolerance: Tolerance = msgspec.field(default_factory=Tolerance)
    inputs: Annotated[list[TensorInfo], _FEW] = []
    outputs: Annotated[list[TensorInfo], _FEW] = []
    signature_key: str = ""
    stateful: bool | None = None
    rate: Positive | None = None
    window: WindowSpec | None = None
    transforms: Annotated[list[dict[str, Any]], _FEW] = []
    decoder: dict[str, Any] = {}
    members: dict[str, Member] = {}
    metrics: dict[str, Any] = {}
    provenance: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.format > FORMAT:
            raise ValueError(f"manifest format {self.format} is newer than this Limpet reads ({FORMAT})")
        for table in (*self.transforms, *([self.decoder] if self.decoder else [])):
            if not isinstance(table.get("kind"), str):
                raise ValueError("every transform and the decoder need a kind")


def parse(data: bytes) -> Manifest:
    """Read a manifest's bytes. ``msgspec.ValidationError`` or ``DecodeError`` says what is wrong, and where."""
    return msgspec.json.decode(data, type=Manifest)


def dump(manifest: Manifest) -> bytes:
    """Write a manifest: the same manifest gives the same bytes, and these bytes are what gets signed."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"
