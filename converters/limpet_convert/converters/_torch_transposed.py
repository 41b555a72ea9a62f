"""Transposed convolutions of PyTorch as LiteRT takes them: all that they compute, and a part cut out of it.

TFLite's op has two paddings: none, and one that makes an output as large as the input times the stride. PyTorch's
has any padding, and makes an output larger on one side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet_convert.converters import _torch_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DEFAULTS: list[Any] = [None, 1, 0, 0, 1, 1]
"""Bias, stride, padding, output's padding, groups and dilation where a call leaves them out."""


def cut(torch: Any, graph: Any) -> None:
    """Let a ``GraphModule`` compute transposed convolutions that TFLite has, and cut or pad what they make."""
    aten = torch.ops.aten
    axes = {aten.conv_transpose1d.default: 1, aten.conv_transpose2d.input: 2}
    for node in list(graph.graph.nodes):
        if node.target in axes:
            _cut(aten, graph, node, axes[node.target])


def _cut(aten: Any, graph: Any, node: Any, axes: int) -> None:
    given: list[Any] = list(node.args)
    source, weights, bias, *numbers = given + _DEFAULTS[len(given) - 2 :]
    stride, padding, more, dilation = (_each(numbers[place], axes) for place in (0, 1, 2, 4))
    kernel = [(size - 1) * step + 1 for size, step in zip(_kernel(graph, weights), dilation, strict=True)]
    if not any(more) and (not any(padding) or _same(kernel, stride, padding)):
        return
    stack = next(text for _, text in node.meta["nn_module_stack"].values())

    def add(target: Any, *args: Any) -> Any:
        made = graph.graph.call_function(target, args)
        _torch_names.name(made, stack)
        return made

    with graph.graph.inserting_before(node):
        whole = add(node.target, source, weights, None, stride, [0] * axes, [0] * axes, numbers[3], dilation)
        made = _part(aten, add, whole, padding, more)
        if bias is not None:
            made = add(aten.add.Tensor, made, add(aten.reshape.default, bias, [1, -1, *[1] * axes]))
    node.replace_all_uses_with(made)
    graph.graph.erase_node(node)


def _part(aten: Any, add: Callable[..., Any], whole: Any, padding: Sequence[int], more: Sequence[int]) -> Any:
    """Return what is left of the output of a convolution: less at each side, and more at the end of each axis."""
    for axis, (less, extra) in enumerate(zip(padding, more, strict=True), 2):
        if less:
            end = extra - less if extra < less else 2**63 - 1
            whole = add(aten.slice.Tensor, whole, axis, less, end)
    missing = [max(0, extra - less) for less, extra in zip(padding, more, strict=True)]
    pads = [number for one in reversed(missing) for number in (0, one)]
    return add(aten.constant_pad_nd.default, whole, pads) if any(missing) else whole


def _each(numbers: Any, axes: int) -> list[int]:
    """Return a number for each axis. PyTorch may keep one for all of them."""
    found = [numbers] if isinstance(numbers, int) else list(numbers)
    return found if len(found) == axes else found * axes


def _kernel(graph: Any, weights: Any) -> list[int]:
    value = weights.meta["val"] if "val" in weights.meta else _attribute(graph, weights.target)
    return list(value.shape[2:])


def _attribute(graph: Any, path: str) -> Any:
    for part in path.split("."):
        graph = getattr(graph, part)
    return graph


def _same(kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> bool:
    """Return whether the output is as large as the input times the stride, which TFLite has."""
    return all(k - s == 2 * p for k, s, p in zip(kernel, stride, padding, strict=True))
