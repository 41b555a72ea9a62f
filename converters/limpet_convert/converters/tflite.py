"""A float ``.tflite`` model, taken as it is after a look at whether it is whole and really float."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from limpet.errors import ModelError
from limpet.models.tflite import model_file
from limpet_convert.converters import _tflite_constants, _tflite_ops
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.models.tflite.model_file import TFLiteFile

SUFFIXES = (".tflite",)
IN_JAIL = True
LIVE = True
"""Whether it is opened in a sandboxed child: the runtime expands its constants there."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Nothing to choose."""


def convert(path: Path, config: Config) -> bytes:  # noqa: ARG001 - the form of all converters
    """Return the model with float32 constants. ``ConvertError`` where it is damaged or already quantized.

    Ops of other makers that are a built-in one by another name become that. ``ConvertError`` names other ones.
    """
    file = _read(path)
    quantized = [tensor.name for tensor in (*file.inputs, *file.outputs) if tensor.scale]
    if quantized:
        raise ConvertError(f"{path}: quantized already ({quantized[0]}); give the float model that it was made of")
    if missing := missing_ops(path):
        raise ConvertError(f"{path}: {_without(missing)}")
    return _tflite_constants.folded(_tflite_ops.replaced(path.read_bytes()))


def missing_ops(path: Path) -> list[str]:
    """Return the ops of a model that neither the runtime nor this converter has."""
    return [name for name in _read(path).missing_ops if name not in _tflite_ops.KNOWN]


def _read(path: Path) -> TFLiteFile:
    try:
        return model_file.read(path)
    except ModelError as error:
        raise ConvertError(str(error)) from error


def _without(missing: Sequence[str]) -> str:
    """Say what to do about ops that the runtime does not have. Those of TensorFlow begin with ``Flex``."""
    flex = [name.removeprefix("Flex") for name in missing if name.startswith("Flex")]
    others = [name for name in missing if not name.startswith("Flex")]
    parts = []
    if flex:
        parts.append(
            f"the runtime has no TensorFlow ops, and the model needs {', '.join(flex)}. Convert the model with "
            "TFLITE_BUILTINS only"
        )
    if others:
        parts.append(
            f"the runtime does not have the custom ops {', '.join(others)}. Only the program of their maker runs "
            "them. Export the model without them"
        )
    return ". ".join(parts)


def live(path: Path, config: Config) -> tuple[Any, tuple[int, ...]]:  # noqa: ARG001 - the form of all converters
    """Return the model, which may be quantized, as a function of TensorFlow, and its input's shape."""
    from limpet_convert.coreml import from_tflite

    _read(path)
    model = path.read_bytes()
    sizes = from_tflite.shapes(model)
    if len(sizes) != 1:
        raise ConvertError(f"{path}: Core ML is made of models with one input; this one has {len(sizes)}")
    return from_tflite.function(model), sizes[0]
