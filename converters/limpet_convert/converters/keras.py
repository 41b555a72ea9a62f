"""Keras models: ``.keras`` and ``.h5`` files, or a live object through ``to_tflite``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from limpet_convert.converters import _tensorflow
from limpet_convert.errors import ConvertError, need

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".keras", ".h5")


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``shape`` of the input without the batch, where the model leaves it open."""

    shape: list[int] | None = None


def convert(path: Path, config: Config) -> bytes:
    """Return the model as float TFLite with a batch of 1."""
    return to_tflite(load(path), config.shape)


def load(path: Path) -> Any:
    """Read a model file. ``ConvertError`` where it is damaged, or brings code that would run: a Lambda layer."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keras = need("keras", "convert-tensorflow")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises what comes; safe mode refuses with ValueError.
        text = str(error).strip().split("\n")[0]
        if "unsafe" in str(error) or "Lambda" in str(error):
            text = "it has a Lambda layer, whose Python code would run here; write it as a layer class of its own"
        raise ConvertError(f"{path}: Keras cannot read it: {text}") from error


def live(path: Path, config: Config) -> tuple[Any, tuple[int, ...]]:
    """Return the model itself and its input's shape with the batch, for another output than TFLite."""
    model = load(path)
    return model, (1, *(config.shape or model.inputs[0].shape[1:]))


def to_tflite(model: Any, shape: list[int] | None = None) -> bytes:
    """Return a live model as float TFLite. ``shape`` is for a model with one input."""
    shapes = [tuple(one.shape[1:]) for one in model.inputs]
    if shape and len(shapes) > 1:
        raise ConvertError(f"options.shape is for a model with one input; this one has {len(shapes)}")
    for given in [] if shape else shapes:
        if any(n is None for n in given):
            raise ConvertError(
                f"the model's input has shape {list(given)} with sizes left open, which an int8 model cannot have;"
                " say them as options = { shape = [100, 6] } in [model]"
            )
    wanted = {one.name: (1, *(shape or given)) for one, given in zip(model.inputs, shapes, strict=True)}
    if len(wanted) == 1:
        return _tensorflow.freeze(lambda x: model(x, training=False), {"input": next(iter(wanted.values()))})
    return _tensorflow.freeze(lambda *x: model(list(x), training=False), wanted)
