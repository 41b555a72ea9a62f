"""Stages as the graph uses them: windows in, windows out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet.contracts.data import Array, SampleSpec, TensorSpec, Window
from limpet.contracts.stage import Spec, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence


def window_spec(samples: SampleSpec, shape: tuple[int, ...], hop: int | None = None) -> Spec:
    """Return the form of windows of a shape, cut from such samples, one every ``hop``: where the last ends."""
    channels = samples.channels if shape and shape[-1] == len(samples.channels) else ()
    hop = hop or (shape[0] if shape and shape[0] > 0 else None)
    return Spec(shape=shape, dtype=samples.dtype, rate=samples.rate, channels=channels, hop=hop)


def output_spec(outputs: Sequence[TensorSpec], labels: Sequence[str] = ()) -> Spec:
    """Return the form of windows behind a model."""
    shape, dtype = (outputs[0].shape, outputs[0].dtype) if outputs else ((), None)
    return Spec(shape=shape, dtype=dtype, outputs=tuple(outputs), labels=tuple(labels))  # type: ignore[arg-type]


def window(values: Array, **others: Any) -> Window:
    """Return a window of which only the values matter."""
    return Window(values, 0, 0, 0, **others)


def transformed(stage: Stage, values: Array) -> Array:
    """Return what a transform makes of one window's values."""
    return stage(window(values)).values


def decoded(stage: Stage, outputs: Sequence[Array], inputs: Sequence[Array] = ()) -> Any:
    """Return what a decoder makes of a model's outputs."""
    return stage(window(outputs[0], outputs=outputs, inputs=inputs)).result
