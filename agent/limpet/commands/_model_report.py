"""The report of ``limpet inspect`` on a model: a value with all facts, and the lines for a person. No I/O."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from limpet import beta
from limpet.contracts.fields import TensorInfo
from limpet.contracts.messages import Placed
from limpet.contracts.reference import SliceReference
from limpet.models.manifest import Manifest
from limpet.models.tflite.model_file import FileMetadata, Signature
from limpet.wording import short_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typing_extensions import Self

    from limpet.contracts.reference import Reference

_LABELS_SHOWN = 8

Row: TypeAlias = "tuple[str, str]"
"""A label of at most 11 characters, and what stands beside it."""


class XnnpackCoverage(msgspec.Struct, frozen=True):
    """What XNNPACK runs of a model: the ``share`` of the ops, 0 to 1, and the ops by kind."""

    share: float
    covered: dict[str, int]
    left: dict[str, int]


class ReferenceReport(msgspec.Struct, kw_only=True):
    """What of a bundle's reference is for people. ``monitors``: those that have thresholds in it.

    ``refused``: why no device can use it. ``slices``: how many windows of each group, and how many were right.
    """

    windows: int = 0
    rate: float | None = None
    features: list[str] = []
    classes: int = 0
    monitors: list[str] = []
    false_alarms: float = 0.0
    slices: dict[str, SliceReference] = {}
    refused: str = ""

    @classmethod
    def of(cls, reference: Reference) -> Self:
        """Return the report of a reference."""
        return cls(
            windows=reference.windows,
            rate=reference.rate,
            features=[one.name for one in reference.features],
            classes=len(reference.classes.labels) if reference.classes else 0,
            monitors=sorted(reference.thresholds),
            false_alarms=reference.false_alarms,
            slices=reference.slices,
        )


class ModelReport(msgspec.Struct, kw_only=True):
    """What ``--json`` prints.

    ``size`` (bytes) and ``sha256`` are those of the model file. ``min_runtime_version``: the TFLite that it needs,
    empty if none. ``refused``: why the runtime here does not load it. ``ops``: how often each op occurs.
    ``placements``: by delegate on the command line, what was proven of it or why it is refused. ``state``: what
    the model keeps from run to run. ``state_pairs``: inputs that probably take an output of the run before.
    ``problem``: what is wrong with the file's metadata.
    """

    file: str
    size: int
    sha256: str
    min_runtime_version: str
    runtime: str
    refused: str = ""
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    signatures: dict[str, Signature]
    ops: dict[str, int] = {}
    delegates: dict[str, XnnpackCoverage] = {}
    placements: dict[str, Placed | str] = {}
    state: str
    state_pairs: dict[str, str]
    labels: tuple[str, ...]
    problem: str
    golden: bool
    signed: bool
    signed_by: list[str]
    metadata: FileMetadata
    manifest: Manifest
    reference: ReferenceReport | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the runtime or a delegate refuses the model, or its reference cannot be used."""
        unusable = self.reference is not None and bool(self.reference.refused)
        return (
            bool(self.refused) or unusable or any(isinstance(placed, str) for placed in self.placements.values())
        )


def lines(report: ModelReport) -> list[str]:
    """Return the report for a person: a title, then rows of a label and a text."""
    manifest = report.manifest
    notes = [text for text in (manifest.description, manifest.licence) if text]
    rows = [*_file(report), *_tensors(report), *_state(report), *_origin(report)]
    rows += [*_reference(report.reference), *_execution(report)]
    return [
        f"{manifest.name} {manifest.version}: {report.file}",
        *(f"  {note}" for note in notes),
        *(f"  {label:11} {text}" for label, text in rows),
    ]


def _file(report: ModelReport) -> Iterator[Row]:
    yield "model", f"{report.size:,} bytes, sha256 {report.sha256}"
    needs = report.min_runtime_version
    yield "runtime", report.runtime + (f"; the model needs TFLite {needs}" if needs else "")
    if report.refused:
        yield "REFUSED", report.refused


def _tensors(report: ModelReport) -> Iterator[Row]:
    for tensor in report.inputs:
        yield "inputs", _tensor(tensor)
    for tensor in report.outputs:
        yield "outputs", _tensor(tensor)
    for key, signature in report.signatures.items():
        yield "signature", f"{key}: {', '.join(signature.inputs)} -> {', '.join(signature.outputs)}"


