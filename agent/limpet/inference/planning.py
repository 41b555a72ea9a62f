"""From configuration and bundle to a plan: which plugins make up a pipeline, each with its own typed options.

A plan is made without opening a device or loading a model, so ``limpet check`` and a worker share it.
"""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limpet import plugins
from limpet.accelerators.delegate_kinds import resolve as resolve_delegate
from limpet.config import Config, fill
from limpet.contracts.data import SampleSpec, TensorSpec, fits
from limpet.contracts.delegate import CPU, Choice
from limpet.contracts.fields import WindowSpec
from limpet.device import directories
from limpet.errors import ConfigError, ModelError
from limpet.inference import needs
from limpet.inference.inputs import InputPlan, StatePlan, describe, plan_inputs, plan_state, refuse_unnamed
from limpet.inference.plan import Part, PipelinePlan, SourcePlan
from limpet.inference.window import Windower, refuse_oversize
from limpet.models import bundle as bundles
from limpet.models import store
from limpet.untrusted import reading
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from limpet.config import PipelineConfig
    from limpet.contracts.data import Array
    from limpet.contracts.fields import TensorInfo
    from limpet.contracts.model_facts import ModelFacts
    from limpet.models.manifest import Manifest


_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_TYPES = {*_INTEGERS, "float16", "float32", "float64", "bool", "complex64", "complex128", "string"}
"""What a manifest may call the type of a tensor."""
_LARGEST = 1 << 24
"""Numbers in a tensor with which a decoder is tried at most."""


def plan_source(config: Config, name: str) -> SourcePlan:
    """Resolve one source. ``ConfigError`` has all that is wrong with it."""
    part = source_part(config, name)
    try:
        spec = part.plugin.describe(part.config)
    except ConfigError as error:
        raise ConfigError([f"sources.{name}: {problem}" for problem in error.problems]) from error
    table = config.sources[name]
    if table.silence is not None and not spec.live:
        raise ConfigError([f"sources.{name}.silence: a source that waits for the model is never silent"])
    return SourcePlan(name, part, spec, table.queue, table.silence if table.silence is not None else spec.patience)


def source_part(config: Config, name: str) -> Part:
    """Resolve the options of one source. ``ConfigError`` has all that is wrong with them."""
    table = config.sources[name]
    resolve = _Resolver(config.base, [])
    part = resolve.part("sources", table.kind, table.options, f"sources.{name}")
    if part is None:
        raise ConfigError(resolve.problems)
    return part


def options_of(config: Config, name: str) -> list[str]:
    """Return what is wrong with the options of a pipeline, as far as its model is not needed to know."""
    wanted = config.pipelines[name]
    where = f"pipelines.{name}"
    resolve = _Resolver(config.base, [])
    resolve.all("transforms", wanted.transforms or [], f"{where}.transforms")
    if wanted.decoder is not None:
        resolve.table("decoders", wanted.decoder, f"{where}.decoder")
    _delegates(config, wanted, where, resolve.problems)
    return resolve.problems


def plan_pipeline(config: Config, name: str, spec: SampleSpec, *, decodes: bool = True) -> PipelinePlan:
    """Resolve one pipeline on a source whose samples are ``spec``. Without ``decodes``, its outputs stay tensors.

    ``ConfigError`` has all that is wrong with what a person wrote; ``ModelError``, ``DeployError`` or
    ``UnreadableError`` says why its model cannot be used, such as a manifest that asks for an unknown decoder.
    """
    wanted = config.pipelines[name]
    path = store.find(wanted.model, config.base, config.models)
    bundle = bundles.load(path, directories.models_cache(config.device.state, wanted.source))
    with reading(f"the manifest of {path.name}"):
        plan = _plan(config, name, spec, bundle)
        given = check_input(plan)
        if decodes:
            _check_decoder(plan, given)
        return plan


