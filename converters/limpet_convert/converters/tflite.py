"""A float ``.tflite`` model, taken as it is after a look at whether it is whole and really float."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from limpet.errors import ModelError
from limpet.models.tflite import model_file
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".tflite",)
IN_JAIL = False
LIVE = True
"""Whether it is opened in a sandboxed child. Our own reader is all that reads it here."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Nothing to choose."""


def convert(path: Path, config: Config) -> bytes:  # noqa: ARG001 - the form of all converters
    """Return the file's bytes. ``ConvertError`` where it is damaged or already quantized."""
    try:
        file = model_file.read(path)
    except ModelError as error:
        raise ConvertError(str(error)) from error
    quantized = [tensor.name for tensor in (*file.inputs, *file.outputs) if tensor.scale]
    if quantized:
        raise ConvertError(f"{path}: quantized already ({quantized[0]}); give the float model that it was made of")
    return path.read_bytes()


def live(path: Path, config: Config) -> tuple[Any, tuple[int, ...]]:  # noqa: ARG001 - the form of all converters
    """Return the model, which may be quantized, as a function of TensorFlow, and its input's shape."""
    from limpet_convert.coreml import from_tflite

    try:
        model_file.read(path)
    except ModelError as error:
        raise ConvertError(str(error)) from error
    model = path.read_bytes()
    sizes = from_tflite.shapes(model)
    if len(sizes) != 1:
        raise ConvertError(f"{path}: Core ML is made of models with one input; this one has {len(sizes)}")
    return from_tflite.function(model), sizes[0]
