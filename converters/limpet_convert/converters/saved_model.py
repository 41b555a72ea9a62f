"""TensorFlow SavedModels: a folder with ``saved_model.pb``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from limpet.wording import suggest
from limpet_convert.converters import _shapes, _tensorflow
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import called, need

SUFFIXES = ("",)
IN_JAIL = True
LIVE = False
"""Whether it is opened in a sandboxed child: its library runs what the model says."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A SavedModel."""

    signature: str = "serving_default"
    """Signature to convert."""
    shape: list[int] | None = None
    """Shape of its input, if it leaves sizes open, with the batch or without it. Example: `[128, 6]`."""


def convert(path: Path, config: Config) -> bytes:
    """Return one signature of the model as float TFLite with a batch of 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    tf = need("tensorflow", "convert-tensorflow")
    if not (path / "saved_model.pb").is_file():
        raise ConvertError(f"{path}: no SavedModel; there is no saved_model.pb in it")
    with called("TensorFlow", f"{path}: reading the SavedModel"):
        loaded = _loaded(tf, path)
    if config.signature not in loaded.signatures:
        known = suggest(config.signature, loaded.signatures)
        raise ConvertError(f"{path}: there is no signature {config.signature!r}{known}")
    signature = loaded.signatures[config.signature]
    inputs = dict(signature.structured_input_signature[1])
    shapes = {
        name: _shapes.closed(config.shape, None if spec.shape.rank is None else spec.shape.as_list(), len(inputs))
        for name, spec in inputs.items()
    }
    outputs = sorted(signature.structured_outputs)

    def run(*values: Any) -> Any:
        pairs = zip(inputs.items(), values, strict=True)
        found = signature(**{name: tf.cast(value, spec.dtype) for (name, spec), value in pairs})
        return [found[key] for key in outputs] if len(outputs) > 1 else found[outputs[0]]

    names = ["input"] if len(shapes) == 1 else list(shapes)
    return _tensorflow.freeze(run, {name: (1, *shape) for name, shape in zip(names, shapes.values(), strict=True)})


def _loaded(tf: Any, path: Path) -> Any:
    """Return the model without optimizer slots: no signature uses them, and Keras 3 reads no older optimizer."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    nodes = [node for graph in model.meta_graphs for node in graph.object_graph_def.nodes if node.slot_variables]
    if not nodes:
        return tf.saved_model.load(str(path))
    for node in nodes:
        del node.slot_variables[:]
    with TemporaryDirectory() as folder:
        (Path(folder) / "saved_model.pb").write_bytes(model.SerializeToString())
        for file in (one for one in path.rglob("*/*") if one.is_file()):  # The sandbox allows no links and modes.
            copy = Path(folder) / file.relative_to(path)
            copy.parent.mkdir(exist_ok=True, parents=True)
            shutil.copyfile(file, copy)
        return tf.saved_model.load(folder)