def _plan(config: Config, name: str, spec: SampleSpec, bundle: bundles.Bundle) -> PipelinePlan:
    wanted, manifest = config.pipelines[name], bundle.manifest
    where = f"pipelines.{name}"
    written, bundled = _Resolver(config.base, []), _Resolver(config.base, [])
    transforms = (
        bundled.all("transforms", manifest.transforms, "transforms")
        if wanted.transforms is None
        else written.all("transforms", wanted.transforms, f"{where}.transforms")
    )
    runtime = bundled.runtime(manifest.runtime, wanted.runtime, f"{where}.runtime", written.problems)
    if wanted.decoder is None and not manifest.decoder:
        example = 'for example decoder = { kind = "classify" }'
        names = ", ".join(plugins.names("decoders"))
        raise ModelError(f"{where}.decoder: missing, and the model names none; {example} (there are: {names})")
    decoder = (
        bundled.table("decoders", manifest.decoder, "decoder")
        if wanted.decoder is None
        else written.table("decoders", wanted.decoder, f"{where}.decoder")
    )
    delegates = _delegates(config, wanted, where, written.problems)
    if written.problems:
        raise ConfigError(written.problems)
    if runtime is None or decoder is None or bundled.problems:
        raise ModelError(f"{manifest.name}: its manifest: {'; '.join(bundled.problems)}")
    if problems := runtime.plugin.check(bundle.model, [choice.name for choice in delegates]):
        raise ModelError("; ".join(problems))
    window = _window(wanted, manifest, spec, where)
    read = read_facts(runtime, bundle)
    if read is not None:
        refuse_unnamed(read)
    facts = describe(manifest, read)
    inputs = plan_inputs(wanted.inputs, manifest, facts, spec)
    chosen, narrow = taken(taken_channels(inputs), spec)
    state = plan_state(wanted.stateful, manifest, facts, inputs)
    return PipelinePlan(
        name,
        bundle,
        chosen,
        narrow,
        window,
        transforms,
        runtime,
        decoder,
        delegates,
        inputs,
        state,
        wanted.require,
        wanted.least_speed,
        wanted.recheck,
        wanted.every,
        wanted.rate_tolerance,
        tuple(_warnings(wanted, manifest, state)),
    )


def _window(wanted: PipelineConfig, manifest: Manifest, spec: SampleSpec, where: str) -> WindowSpec:
    window = wanted.window or manifest.window or WindowSpec(size=1)
    if window.seconds is not None and not spec.timed:
        why = f"the window of {where} is {window.seconds:g} s, but these samples carry no time"
        raise ConfigError([f"sources.{wanted.source}.rate: missing; {why}: give their number a second"])
    refuse_oversize(window, spec)
    return window


def _warnings(wanted: PipelineConfig, manifest: Manifest, state: StatePlan) -> Iterator[str]:
    """Yield what is most likely not meant."""
    if wanted.transforms is not None:
        kept = {table.get("kind") for table in wanted.transforms}
        for table in manifest.transforms:
            if table["kind"] not in kept:
                own = ", ".join(f"{key} = {toml(value)}" for key, value in table.items())
                yield (
                    f"transforms replaces the model's own, which has {{ {own} }}; without it the model sees other "
                    "values than in training"
                )
    if state.lasting and wanted.every > 1:
        yield f"the model remembers windows, and every = {wanted.every} leaves most of them out"


def delegates_of(config: Config, name: str) -> tuple[Choice, ...]:
    """Resolve the delegates of a pipeline, best first. ``ConfigError`` has all that is wrong with them."""
    problems: list[str] = []
    choices = _delegates(config, config.pipelines[name], f"pipelines.{name}", problems)
    if problems:
        raise ConfigError(problems)
    return choices


def _delegates(config: Config, wanted: PipelineConfig, where: str, problems: list[str]) -> tuple[Choice, ...]:
    """Resolve a list of delegates; the CPU comes last unless that much is required to be elsewhere."""
    choices: list[Choice] = []
    for name in dict.fromkeys(wanted.delegates):
        try:
            choices.append(resolve_delegate(name, config.delegates))
        except ConfigError as error:
            problems.extend(f"{where}.delegates: {problem}" for problem in error.problems)
        else:
            problems.extend(
                f"{where}.delegates: {name!r}: {path} lies in a folder that workers may write; put it elsewhere"
                for path in needs.not_to_be_run(config, choices[-1])
            )
    if CPU not in choices and not wanted.require:
        choices.append(CPU)
    return tuple(
        msgspec.structs.replace(
            choice, libraries=tuple(str(config.base / n) if "/" in n else n for n in choice.libraries)
        )
        for choice in choices
    )


