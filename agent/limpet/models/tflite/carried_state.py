"""What a TFLite model keeps from one run to the next, found in its graphs. No numpy here.

There are three kinds:

* Variables are resources that ASSIGN_VARIABLE writes. Variables that hold weights are
  never assigned, so they are no state.
* Recurrent ops (fused LSTM, SVDF and others) keep their state in tensors that the file marks as variable.
* A state pair is an output that the caller hands back as an input of the next run. Only names and shapes show it.

A loop (WHILE) of an unfused layer keeps nothing: its state is reset in each run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import TYPE_CHECKING

import msgspec

from limpet.models.tflite.tensor import FileTensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


ASSIGN_VARIABLE = 144
_RECURRENT = {
    16: "LSTM",
    24: "RNN",
    27: "SVDF",
    35: "UNIDIRECTIONAL_SEQUENCE_RNN",
    44: "UNIDIRECTIONAL_SEQUENCE_LSTM",
    46: "BIDIRECTIONAL_SEQUENCE_RNN",
    52: "BIDIRECTIONAL_SEQUENCE_LSTM",
}
_TIME_MAJOR = {35: 0, 44: 3}
"""Ops over a sequence, and the slot of the option that says whether time comes first."""
_BOTH_WAYS = {46, 52}
"""Ops that read a sequence backwards too, so a window is a whole sequence."""


class GraphState(msgspec.Struct, frozen=True):
    """What a graph keeps. ``one_step``: a recurrent op in it takes one time step a run.

    ``variables`` are names of tensors, ``recurrent`` names of ops.
    """

    variables: tuple[str, ...] = ()
    recurrent: tuple[str, ...] = ()
    one_step: bool = False

    def __bool__(self) -> bool:
        """Whether it keeps anything."""
        return bool(self.variables or self.recurrent)

    @property
    def stateful(self) -> bool | None:
        """Whether its state is meant to last from one window to the next. ``None``: the graph does not show it.

        A model that assigns variables was written for streaming. A fused recurrent op over a sequence comes from a
        layer that resets its state for each sequence, as Keras layers do by default.
        """
        if self.variables and not self.recurrent:
            return True
        if self.recurrent and not self.variables and not self.one_step:
            return False
        return None if self else False

    def __str__(self) -> str:
        """Return what it keeps, as one part of a sentence."""
        parts = []
        if self.variables:
            parts.append(f"variables ({', '.join(_shortened(self.variables))})")
        if self.recurrent:
            parts.append(f"recurrent ops ({', '.join(self.recurrent)})")
        return " and ".join(parts)


class Op(msgspec.Struct, frozen=True):
    """What matters of an op. ``graphs``: those that it runs each time that it runs."""

    code: int
    name: str
    inputs: tuple[int, ...]
    graphs: tuple[int, ...] = ()
    time_major: bool = False


class GraphParts(msgspec.Struct, frozen=True):
    """What matters of a graph. ``variable``: the tensors that the file marks so."""

    tensors: Sequence[FileTensor]
    ops: Sequence[Op]
    variable: frozenset[int]


def time_major_slot(code: int) -> int | None:
    """Return the slot of an op's option that says whether time comes first; ``None`` if it has none."""
    return _TIME_MAJOR.get(code)


def find(graphs: Sequence[GraphParts], first: int) -> GraphState:
    """Return what a run of the graph ``first``, and of those that it calls, keeps."""
    variables: dict[str, None] = {}
    recurrent: dict[str, None] = {}
    one_step = False
    for graph in _reached(graphs, first):
        for op in graph.ops:
            if op.code == ASSIGN_VARIABLE:
                variables[graph.tensors[op.inputs[0]].name if op.inputs else ""] = None
            elif any(index in graph.variable for index in op.inputs):
                recurrent[_RECURRENT.get(op.code, op.name)] = None
                one_step |= _takes_one_step(op, graph.tensors)
    return GraphState(tuple(variables), tuple(recurrent), one_step)


def _reached(graphs: Sequence[GraphParts], first: int) -> Iterator[GraphParts]:
    seen: set[int] = set()
    waiting = [first]
    while waiting:
        number = waiting.pop()
        if number in seen or not 0 <= number < len(graphs):
            continue
        seen.add(number)
        yield graphs[number]
        waiting += chain.from_iterable(op.graphs for op in graphs[number].ops)


def _takes_one_step(op: Op, tensors: Sequence[FileTensor]) -> bool:
    if op.code in _BOTH_WAYS:
        return False
    if op.code not in _TIME_MAJOR:
        return True
    shape = tensors[op.inputs[0]].shape
    return len(shape) < 3 or shape[0 if op.time_major else 1] == 1


def state_pairs(
    inputs: Sequence[FileTensor], outputs: Sequence[FileTensor], names: Mapping[str, str]
) -> dict[str, str]:
    """Return inputs that look like state, each with the output that looks like its next value.

    It is a guess, for a person to confirm. Shape and dtype must be equal. Names must differ only in words such as
    ``in`` and ``out``. Otherwise the shape decides, if one input and one output alone have it.
    ``names``: better names of tensors, from a signature.
    """
    found: dict[str, str] = {}
    for by_name in (True, False):
        free = [(i, _key(i, names, by_name=by_name)) for i in inputs if i.name not in found]
        left = [(o, _key(o, names, by_name=by_name)) for o in outputs if o.name not in found.values()]
        for one, key in free:
            alike = [o.name for o, other in left if other == key]
            rivals = [i for i, other in free if other == key]
            if key and len(alike) == len(rivals) == 1 and len(found) + 1 < len(inputs):
                found[one.name] = alike[0]
    return found


def _key(tensor: FileTensor, names: Mapping[str, str], *, by_name: bool) -> tuple[object, ...]:
    """Return what an input and an output of a pair have in common; empty if that says nothing."""
    if by_name:
        stem = _stem(names.get(tensor.name, tensor.name))
        return (stem, tensor.shape, tensor.dtype) if stem else ()
    return (tensor.shape, tensor.dtype) if prod(tensor.shape) > 1 else ()


def _stem(name: str) -> str:
    """Return what ``h_in``, ``h_out`` and ``hn`` have in common: ``h``."""
    name = re.sub(r"^serving_default_|:\d+$", "", name).lower()
    words = [word for word in re.split(r"[^a-z0-9]+", name) if word]
    kept = [re.sub(r"(?<=.)(in|out|next|prev|new|old|n|0|1)$", "", word) for word in words if word not in _SIDES]
    return "_".join(kept)


_SIDES = {"in", "out", "input", "output", "next", "new", "prev", "previous", "old", "last", "init", "initial"}


def _shortened(names: Sequence[str], most: int = 3) -> Iterable[str]:
    more = len(names) - most
    return [*names[:most], f"{more} more"] if more > 0 else names
