"""Mixed precision: the fewest layers to keep in int16 or float so that a model keeps a stated loss.

Layers are tried in order of their effect (see ``limpet_convert.layers``). A layer is tried together with those
that read its output, as a bad range is bad for both. When the goal is reached, each layer that was kept is tried
once more in int8, so that none is kept for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from limpet_convert.graph import Graph
from limpet_convert.quantize import quantize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from limpet_convert.graph import Op
    from limpet_convert.layers import Diagnosis
    from limpet_convert.observers import Range
    from limpet_convert.quantize import Precision


@dataclass(frozen=True)
class Mixture:
    """``kept``: ops by their first output tensor. ``layers``: their names. ``passed``: the goal is reached."""

    model: bytes
    kept: dict[str, Precision]
    layers: tuple[str, ...]
    passed: bool


@dataclass(frozen=True)
class Plan:
    """What a search starts from: the float model, the ranges of its tensors, and what int8 does to its layers."""

    model: bytes
    ranges: Mapping[str, Range]
    diagnosis: Diagnosis


def search(plan: Plan, precisions: Sequence[Precision], most: int, good: Callable[[bytes], bool]) -> Mixture:
    """Return the smallest mixture for which ``good`` holds; where none does, the smallest tried."""
    found = [_search(plan, precision, most, good) for precision in precisions]
    return min(found, key=lambda one: (not one.passed, len(one.model)))


def _search(plan: Plan, precision: Precision, most: int, good: Callable[[bytes], bool]) -> Mixture:
    graph = Graph(plan.model)
    worst_first = sorted(
        (a for a in plan.diagnosis.layers if a.largest_effect > 0), key=lambda layer: -layer.largest_effect
    )[:most]
    chosen: list[str] = []

    def mixed(tensors: Sequence[str]) -> bytes:
        return quantize(plan.model, "mixed", plan.ranges, _kept(graph, tensors, precision))

    made = mixed(chosen)
    passed = good(made)
    while not passed and len(chosen) < len(worst_first):
        chosen.append(worst_first[len(chosen)].tensor)
        made = mixed(chosen)
        passed = good(made)
    for tensor in list(chosen[:-1]) if passed else []:
        fewer = [other for other in chosen if other != tensor]
        if good(candidate := mixed(fewer)):
            chosen, made = fewer, candidate
    names = {layer.tensor: layer.name for layer in plan.diagnosis.layers}
    return Mixture(made, _kept(graph, chosen, precision), tuple(names[tensor] for tensor in chosen), passed)


def _kept(graph: Graph, tensors: Sequence[str], precision: Precision) -> dict[str, Precision]:
    """Return the ops that make the tensors, and those that read them, through ops that only move values."""
    kept: dict[str, Precision] = {}
    for name in tensors:
        for op in _around(graph, graph.names.index(name)):
            kept[graph.names[op.outputs[0]]] = precision
    return kept


def _around(graph: Graph, tensor: int) -> list[Op]:
    found = [op for op in graph.ops if tensor in op.outputs]
    for op in graph.ops:
        if tensor in op.inputs:
            found.append(op)
            if op.moves:
                found += [further for further in _around(graph, op.outputs[0]) if further not in found]
    return found