def taken(channels: Sequence[str], spec: SampleSpec) -> tuple[list[int] | None, SampleSpec]:
    """Return which columns of a source hold these channels, and what its samples are with only those."""
    chosen = columns(channels, spec, spec.shape)
    return chosen, spec if chosen is None else msgspec.structs.replace(
        spec, shape=narrowed(spec.shape, chosen), channels=tuple(channels)
    )


def check_input(plan: PipelinePlan) -> tuple[int, ...]:
    """Return the shape of what source, window and transforms give.

    ``ModelError`` where the model cannot take it: its shape, its type or its rate.
    """
    windower = Windower(plan.window, plan.spec)
    shape, _ = open_transforms(plan.transforms, windower)
    for tensor, chosen in windowed_columns(plan, shape):
        if tensor.dtype in _TYPES:
            dtype = np.dtype("S" if tensor.dtype == "string" else tensor.dtype)
            refuse_type(plan, windower.rows.dtype, tensor.name, dtype, quantized=tensor.quantized)
        refuse_misfit(narrowed(shape, chosen), tensor.name, tensor.shape)
    refuse_rate(plan, windower.rows.rate)
    return shape


def windowed_columns(plan: PipelinePlan, shape: tuple[int, ...]) -> list[tuple[InputPlan, list[int] | None]]:
    """Return the inputs that get windows, each with its columns of the last axis of ``shape``, ``None`` for all.

    ``ModelError`` where the transforms leave nothing of the channels that would tell several inputs apart.
    """
    windowed = [one for one in plan.inputs if one.windowed]
    apart = len({one.channels for one in windowed}) > 1
    if apart and (not plan.spec.channels or shape[-1] != len(plan.spec.channels)):
        raise ModelError(
            f"the model's inputs get different channels, but windows of shape {list(shape)} have none by name; "
            "use a source with named channels, and transforms that keep them"
        )
    return [(one, columns(one.channels, plan.spec, shape)) for one in windowed]


def taken_channels(inputs: Sequence[InputPlan]) -> tuple[str, ...]:
    """Return the channels that all inputs together take, none if one of them takes the window as it is."""
    windowed = [one.channels for one in inputs if one.windowed]
    return tuple(dict.fromkeys(chain.from_iterable(windowed))) if all(windowed) else ()


def read_facts(runtime: Part, bundle: bundles.Bundle) -> ModelFacts | None:
    """Return what the runtime reads of the model's file, ``None`` if it reads none."""
    facts: ModelFacts | None = runtime.plugin.describe(bundle.model, runtime.config)
    return facts


def refuse_type(
    plan: PipelinePlan, dtype: np.dtype[Any], name: str, wanted: np.dtype[Any], *, quantized: bool
) -> None:
    """Raise ``ModelError`` where samples of type ``dtype`` cannot become values of the input ``name``."""
    where = f"the model's input {name!r} takes {wanted}"
    if wanted.kind not in "fiub":
        kind = "text" if wanted.kind in "SU" else str(wanted)
        raise ModelError(f"the model's input {name!r} takes {kind}, which no source gives")
    if quantized or wanted.kind == "f":
        return
    for part in plan.transforms:
        if not part.plugin.KEEPS_RANGE:
            kind = part.plugin.__name__.rpartition(".")[2]
            raise ModelError(
                f"{where} as it is, without quantization, so it cannot take the floats that the transform "
                f"{kind!r} gives; remove that transform, or export the model with a float or a quantized input"
            )
    if dtype.kind in "iu" and dtype.itemsize == 1 and wanted.itemsize == 1 and dtype != wanted:
        raise ModelError(
            f"{where} as it is, without quantization, and the source gives {dtype}; export the model with a float "
            f"or a quantized input, or one of {dtype}"
        )


def refuse_not_finite(values: Array) -> None:
    """Raise ``ModelError`` where what a model is to get has NaN or infinity: a quantized input would hide that."""
    flat = values.ravel()
    if not (math.isfinite(flat.dot(flat)) or np.isfinite(values).all()):  # The first is faster, and rarely wrong.
        raise ModelError("samples so large that window and transforms make NaN or infinity of them")


