"""One pipeline around one model, without a configuration file: for ``limpet infer`` and ``limpet bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from limpet.config import Config, Device, PipelineConfig
from limpet.contracts.assignment import SourceTable
from limpet.contracts.data import SampleSpec
from limpet.contracts.fields import UnwindowedInput, WindowSpec
from limpet.deployment.local import assignment_of
from limpet.errors import ModelError
from limpet.inference.planning import plan_pipeline, read_facts
from limpet.inference.resolving import Resolver
from limpet.models import bundle as bundles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.fields import InputValue
    from limpet.inference.plan import PipelinePlan
    from limpet.models.manifest import Manifest

_OF_SOUND = frozenset({"log_mel", "mfcc", "micro_frontend", "spectrogram"})
"""Transforms that make features of sound."""


def plan_model(
    path: Path,
    spec: SampleSpec | None,
    delegates: Sequence[str],
    cache: Path,
    wanted: PipelineConfig | None = None,
) -> PipelinePlan:
    """Plan a pipeline for a bundle or a bare model, on samples of ``spec`` or on such as it seems made for.

    On these delegates and on no other, however slow. ``wanted`` may replace the model's own window, transforms
    and decoder. A model that says nothing of its outputs gets the decoder ``regress``. The model is unpacked below
    ``cache``. Without ``spec`` only cost and placement count. Then the first of several inputs gets the window,
    the others zeros, and state is kept unless the model says otherwise.
    ``ConfigError``, ``ModelError`` or ``DeployError`` as ``plan_pipeline``.
    """
    bundle = bundles.load(path, cache / "cache")
    manifest = bundle.manifest
    wanted = wanted or PipelineConfig(source="samples", model="")
    wanted = msgspec.structs.replace(wanted, model=str(path.absolute()), delegates=list(delegates))
    if not manifest.decoder and wanted.decoder is None:
        wanted.decoder = {"kind": "regress"}
    if spec is None:
        wanted.inputs = _any_inputs(manifest)
        wanted.stateful = _any_state(bundle)
    return _plan(wanted, manifest.name, spec or likely_samples(manifest), cache)


def _any_inputs(manifest: Manifest) -> dict[str, InputValue] | None:
    described = [tensor.channels or tensor.state or tensor.constant is not None for tensor in manifest.inputs]
    if len(described) < 2 or all(described):
        return None
    first, *others = manifest.inputs
    zeros: dict[str, InputValue] = {tensor.name: UnwindowedInput(constant=0.0) for tensor in others}
    return {first.name: [], **zeros}


def _any_state(bundle: bundles.Bundle) -> bool | None:
    """Return how to treat state of which nothing says how long it lasts: it lasts, which costs least."""
    problems: list[str] = []
    runtime = Resolver(Path(), problems).runtime(bundle.manifest.runtime, {}, "runtime", problems)
    facts = read_facts(runtime, bundle) if runtime else None
    unknown = facts is not None and facts.stateful is None and bundle.manifest.stateful is None
    return True if unknown else None


def plan_tensors(path: Path, shape: tuple[int, ...], delegate: str, cache: Path) -> PipelinePlan:
    """Plan a pipeline for a bare model whose input is the windows, of ``shape``, as they are. Errors as above."""
    wanted = PipelineConfig(
        source="samples",
        model=str(path.absolute()),
        delegates=[delegate],
        window=WindowSpec(size=1),
        transforms=[],
        decoder={"kind": "regress"},
    )
    return _plan(wanted, path.stem, SampleSpec(shape, np.dtype(np.float32)), cache, decodes=False)


def _plan(
    wanted: PipelineConfig, name: str, spec: SampleSpec, cache: Path, *, decodes: bool = True
) -> PipelinePlan:
    sources = {wanted.source: SourceTable("replay", {})}
    config = Config(Path.cwd(), Device(id="single", state=cache), sources, {name: wanted}, {})
    plan = plan_pipeline(assignment_of(config, name), name, spec, decodes=decodes)
    requested = tuple(choice for choice in plan.delegates if choice.name in wanted.delegates)
    return msgspec.structs.replace(plan, delegates=requested, least_speed=0.0)


def likely_samples(manifest: Manifest) -> SampleSpec:
    """Return samples that suit a model.

    Images for an input of rank 4 with three colours; one channel for features that transforms make of sound; else
    the model's channels.
    """
    if not manifest.inputs:
        raise ModelError(f"the manifest of {manifest.name} does not say what its inputs are")
    first = manifest.inputs[0]
    rows = first.shape[1:]
    if len(rows) > 1 and manifest.window is not None and rows[0] in {manifest.window.size, -1}:
        rows = rows[1:]
    shape = [size for size in rows if size != 1] or [1]
    if len(first.shape) == 4 and first.shape[3] == 3:
        return SampleSpec(tuple(first.shape[1:]), np.dtype(np.uint8))
    channels = tuple(dict.fromkeys(channel for tensor in manifest.inputs for channel in tensor.channels))
    if not channels and any(table["kind"] in _OF_SOUND for table in manifest.transforms):
        return SampleSpec((1,), np.dtype(np.float32), (), manifest.rate)
    return SampleSpec((len(channels) or shape[-1],), np.dtype(np.float32), channels, manifest.rate)
