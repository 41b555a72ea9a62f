"""Keras models: ``.keras`` and ``.h5`` files, or a live object through ``to_tflite``."""

from __future__ import annotations

import json
import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import msgspec

from limpet_convert.converters import _shapes, _tensorflow
from limpet_convert.libraries import called, need

SUFFIXES = (".keras", ".h5")
IN_JAIL = True
LIVE = True
"""Whether it is opened in a sandboxed child: its library runs what the model says."""
_SHARED = re.compile(rb'"shared_object_id": (\d+)')


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Keras."""

    shape: list[int] | None = None
    """Shape of the input, if the model leaves sizes open, with the batch or without it. Example: `[128, 6]`."""
    open_batch: bool = False
    """Leave the batch open, so that a device may run many windows at once. An accelerator may refuse such a
    model."""
    unroll: bool = True
    """Write out the loops of recurrent layers step by step, which int8 needs. A loop makes smaller files of
    float, float16 and dynamic."""


def convert(path: Path, config: Config) -> bytes:
    """Return the model as float TFLite with a batch of 1."""
    return to_tflite(load(path), config.shape, None if config.open_batch else 1, unroll=config.unroll)


def load(path: Path) -> Any:
    """Read a model file. ``ConvertError`` where it is damaged, or brings code that would run: a Lambda layer."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keras = need("keras", "convert-tensorflow")
    with called("Keras", f"{path}: reading the model", explain=lambda error, _: _lambda(path, error)):
        return keras.models.load_model(path, compile=False, safe_mode=True)


def _lambda(path: Path, error: Exception) -> str:
    """Say what to do if Keras' safe mode refuses a Lambda layer."""
    if "unsafe" not in str(error) and "Lambda" not in str(error):
        return ""
    return (
        f"{path}: Keras cannot read it: it has a Lambda layer, whose Python code would run here; write it as a "
        "separate layer class"
    )


def live(path: Path, config: Config) -> tuple[Any, tuple[int, ...]]:
    """Return the model itself and its input's shape with the batch, for another output than TFLite."""
    model = load(path)
    return model, (1, *_shapes.closed(config.shape, model.inputs[0].shape, len(model.inputs)))


def save(model: Any, path: Path) -> None:
    """Write a ``.keras`` file whose bytes follow from the model alone.

    Keras puts the time into it, and addresses in memory to distinguish shared objects.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain = Path(folder) / path.name
        model.save(plain)
        with zipfile.ZipFile(plain) as read, zipfile.ZipFile(path, "w") as written:
            for name in sorted(read.namelist()):
                written.writestr(zipfile.ZipInfo(name), _timeless(name, read.read(name)))


def _timeless(name: str, content: bytes) -> bytes:
    if name == "metadata.json":
        kept = {key: value for key, value in json.loads(content).items() if key != "date_saved"}
        return json.dumps(kept, sort_keys=True).encode()
    if name == "config.json":
        found = list(dict.fromkeys(_SHARED.findall(content)))
        return _SHARED.sub(lambda match: b'"shared_object_id": %d' % found.index(match[1]), content)
    return content


def to_tflite(model: Any, shape: list[int] | None = None, batch: int | None = 1, *, unroll: bool = True) -> bytes:
    """Return a live model as float TFLite. ``shape``: see ``Config``; ``batch`` may stay open.

    ``unroll``: write out the loops of recurrent layers.
    """
    wanted = {one.name: (batch, *_shapes.closed(shape, one.shape, len(model.inputs))) for one in model.inputs}
    if len(wanted) == 1:
        only = {"input": next(iter(wanted.values()))}
        return _tensorflow.freeze(lambda x: model(x, training=False), only, unroll=unroll)
    return _tensorflow.freeze(lambda *x: model(list(x), training=False), wanted, unroll=unroll)