def refuse_rate(plan: PipelinePlan, rate: float | None) -> None:
    """Raise ``ModelError`` where samples at ``rate`` a second are not those that the model was made for."""
    made_for = plan.bundle.manifest.rate
    if rate is None or made_for is None or abs(rate - made_for) <= plan.rate_tolerance * made_for:
        return
    size = plan.window.size or 1
    resample = f"window = {{ seconds = {size / made_for:g}, size = {size} }}"
    way = "" if plan.window.seconds else f", resample with {resample}"
    raise ModelError(
        f"the model is made for {made_for:g} samples a second, and its source and window give {rate:g}; set the "
        f"source's rate{way}, or allow it with rate_tolerance"
    )


def toml(value: Any) -> str:
    """Return a value as it is written in TOML, on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list):
        shown = [toml(entry) for entry in value[:4]] + ["..."] * (len(value) > 4)
        return f"[{', '.join(shown)}]"
    return msgspec.json.encode(value).decode()


def _tensor_spec(tensor: TensorInfo) -> TensorSpec | None:
    """Return what a manifest says of a tensor, ``None`` where its type is not known."""
    if tensor.dtype not in _TYPES:
        return None
    dtype = np.dtype("S" if tensor.dtype == "string" else tensor.dtype)
    return TensorSpec(tensor.name, tuple(tensor.shape), dtype, tuple(tensor.scale), tuple(tensor.zero_point))


def _check_decoder(plan: PipelinePlan, given: tuple[int, ...]) -> None:
    """Refuse outputs that the decoder cannot read with ``ModelError``, as far as the manifest has their shapes.

    The decoder is tried on zeros: what it refuses then it would refuse of every window.
    """
    handed_back = {one.state for one in plan.inputs}
    there = [tensor for tensor in plan.bundle.manifest.outputs if tensor.name not in handed_back]
    outputs = [_tensor_spec(tensor) for tensor in there]
    specs = [spec for spec in outputs if spec is not None and _is_closed(spec.shape)]
    if not specs or len(specs) < len(outputs):
        return
    try:
        decoder = plan.decoder.plugin.open(plan.decoder.config, specs, plan.bundle.labels)
    except ValueError as error:
        raise ModelError(f"decoder: {error}") from error
    if _is_closed((1, *given)):
        inputs = [narrowed(given, chosen) for _, chosen in windowed_columns(plan, given)] or [given]
        decoder([_zeros(spec) for spec in specs], [np.zeros(shape, np.float32) for shape in inputs])


def _is_closed(shape: tuple[int, ...]) -> bool:
    """Whether all but the first size are known. A manifest may say anything."""
    return bool(shape) and shape[0] >= -1 and min(shape[1:], default=1) >= 1 and math.prod(shape[1:]) <= _LARGEST


def _zeros(spec: TensorSpec) -> Array:
    """Return an output as a runtime gives it: real values where it is quantized."""
    dtype = np.dtype(np.float32) if spec.quantized else spec.dtype
    return np.zeros([1 if size == -1 else size for size in spec.shape], dtype)


def resolve_transforms(tables: Sequence[Mapping[str, Any]], where: str, base: Path) -> tuple[Part, ...]:
    """Resolve the tables of transforms; ``where`` names them in messages. ``ConfigError`` has all problems."""
    resolve = _Resolver(base, [])
    parts = resolve.all("transforms", tables, where)
    if resolve.problems:
        raise ConfigError(resolve.problems)
    return parts


def open_transforms(parts: Sequence[Part], windower: Windower) -> tuple[tuple[int, ...], list[Any]]:
    """Open the transforms for a windower's windows; return the shape that the last one gives, and them all."""
    shape = windower.shape
    opened = []
    for number, part in enumerate(parts):
        try:
            transform = part.plugin.open(part.config, windower.rows, shape)
        except (ValueError, MemoryError) as error:
            raise ModelError(f"transforms[{number}]: {error}") from error
        shape = transform.shape
        opened.append(transform)
    return shape, opened


