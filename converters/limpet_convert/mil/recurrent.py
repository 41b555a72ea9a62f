"""Recurrent layers over sequences of shape (steps, batch, features)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from limpet_convert.mil.elementwise import hard_sigmoid, sigmoid

if TYPE_CHECKING:
    from limpet.contracts.data import Array
    from limpet_convert.mil.elementwise import Kernel

Weights: TypeAlias = "tuple[Array, Array, Array | None, Array | None]"
"""Of the input, of the hidden state, bias and peephole."""

_ACTIVATIONS: dict[str, Kernel] = {
    "hard_sigmoid": hard_sigmoid,
    "linear": np.asarray,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": sigmoid,
    "sigmoid_hard": hard_sigmoid,
    "tanh": np.tanh,
}


def _result(states: list[Array], *, every: bool, reverse: bool) -> Array:
    """Return the states of all steps in the order of time, or the last one, as (steps, batch, hidden)."""
    if not every:
        return states[-1][None]
    return np.stack(states[::-1] if reverse else states)


def _rnn(  # noqa: PLR0913 - MIL's inputs
    x: Array,
    *,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> tuple[Array, Array]:
    reverse = direction == "reverse"
    h, states = initial_h, []
    for step in x[::-1] if reverse else x:
        h = _ACTIVATIONS[activation](step @ weight_ih.T + h @ weight_hh.T + (0 if bias is None else bias))
        states.append(h)
    return _result(states, every=bool(output_sequence), reverse=reverse), h


def _gru(  # noqa: PLR0913 - MIL's inputs
    x: Array,
    *,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
) -> tuple[Array, Array]:
    """Rows of weights: reset, output, update gate. The reset acts on what the hidden state was turned into."""
    gate, out = _ACTIVATIONS[recurrent_activation], _ACTIVATIONS[activation]
    reverse = direction == "reverse"
    h, states = initial_h, []
    for step in x[::-1] if reverse else x:
        r_x, o_x, z_x = np.split(step @ weight_ih.T + (0 if bias is None else bias), 3, axis=-1)
        r_h, o_h, z_h = np.split(h @ weight_hh.T, 3, axis=-1)
        z = gate(z_x + z_h)
        h = (1 - z) * out(o_x + gate(r_x + r_h) * o_h) + z * h
        states.append(h)
    return _result(states, every=bool(output_sequence), reverse=reverse), h


@dataclass(frozen=True)
class _Lstm:
    """What both directions of an LSTM share."""

    activations: tuple[str, str, str]
    clip: float | None
    every: bool

    def run(self, x: Array, state: tuple[Array, Array], weights: Weights, *, reverse: bool) -> list[Array]:
        """Return what comes out, and the last two states. Rows of weights: input, forget, output, cell gate."""
        gate, cell, out = (_ACTIVATIONS[name] for name in self.activations)
        weight_ih, weight_hh, bias, peephole = weights
        pi, pf, po = (0, 0, 0) if peephole is None else np.split(peephole, 3)
        (h, c), states = state, []
        for step in x[::-1] if reverse else x:
            sums = step @ weight_ih.T + h @ weight_hh.T + (0 if bias is None else bias)
            i, f, o, z = np.split(sums, 4, axis=-1)
            new = cell(z) if self.clip is None else np.clip(cell(z), -self.clip, self.clip)
            c = gate(f + pf * c) * c + gate(i + pi * c) * new
            h = gate(o + po * c) * out(c)
            states.append(h)
        return [_result(states, every=self.every, reverse=reverse), h, c]


def _lstm(  # noqa: PLR0913 - MIL's inputs
    x: Array,
    *,
    initial_h: Array,
    initial_c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    peephole: Array | None = None,
    weight_ih_back: Array | None = None,
    weight_hh_back: Array | None = None,
    bias_back: Array | None = None,
    peephole_back: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> list[Array]:
    lstm = _Lstm((recurrent_activation, cell_activation, activation), clip, bool(output_sequence))
    weights = (weight_ih, weight_hh, bias, peephole)
    if direction != "bidirectional":
        return lstm.run(x, (initial_h, initial_c), weights, reverse=direction == "reverse")
    if weight_ih_back is None or weight_hh_back is None:
        raise ValueError("a bidirectional lstm needs weights for both directions")
    (h, h_back), (c, c_back) = np.split(initial_h, 2, -1), np.split(initial_c, 2, -1)
    ahead = lstm.run(x, (h, c), weights, reverse=False)
    weights = (weight_ih_back, weight_hh_back, bias_back, peephole_back)
    back = lstm.run(x, (h_back, c_back), weights, reverse=True)
    return [np.concatenate(pair, -1) for pair in zip(ahead, back, strict=True)]


OPS: dict[str, Kernel] = {"gru": _gru, "lstm": _lstm, "rnn": _rnn}
