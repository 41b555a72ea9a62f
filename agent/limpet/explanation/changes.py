"""The smallest change of a window that gives another answer.

Generators as in ``limpet.explanation.attribution``: they yield a changed window and are sent its answer.
Source: S. Wachter, B. Mittelstadt and C. Russell, Counterfactual Explanations without Opening the Black Box, 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from limpet.contracts.explanation import LONGEST_PART, MOST_CHANGED, Change
from limpet.explanation.parts import fitted

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Array
    from limpet.explanation.parts import Parts

    Asking: TypeAlias = Generator[Array, "str | None", list[Change]]

SHIFTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Standard deviations by which a channel is shifted, up and down."""
GAINS = (1.25, 1.5, 2.0, 3.0, 5.0)
"""By which a channel's deviation from its mean is multiplied or divided."""
_HALVINGS = 5
"""Times that the step in which the answer changes is halved."""
MOST_FOUND = 8
"""Changes that are reported of each kind."""


class _Try(NamedTuple):
    """A channel of a window, and whether it is made larger."""

    channel: int
    up: bool


class _Shifts:
    """A number is added to all values of a channel. A step counts in the channel's standard deviations."""

    steps, none = SHIFTS, 0.0

    def __init__(self, values: Array, spreads: NDArray[np.float64], names: Sequence[str]) -> None:
        self._values, self._spreads, self._names = values, spreads, names

    def made(self, one: _Try, step: float) -> Array:
        """Return the window with one channel changed."""
        changed = self._values.astype(np.float64)
        changed[:, one.channel] += self._spreads[one.channel] * _signed(one, step)
        return fitted(changed, self._values.dtype)

    def change(self, one: _Try, step: float, answer: str | None) -> Change:
        """Return the change as it is reported."""
        spreads, name = _signed(one, step), self._names[one.channel]
        size = spreads * float(self._spreads[one.channel])
        return Change(kind="shift", parts=[name], size=size, spreads=spreads, answer=_word(answer))


class _Gains:
    """The deviations of a channel from its mean in the window are multiplied or divided."""

    steps, none = GAINS, 1.0

    def __init__(self, values: Array, names: Sequence[str]) -> None:
        self._values, self._names = values, names

    def made(self, one: _Try, step: float) -> Array:
        """Return the window with one channel changed."""
        changed = self._values.astype(np.float64)
        channel = changed[:, one.channel]
        mean = channel.mean()
        changed[:, one.channel] = mean + (channel - mean) * _factor(one, step)
        return fitted(changed, self._values.dtype)

    def change(self, one: _Try, step: float, answer: str | None) -> Change:
        """Return the change as it is reported."""
        name = self._names[one.channel]
        return Change(kind="gain", parts=[name], size=_factor(one, step), answer=_word(answer))


def of_channels(
    values: Array, spreads: NDArray[np.float64], names: Sequence[str], answer: str | None, invokes: int
) -> Asking:
    """Look for the smallest shift of one channel, and the smallest gain of one, that gives another answer.

    ``values`` has shape ``(rows, channels)``. ``spreads``: standard deviation of each channel; one without any is
    left alone. At most ``invokes`` windows are tried. All channels get the same step before a larger one is tried,
    so that those that are found first need the smallest change.
    """
    tries = [_Try(channel, up) for channel in np.flatnonzero(spreads > 0).tolist() for up in (True, False)]
    if len(values) == 1:
        return (yield from _smallest(_Shifts(values, spreads, names), tries, answer, invokes))
    shifts = yield from _smallest(_Shifts(values, spreads, names), tries, answer, invokes // 2)
    gains = yield from _smallest(_Gains(values, names), tries, answer, invokes // 2)
    return [*shifts, *gains]


def _smallest(kind: _Shifts | _Gains, tries: Sequence[_Try], answer: str | None, invokes: int) -> Asking:
    left, below = invokes, kind.none
    for step in kind.steps:
        if left < len(tries):
            break
        left -= len(tries)
        found: list[tuple[_Try, str | None]] = []
        for one in tries:
            got = yield kind.made(one, step)
            if got != answer:
                found.append((one, got))
        if found:
            sized: list[tuple[float, Change]] = []
            for one, got in found:
                halvings = min(_HALVINGS, left)
                left -= halvings
                high, last = yield from _narrowed(kind, one, (below, step), (answer, got), halvings)
                sized.append((high, kind.change(one, high, last)))
            sized.sort(key=lambda pair: pair[0])
            return [change for _, change in sized[:MOST_FOUND]]
        below = step
    return []


def _narrowed(
    kind: _Shifts | _Gains,
    one: _Try,
    between: tuple[float, float],
    answers: tuple[str | None, str | None],
    halvings: int,
) -> Generator[Array, str | None, tuple[float, str | None]]:
    """Halve the step between the last one with the same answer and the first one with another."""
    (low, high), (answer, other) = between, answers
    for _ in range(halvings):
        middle = (low + high) / 2
        got = yield kind.made(one, middle)
        if got == answer:
            low = middle
        else:
            high, other = middle, got
    return high, other


def _signed(one: _Try, step: float) -> float:
    return step if one.up else -step


def _factor(one: _Try, step: float) -> float:
    return step if one.up else 1 / step


def of_parts(parts: Parts, importance: NDArray[np.float64], answer: str | None, invokes: int) -> Asking:
    """Look for few parts which, if they are hidden, give another answer.

    The most important ones are hidden first, twice as many each time. Then each that is not needed is shown again,
    the least important first.
    """
    order = (-importance).argsort(kind="stable")
    count, left, got = 1, invokes, answer
    while left and got == answer:
        got = yield parts.shown(_without(order[:count], len(order)))
        left -= 1
        if got == answer:
            if count == len(order):
                return []
            count = min(2 * count, len(order))
    if got == answer:
        return []
    needed = order[:count].tolist()
    for part in order[:count][::-1].tolist():
        if left and len(needed) > 1:
            fewer = [one for one in needed if one != part]
            again = yield parts.shown(_without(fewer, len(order)))
            left -= 1
            if again != answer:
                needed, got = fewer, again
    names = [parts.names[part] for part in needed[:MOST_CHANGED]]
    return [Change(kind="hide", parts=names, size=len(needed) / len(order), answer=_word(got))]


def _without(hidden: Sequence[int] | NDArray[np.intp], parts: int) -> NDArray[np.float64]:
    share = np.ones(parts)
    share[list(hidden)] = 0.0
    return share


def _word(answer: str | None) -> str | None:
    return None if answer is None else answer[:LONGEST_PART]