def _tensor(tensor: TensorInfo) -> str:
    parts = [f"{tensor.name} {tensor.shape} {tensor.dtype}"]
    if len(tensor.scale) == 1:
        parts += [f"scale {tensor.scale[0]:g}", f"zero point {tensor.zero_point[0]}"]
    elif tensor.scale:
        parts.append(f"{len(tensor.scale)} scales from {min(tensor.scale):g} to {max(tensor.scale):g}")
    if tensor.channels:
        parts.append(f"channels {', '.join(tensor.channels)}")
    if tensor.unit:
        parts.append(f"in {tensor.unit}")
    return ", ".join(parts)


def _state(report: ModelReport) -> Iterator[Row]:
    """Yield what the model keeps from run to run. What the manifest says stands in for guesses at its inputs."""
    if report.state:
        yield "state", report.state
    for tensor in report.inputs:
        if tensor.state:
            yield "state", f"input {tensor.name} is output {tensor.state} of the run before, as its manifest says"
    if not any(tensor.state or tensor.channels for tensor in report.inputs):
        for name, output in report.state_pairs.items():
            yield "state", f"input {name} is perhaps output {output} of the run before; see the key inputs"
    if report.problem:
        yield "metadata", report.problem


def _origin(report: ModelReport) -> Iterator[Row]:
    """Yield what the manifest adds to the model file."""
    if report.signed:
        keys = ", ".join(map(short_hash, report.signed_by)) or "a key that cannot be read"
        yield "signed", f"by {keys}, which is not verified"
    tables: dict[str, Any] = msgspec.to_builtins(report.manifest)
    for key in ("window", "transforms", "decoder", "postprocess", "metrics"):
        if tables.get(key):
            yield key, json.dumps(tables[key], ensure_ascii=False)
    if report.labels:
        shown, more = report.labels[:_LABELS_SHOWN], len(report.labels) - _LABELS_SHOWN
        yield "labels", f"{len(report.labels)}: {', '.join(shown)}" + (f" and {more} more" if more > 0 else "")


def _reference(reference: ReferenceReport | None) -> Iterator[Row]:
    """Yield what devices compare with what they see."""
    if reference is None:
        return
    if reference.refused:
        yield "reference", f"REFUSED     {reference.refused}"
        return
    some, more = reference.features[:_LABELS_SHOWN], len(reference.features) - _LABELS_SHOWN
    features = ", ".join(some) + (f" and {more} more" if more > 0 else "")
    rate = f", {reference.rate:g} a second" if reference.rate else ""
    yield "reference", f"{reference.windows:,} windows{rate}; {len(reference.features)} features: {features}"
    monitors = ", ".join(reference.monitors) or "none"
    alarms = f"at most {reference.false_alarms:g} false alarms in 26 million windows like these"
    yield "monitors", f"{monitors}; {alarms}"
    for name, one in reference.slices.items():
        low, high = beta.interval(one.right, one.windows)
        yield (
            "slice",
            f"{name}: {one.right:,} of {one.windows:,} windows right, 95 % interval {low:.1%} to {high:.1%}",
        )


def _execution(report: ModelReport) -> Iterator[Row]:
    if report.ops:
        yield "ops", f"{sum(report.ops.values())}: {_counts(report.ops)}"
    for name, coverage in report.delegates.items():
        covered = _counts(coverage.covered) or "none"
        yield name, f"XNNPACK covers {coverage.share:.0%} of the ops: {covered}"
        if coverage.left:
            yield "", f"left to plain kernels: {_counts(coverage.left)}"
    for name, placed in report.placements.items():
        yield name, f"REFUSED     {placed}" if isinstance(placed, str) else _placed(placed)


def _placed(placed: Placed) -> str:
    shares = {"the ops": placed.op_share, "the multiply-adds": placed.mac_share, "the time": placed.time_share}
    parts = ", ".join(f"{share:.1%} of {what}" for what, share in shares.items() if share is not None)
    device = f" on {placed.device}" if placed.device else ""
    left = f"; the CPU is left with {_counts(placed.left)}" if placed.left else ""
    speed = f"{placed.run_us:.0f} µs a run, {placed.speed:.2f} times the CPU's speed"
    return f"{parts}{device}; {speed}; off by {placed.error:.3g}{left}"


def _counts(ops: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {op}" for op, count in sorted(ops.items(), key=lambda item: -item[1]))
