"""TensorFlow SavedModels: a folder with ``saved_model.pb``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.wording import suggest
from limpet_convert.converters import _tensorflow
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import called, need

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = ("",)
IN_JAIL = True
LIVE = False
"""Whether it is opened in a sandboxed child: its library runs what the model says."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A SavedModel."""

    signature: str = "serving_default"
    """Signature to convert."""
    shape: list[int] | None = None
    """Shape of its input without the batch, if it leaves it open. Example: `[128, 6]`."""


def convert(path: Path, config: Config) -> bytes:
    """Return one signature of the model as float TFLite with a batch of 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    tf = need("tensorflow", "convert-tensorflow")
    if not (path / "saved_model.pb").is_file():
        raise ConvertError(f"{path}: no SavedModel; there is no saved_model.pb in it")
    with called("TensorFlow", f"{path}: reading the SavedModel"):
        loaded = tf.saved_model.load(str(path))
    if config.signature not in loaded.signatures:
        known = suggest(config.signature, loaded.signatures)
        raise ConvertError(f"{path}: there is no signature {config.signature!r}{known}")
    signature = loaded.signatures[config.signature]
    inputs = dict(signature.structured_input_signature[1])
    if config.shape and len(inputs) > 1:
        raise ConvertError(
            f"{path}: options.shape is for a model with one input; this one has {', '.join(inputs)}"
        )
    shapes = {name: config.shape or spec.shape.as_list()[1:] for name, spec in inputs.items()}
    for name, shape in shapes.items():
        if any(n is None for n in shape):
            raise ConvertError(
                f"{path}: input {name!r} has shape {shape} with sizes left open; give options.shape"
            )
    outputs = sorted(signature.structured_outputs)

    def run(*values: Any) -> Any:
        found = signature(**dict(zip(shapes, values, strict=True)))
        return [found[key] for key in outputs] if len(outputs) > 1 else found[outputs[0]]

    names = ["input"] if len(shapes) == 1 else list(shapes)
    return _tensorflow.freeze(run, {name: (1, *shape) for name, shape in zip(names, shapes.values(), strict=True)})
