"""Modules' names through the conversion of PyTorch: tensors, and errors, name a layer as its author knows it.

litert_torch names a tensor after the classes in a node's ``nn_module_stack``. They distinguish two ``Conv2d`` by a
number only. Here the stack becomes the one path that ``named_modules`` gives, such as ``blocks.1.conv``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

_ILLEGAL = re.compile(r"failed to legalize operation '([\w.]+)'[^:]*: (.*)")
"""A compiler error: the op, and how it is written in the compiler's language."""
_STACK = "nn_module_stack"
_SHAPES = "shapes that depend on values do not fit; mask with torch.where() instead"
_INSTEAD = {
    "fft": "compute the spectrum outside, with the transform 'spectrum' or 'mel'",
    "complex": "compute the spectrum outside, with the transform 'spectrum' or 'mel'",
    "svd": "decompose at training time and store the factors",
    "unique": "count behind the model, in a decoder",
    "boolean indices": _SHAPES,
    "nonzero": _SHAPES,
    "data-dependent": _SHAPES,
    "bessel": "replace the function by a polynomial",
    "erfinv": "replace the function by a polynomial",
    "aten.rand": "take the noise out; it is for training only",
}


def named(graph: Any) -> Any:
    """Give each op of a ``GraphModule`` its module's path, else that of its weights, else its own name.

    A traced model has lost its modules, but its weights still are where they did.
    """
    for node in graph.graph.nodes:
        if node.op == "call_function":
            stack = list(node.meta.get(_STACK, {}).values())
            owners = [one.target.rpartition(".")[0] for one in node.all_input_nodes if one.op == "get_attr"]
            name(node, next((path for path in [stack[-1][0] if stack else "", *owners] if path), node.name))
    return graph


def name(node: Any, text: str) -> None:
    """Name what a node of a graph makes."""
    node.meta[_STACK] = {"layer": ("", text)}


def layer_name(tensor: str) -> str:
    """Return the module in a tensor's name, of what was fused into one op the first; empty if it is none of ours.

    ``blocks.1;;blocks.1.norm;;blocks.1.conv;2`` is the second tensor of a convolution, its norm and its ReLU.
    """
    return tensor.rsplit(";;", maxsplit=1)[-1].partition(";")[0] if re.search(r";\d*$", tensor) else ""


def explain(error: Exception) -> str:
    """Turn what torch or LiteRT raised into what a person can act on."""
    text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    where = _layer(error.__traceback__)
    place = f" in {where}" if where else ""
    advice = next((f"; {advice}" for part, advice in _INSTEAD.items() if part in text.lower()), "")
    if match := re.match(r"Lowering not found: aten\._?(\w+)", text):
        return f"TFLite has no op for {match[1]}{place}{advice}"
    if match := _ILLEGAL.search(text):
        what = f"TFLite has no form of {match[1]}{place} with these settings"
        return f"{what}: {match[2]}; write it with other settings or ops, or convert the model from ONNX"
    return f"TFLite cannot express this PyTorch model{place}: {text}{advice}"


def _layer(traceback: TracebackType | None) -> str:
    """Return the layer of the node that was being converted: the interpreter of torch.fx has it as ``n``."""
    found = ""
    while traceback is not None:
        meta = getattr(traceback.tb_frame.f_locals.get("n"), "meta", {})
        found = next((str(kind) for _, kind in meta.get(_STACK, {}).values()), found)
        traceback = traceback.tb_next
    return found