def columns(channels: Sequence[str], spec: SampleSpec, shape: tuple[int, ...]) -> list[int] | None:
    """Return which columns of the last axis of ``shape`` a model's input takes, ``None`` for all as they are.

    ``ModelError`` where it takes a channel that the source does not have.
    """
    if not channels or not spec.channels or shape[-1] != len(spec.channels) or tuple(channels) == spec.channels:
        return None
    twice = [channel for channel in channels if spec.channels.count(channel) > 1]
    if twice:
        raise ModelError(f"the model takes channel {twice[0]!r}, and its source has more than one of that name")
    missing = [channel for channel in channels if channel not in spec.channels]
    if missing:
        raise ModelError(
            f"the model takes channels {missing}, which its source does not have; it has {list(spec.channels)}"
        )
    return [spec.channels.index(channel) for channel in channels]


def narrowed(shape: tuple[int, ...], chosen: Sequence[int] | None) -> tuple[int, ...]:
    """Return ``shape`` with its last axis cut to the chosen columns."""
    return shape if chosen is None else (*shape[:-1], len(chosen))


def refuse_misfit(given: tuple[int, ...], name: str, wanted: Sequence[int]) -> None:
    """Raise ``ModelError`` where an array of shape ``given`` cannot be handed to the input ``name``."""
    if not fits(given, wanted):
        raise ModelError(
            f"the model's input {name!r} has shape {list(wanted)}, but its source, window and transforms give "
            f"{list(given)}; compare `limpet inspect` with the source's channels and the window's size"
        )


def resized(plan: PipelinePlan, shape: tuple[int, ...]) -> list[tuple[int, ...]] | None:
    """Return the shapes for the inputs of a model that leaves some open, ``None`` if it leaves none."""
    if not any(-1 in tensor.shape for tensor in plan.inputs):
        return None
    given = {one.name: narrowed(shape, chosen) for one, chosen in windowed_columns(plan, shape)}
    return [_closed(given.get(tensor.name, ()), tensor.shape) for tensor in plan.inputs]


def _closed(given: tuple[int, ...], wanted: Sequence[int]) -> tuple[int, ...]:
    """Return ``wanted`` with each -1 taken from ``given``, 1 where that has no such dimension."""
    missing = len(wanted) - len(given)
    padded = (1,) * missing + given if missing >= 0 else given[-len(wanted) :]
    return tuple(have if want == -1 else want for have, want in zip(padded, wanted, strict=True))


class _Resolver(msgspec.Struct, frozen=True):
    """Tables to parts. What is wrong with them adds up in ``problems``."""

    base: Path
    problems: list[str]

    def part(self, group: plugins.Group, kind: str, options: Mapping[str, Any], where: str) -> Part | None:
        """Resolve a plugin whose kind is known."""
        try:
            module = plugins.load(group, kind)
        except ConfigError as error:
            self.problems.extend(f"{where}: {problem}" for problem in error.problems)
            return None
        config = fill(module.Config, options, where, self.base, self.problems)
        return None if config is None else Part(module, config)

    def runtime(self, kind: str, options: Mapping[str, Any], where: str, written: list[str]) -> Part | None:
        """Resolve a runtime that a manifest names, with ``options`` of the configuration.

        What is wrong with those is added to ``written``.
        """
        try:
            module = plugins.load("runtimes", kind)
        except ConfigError as error:
            self.problems.extend(f"runtime: {problem}" for problem in error.problems)
            return None
        config = fill(module.Config, options, where, self.base, written)
        return None if config is None else Part(module, config)

    def table(self, group: plugins.Group, table: Mapping[str, Any], where: str) -> Part | None:
        """Resolve a table that names its own kind."""
        kind = table.get("kind")
        if not isinstance(kind, str):
            self.problems.append(f"{where}.kind: missing{suggest('', plugins.names(group))}")
            return None
        return self.part(group, kind, {k: v for k, v in table.items() if k != "kind"}, where)

    def all(self, group: plugins.Group, tables: Sequence[Mapping[str, Any]], where: str) -> tuple[Part, ...]:
        """Resolve tables in their order."""
        parts = [self.table(group, table, f"{where}[{number}]") for number, table in enumerate(tables)]
        return tuple(part for part in parts if part)
