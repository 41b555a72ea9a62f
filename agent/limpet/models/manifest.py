"""The description of a model in its bundle, as JSON. This module reads, checks and writes it, without I/O."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from limpet.contracts.fields import Count, Positive, TensorInfo, WindowSpec

FORMAT = 1

Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z",
        extra={"use": 'small letters, digits, ".", "_" and "-", at most 64 characters'},
    ),
]
_FEW = Meta(max_length=256)
"""Tensors, transforms or variants of a model, at most."""


VersionNumber = Annotated[
    str, Meta(pattern=r"^([0-9]{1,9}(\.[0-9]{1,9}){0,3})?\Z", extra={"use": 'numbers and dots, such as "2.1"'})
]


class Member(msgspec.Struct, forbid_unknown_fields=True):
    """Length in bytes and SHA-256 in hexadecimal of one file of a bundle."""

    length: Annotated[int, Meta(ge=0, le=1 << 31)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Tolerance(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How far an output may be from the golden one: the largest absolute difference of real values."""

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


class VersionRange(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Versions of a program, such as ``2.1``. Default: any."""

    least: VersionNumber = ""
    """The lowest version that will do. Example: `"2.1"`."""
    below: VersionNumber = ""
    """The lowest version above it that will not do. Example: `"3"`."""


class Requires(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a device must have to run a model."""

    arch: Annotated[list[str], _FEW] = []
    """Architectures of the CPU, as `uname -m` prints them; one of them. Default: any. Example: `["aarch64"]`."""
    limpet: VersionRange = VersionRange()
    """Versions of Limpet. Example: `{ least = "0.2" }`."""
    runtimes: Annotated[dict[str, VersionRange], _FEW] = {}
    """Versions of runtimes, by the name of their package; one of them. Default: any. Example: `{ ai-edge-litert =
    { least = "2.0" } }`."""
    delegates: Annotated[list[str], _FEW] = []
    """Delegates; the pipeline must name one of them. Default: any. Example: `["edgetpu"]`."""
    memory_bytes: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    """Memory that the device must have in all. Example: `1_000_000_000`."""


class Limits(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a model may take. A device measures it before the model goes live."""

    latency_ms: Positive | None = None
    """Milliseconds within which 95 of 100 inferences must end. Default: no limit. Example: `40`."""
    memory_bytes: Count | None = None
    """Memory that the model may take. Default: no limit. Example: `50_000_000`."""
    load_seconds: Positive | None = None
    """Seconds that loading may take. Default: no limit. Example: `5`."""


class Manifest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model and all that is needed to run it.

    ``model``, ``labels``, ``golden``, ``card`` and ``reference`` name members of the bundle. ``transforms``,
    ``decoder`` and ``postprocess`` are tables as in the configuration: ``kind`` and the plugin's own keys.
    ``rate``: samples a second.
    ``stateful``: whether the model's state lasts from window to window, until a gap, or is cleared before each.
    Default: what the model file shows. ``requires``: which devices it is for. ``limits``: what it may take there.
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
    reference: str = ""
    variants: Annotated[list[Variant], _FEW] = []
    tolerance: Tolerance = msgspec.field(default_factory=Tolerance)
    inputs: Annotated[list[TensorInfo], _FEW] = []
    outputs: Annotated[list[TensorInfo], _FEW] = []
    stateful: bool | None = None
    rate: Positive | None = None
    window: WindowSpec | None = None
    transforms: Annotated[list[dict[str, Any]], _FEW] = []
    decoder: dict[str, Any] = {}
    postprocess: Annotated[list[dict[str, Any]], _FEW] = []
    requires: Requires = Requires()
    limits: Limits = Limits()
    members: dict[str, Member] = {}
    metrics: dict[str, Any] = {}
    provenance: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.format > FORMAT:
            raise ValueError(f"manifest format {self.format} is newer than this Limpet reads ({FORMAT})")
        for table in (*self.transforms, *([self.decoder] if self.decoder else []), *self.postprocess):
            if not isinstance(table.get("kind"), str):
                raise ValueError("every transform, the decoder and every postprocess stage need a kind")


def parse(data: bytes) -> Manifest:
    """Read a manifest's bytes. ``msgspec.ValidationError`` or ``DecodeError`` says what is wrong, and where."""
    return msgspec.json.decode(data, type=Manifest)


def dump(manifest: Manifest) -> bytes:
    """Write a manifest: the same manifest gives the same bytes, and these bytes are what gets signed."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"
