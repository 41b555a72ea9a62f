"""Whether a model can take what its source, window and transforms give, and which part of it each input gets."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limpet.contracts.data import SampleSpec, fits
from limpet.errors import ModelError
from limpet.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.inference.inputs import InputPlan
    from limpet.inference.plan import PipelinePlan

_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


TENSOR_TYPES = {*_INTEGERS, "float16", "float32", "float64", "bool", "complex64", "complex128", "string"}
"""What a manifest may call the type of a tensor."""


def check_input(plan: PipelinePlan) -> None:
    """Raise ``ModelError`` if the model cannot take what source, window and transforms give.

    Their shape, their type and their rate count.
    """
    windows, shape = plan.transforms.windows, plan.transforms.spec.shape
    for tensor, chosen in windowed_columns(plan):
        if tensor.dtype in TENSOR_TYPES:
            dtype = np.dtype("S" if tensor.dtype == "string" else tensor.dtype)
            refuse_type(plan, tensor.name, dtype, quantized=tensor.quantized)
        refuse_misfit(narrowed(shape, chosen), tensor.name, tensor.shape)
    refuse_rate(plan, windows.rate)


def narrow_samples(channels: Sequence[str], spec: SampleSpec) -> tuple[list[int] | None, SampleSpec]:
    """Return which columns of a source hold these channels, and what its samples are with only those."""
    named = bool(spec.shape) and spec.shape[-1] == len(spec.channels)
    chosen = columns(channels, spec.channels if named else ())
    return chosen, spec if chosen is None else msgspec.structs.replace(
        spec, shape=narrowed(spec.shape, chosen), channels=tuple(channels)
    )


def channels_of_inputs(inputs: Sequence[InputPlan]) -> tuple[str, ...]:
    """Return the channels that all inputs together take, none if one of them takes the window as it is."""
    windowed = [one.channels for one in inputs if one.windowed]
    return tuple(dict.fromkeys(chain.from_iterable(windowed))) if all(windowed) else ()


def windowed_columns(plan: PipelinePlan) -> list[tuple[InputPlan, list[int] | None]]:
    """Return the inputs that get windows, each with its columns of the transforms' last axis, ``None`` for all.

    ``ModelError`` if the transforms keep no channels by which several inputs can be distinguished.
    """
    features = plan.transforms.spec
    windowed = [one for one in plan.inputs if one.windowed]
    if len({one.channels for one in windowed}) > 1 and not features.channels:
        raise ModelError(
            f"the model's inputs get different channels, but windows of shape {list(features.shape)} have no "
            "channel names. Use a source with named channels, and transforms that keep them"
        )
    return [(one, columns(one.channels, features.channels)) for one in windowed]


def columns(channels: Sequence[str], names: tuple[str, ...]) -> list[int] | None:
    """Return which columns of an axis with these ``names`` a model's input takes, ``None`` for all as they are.

    An axis without names is taken as it is. ``ModelError`` where a channel is missing.
    """
    if not channels or not names or tuple(channels) == names:
        return None
    twice = [channel for channel in channels if names.count(channel) > 1]
    if twice:
        raise ModelError(f"the model takes channel {twice[0]!r}, and its source has more than one of that name")
    missing = [channel for channel in channels if channel not in names]
    if missing:
        what = f"the model needs the channels {listed(missing)}, and its source has {listed(names)}"
        raise ModelError(f"{what}. Check `channels`, or use another model")
    return [names.index(channel) for channel in channels]


def narrowed(shape: tuple[int, ...], chosen: Sequence[int] | None) -> tuple[int, ...]:
    """Return ``shape`` with its last axis cut to the chosen columns."""
    return shape if chosen is None else (*shape[:-1], len(chosen))


def resized(plan: PipelinePlan, shape: tuple[int, ...] | None = None) -> list[tuple[int, ...]] | None:
    """Return the shapes for the inputs of a model that leaves some open, ``None`` if it leaves none.

    ``shape`` is that of a window behind the transforms. Default: as planned.
    """
    if not any(-1 in tensor.shape for tensor in plan.inputs):
        return None
    shape = plan.transforms.spec.shape if shape is None else shape
    windowed = {one.name: narrowed(shape, chosen) for one, chosen in windowed_columns(plan)}
    return [_closed(windowed.get(tensor.name, ()), tensor.shape) for tensor in plan.inputs]


def _closed(shape: tuple[int, ...], wanted: Sequence[int]) -> tuple[int, ...]:
    """Return ``wanted`` with each -1 taken from ``shape``, 1 where that has no such dimension."""
    missing = len(wanted) - len(shape)
    padded = (1,) * missing + shape if missing >= 0 else shape[-len(wanted) :]
    return tuple(have if want == -1 else want for have, want in zip(padded, wanted, strict=True))


def refuse_type(plan: PipelinePlan, name: str, wanted: np.dtype[Any], *, quantized: bool) -> None:
    """Raise ``ModelError`` where samples cannot become values of the input ``name``, of type ``wanted``."""
    dtype = plan.transforms.windows.dtype
    where = f"the model's input {name!r} takes {wanted}"
    if wanted.kind not in "fiub":
        kind = "text" if wanted.kind in "SU" else str(wanted)
        raise ModelError(f"the model's input {name!r} takes {kind}, which no source gives")
    if quantized or wanted.kind == "f":
        return
    for plugin in plan.transforms.plugins:
        if not plugin.abilities.keeps_range:
            raise ModelError(
                f"{where} as it is, without quantization, so it cannot take the floats that the "
                f"transform {plugin.kind!r} gives. Remove that transform, or export the model with a "
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


def refuse_misfit(shape: tuple[int, ...], name: str, wanted: Sequence[int]) -> None:
    """Raise ``ModelError`` where an array of this shape cannot be handed to the input ``name``."""
    if not fits(shape, wanted):
        raise ModelError(
            f"the model's input {name!r} has shape {list(wanted)}, but its source, window and transforms give "
            f"{list(shape)}; compare `limpet inspect` with the source's channels and the window's size"
        )
