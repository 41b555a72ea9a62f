"""Whether a model can take what its source, window and transforms give, and which part of it each input gets."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limpet.contracts.data import SampleSpec, fits
from limpet.errors import ModelError
from limpet.inference.window import Windower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.inference.inputs import InputPlan
    from limpet.inference.plan import Configured, PipelinePlan

_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


TENSOR_TYPES = {*_INTEGERS, "float16", "float32", "float64", "bool", "complex64", "complex128", "string"}
"""What a manifest may call the type of a tensor."""


def check_input(plan: PipelinePlan) -> tuple[int, ...]:
    """Return the shape of what source, window and transforms give.

    ``ModelError`` where the model cannot take it: its shape, its type or its rate.
    """
    windower = Windower(plan.window, plan.spec)
    shape, _ = open_transforms(plan.transforms, windower)
    for tensor, chosen in windowed_columns(plan, shape):
        if tensor.dtype in TENSOR_TYPES:
            dtype = np.dtype("S" if tensor.dtype == "string" else tensor.dtype)
            refuse_type(plan, windower.rows.dtype, tensor.name, dtype, quantized=tensor.quantized)
        refuse_misfit(narrowed(shape, chosen), tensor.name, tensor.shape)
    refuse_rate(plan, windower.rows.rate)
    return shape


def open_transforms(parts: Sequence[Configured], windower: Windower) -> tuple[tuple[int, ...], list[Any]]:
    """Open the transforms for a windower's windows; return the shape that the last one gives, and them all."""
    shape = windower.shape
    opened = []
    for number, plugin in enumerate(parts):
        try:
            transform = plugin.module.open(plugin.config, windower.rows, shape)
        except (ValueError, MemoryError) as error:
            raise ModelError(f"transforms[{number}]: {error}") from error
        shape = transform.shape
        opened.append(transform)
    return shape, opened


def taken(channels: Sequence[str], spec: SampleSpec) -> tuple[list[int] | None, SampleSpec]:
    """Return which columns of a source hold these channels, and what its samples are with only those."""
    chosen = columns(channels, spec, spec.shape)
    return chosen, spec if chosen is None else msgspec.structs.replace(
        spec, shape=narrowed(spec.shape, chosen), channels=tuple(channels)
    )


def taken_channels(inputs: Sequence[InputPlan]) -> tuple[str, ...]:
    """Return the channels that all inputs together take, none if one of them takes the window as it is."""
    windowed = [one.channels for one in inputs if one.windowed]
    return tuple(dict.fromkeys(chain.from_iterable(windowed))) if all(windowed) else ()


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
    for plugin in plan.transforms:
        if not plugin.module.KEEPS_RANGE:
            raise ModelError(
                f"{where} as it is, without quantization, so it cannot take the floats that the "
                f"transform {plugin.kind!r} gives; remove that transform, or export the model with a "
                "float or a quantized input"
            )
    if dtype.kind in "iu" and dtype.itemsize == 1 and wanted.itemsize == 1 and dtype != wanted:
        raise ModelError(
            f"{where} as it is, without quantization, and the source gives {dtype}; export the model with a float "
            f"or a quantized input, or one of {dtype}"
        )


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


def refuse_misfit(given: tuple[int, ...], name: str, wanted: Sequence[int]) -> None:
    """Raise ``ModelError`` where an array of shape ``given`` cannot be handed to the input ``name``."""
    if not fits(given, wanted):
        raise ModelError(
            f"the model's input {name!r} has shape {list(wanted)}, but its source, window and transforms give "
            f"{list(given)}; compare `limpet inspect` with the source's channels and the window's size"
        )
