"""ONNX models: made ready in the sandbox, converted by onnx2tf, and proven beside onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from limpet_convert import foreign
from limpet_convert.converters import _onnx2tf, _onnx_graph, _onnx_names, _shapes
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph, with_way
from limpet_convert.jail import Jail, LateError
from limpet_convert.libraries import called, need

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUFFIXES = (".onnx",)
IN_JAIL = False
LIVE = False
"""Whether it is opened in a sandboxed child: here each of several steps is, see ``convert``."""


LONGEST = 600
"""Seconds that each step in the sandbox may take: a loop may have any number of steps."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """ONNX, through onnx2tf."""

    shape: list[int] | None = None
    """Shape of the model's own input, if it leaves sizes open, with the batch or without it.
    Example: `[6, 128]`."""
    layout: str = "channels_last"
    """`"channels_last"`: the model has the channels first; they are moved last, as windows have them.
    `"as_is"`: the model has them last."""


def convert(path: Path, config: Config) -> bytes:
    """Return the model as float TFLite, made by the first way whose answers are onnxruntime's.

    ``ConvertError`` names for each way the node that it cannot convert and why, or how far its answers are off.
    """
    files = foreign.refuse(path)
    jail = Jail(files)
    try:
        ways = _onnx2tf.available()
        model, nodes, inputs = jail.call(
            "onnx_prepared", str(path.resolve()), _sizes(path, config), within=LONGEST
        )
        reasons = []
        for way in ways:
            try:
                made = _onnx2tf.convert(way, model, inputs if config.layout == "as_is" else [], nodes)
                proven: bytes = jail.call("onnx_proven", model, nodes, made, config.layout, within=LONGEST)
            except LateError:
                raise
            except ConvertError as error:
                reasons.append(error)
            else:
                return with_way(proven, way.name)
    except ConvertError as error:
        raise ConvertError(f"{path}: {str(error).removeprefix(f'{path}: ')}", error.details) from error
    finally:
        jail.close()
    raise ConvertError(f"{path}: {'; '.join(map(str, reasons))}", "\n".join(one.details for one in reasons))


def _sizes(path: Path, config: Config) -> dict[str, list[int]]:
    """Return the shape of each input with a batch of 1. ``ConvertError`` if a size stays open."""
    found = foreign.Onnx(path).input_sizes()
    return {
        name: [1, *_shapes.closed(config.shape, sizes, len(found))] if sizes != [] else []
        for name, sizes in found.items()
    }


def prepared(path: Path, sizes: Mapping[str, list[int]]) -> tuple[bytes, dict[str, str], list[str]]:
    """Return a model ready for conversion, what its nodes were called, and the names of its inputs."""
    model, nodes = _onnx_graph.prepare(read(path), sizes)
    constants = {one.name for one in model.graph.initializer}
    return model.SerializeToString(), nodes, [one.name for one in model.graph.input if one.name not in constants]


def proven(model: bytes, nodes: Mapping[str, str], made: bytes, layout: str) -> bytes:
    """Return what a way made of a model, with its nodes' names. ``ConvertError`` where it answers otherwise."""
    parsed = need("onnx", "convert-onnx").ModelProto.FromString(model)
    _refuse_foreign_ops(made, parsed, nodes)
    names = {name: title.rpartition(" (")[0] for name, title in nodes.items()}
    return _onnx_names.named(made, parsed, names, channels_last=layout != "as_is")


def _refuse_foreign_ops(made: bytes, model: Any, nodes: Mapping[str, str]) -> None:
    """Raise ``ConvertError`` where an op is TensorFlow's or ONNX's own, which no TFLite runtime has."""
    flex = [op.kind.removeprefix("Flex") for op in Graph(made).ops if op.kind.startswith(("Flex", "ONNX_"))]
    if flex:
        found = [nodes[node.name] for node in model.graph.node if _makes(node, flex)]
        where = f" in {', '.join(found)}" if found else ""
        kinds = ", ".join(dict.fromkeys(flex))
        raise ConvertError(
            f"TFLite has no op for {kinds}{where}; write it with other ops, or compute it in the pipeline's "
            "transforms or decoder"
        )


def _makes(node: Any, flex: list[str]) -> bool:
    """Return whether an ONNX op became one of these: TensorFlow's name is the longer form of ONNX's."""
    return any(node.op_type.lower() in kind.lower() for kind in flex)


def read(path: Path) -> Any:
    """Return the model, having looked whether the file is whole."""
    onnx = need("onnx", "convert-onnx")
    with called("onnx", f"{path}: not a whole ONNX model"):
        model = onnx.load(path)
        onnx.checker.check_model(model)
    return model
