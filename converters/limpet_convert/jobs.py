"""What a jailed child does with a foreign model. Arguments and results are plain values and ``Packed`` arrays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limpet.types import TensorSpec
from limpet.untrusted import reading
from limpet_convert import sources
from limpet_convert.errors import ConvertError
from limpet_convert.mil import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.types import Array
    from limpet_convert.runners import Runner


class Packed(msgspec.Struct, array_like=True):
    """An array of numbers."""

    dtype: str
    shape: list[int]
    data: bytes


class Opened(msgspec.Struct):
    """A model that was opened: its tensors as name, shape and dtype; its ops by kind, where it tells."""

    inputs: list[tuple[str, list[int], str]]
    outputs: list[tuple[str, list[int], str]]
    kinds: dict[str, int] = {}


def pack(values: Array) -> Packed:
    """Return an array as it is sent."""
    return Packed(values.dtype.str, list(values.shape), np.ascontiguousarray(values).tobytes())


def unpack(packed: Any) -> Array:
    """Return an array that was sent. ``UnreadableError`` if it is none of numbers."""
    with reading("an array"):
        found = msgspec.convert(packed, Packed)
        dtype = np.dtype(found.dtype)
        if dtype.kind not in "fiub":
            raise ConvertError(f"the model gives {dtype}, not numbers")
        return np.frombuffer(found.data, dtype).reshape(found.shape).copy()


def specs(tensors: list[tuple[str, list[int], str]]) -> list[TensorSpec]:
    """Return tensors as runners have them. ``UnreadableError`` if a dtype is none."""
    with reading("a tensor's dtype"):
        return [TensorSpec(name, tuple(shape), np.dtype(dtype)) for name, shape, dtype in tensors]


def _plain(tensors: Any) -> list[tuple[str, list[int], str]]:
    return [(spec.name, list(spec.shape), spec.dtype.name) for spec in tensors]


_open: list[Runner] = []


def open_model(path: str) -> Opened:
    """Open a model, for ``run``."""
    from limpet_convert import runners

    model = runners.open_here(Path(path))
    _open[:] = [model]
    kinds = dict(Counter(model.kinds())) if isinstance(model, Program) else {}
    return Opened(_plain(model.inputs), _plain(model.outputs), kinds)


def run(inputs: list[Any]) -> list[Packed]:
    """Run the model that was opened once."""
    return [pack(np.asarray(output)) for output in _open[0].run([unpack(one) for one in inputs])]


def convert(path: str, kind: str, options: dict[str, Any], base: str) -> bytes:
    """Return a model as float TFLite."""
    return sources.convert_here(Path(path), kind, options, Path(base))


def coreml(  # noqa: PLR0913, PLR0917 - a model, what is to be made of it, and data
    path: str, kind: str, options: dict[str, Any], base: str, table: dict[str, Any], samples: list[Any]
) -> str:
    """Make a Core ML package in the current folder and return its name."""
    from limpet.config import fill
    from limpet.errors import ConfigError
    from limpet_convert.converters import coreml as converter

    problems: list[str] = []
    config = fill(converter.Config, table, "coreml", Path(base), problems)
    if config is None:
        raise ConfigError(problems)
    model, shape = sources.live_here(Path(path), kind, options, Path(base))
    made = Path.cwd() / f"{config.weights}.mlpackage"
    converter.convert(model, made, config, [shape], [[unpack(one).reshape(shape)] for one in samples])
    return made.name


def onnx_inputs(path: str) -> list[str]:
    """Return the names of an ONNX model's inputs, having looked whether the file is whole."""
    from limpet_convert.converters import onnx

    return onnx.read(Path(path))[1]


def onnx_named(path: str, tflite: bytes, layout: str) -> bytes:
    """Return what onnx2tf made, proven against the ONNX model and with its names."""
    from limpet_convert.converters import onnx

    return onnx.proven(Path(path), tflite, layout)


JOBS: dict[str, Callable[..., Any]] = {
    "open": open_model,
    "run": run,
    "convert": convert,
    "coreml": coreml,
    "onnx_inputs": onnx_inputs,
    "onnx_named": onnx_named,
}
