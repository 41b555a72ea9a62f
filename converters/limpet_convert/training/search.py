"""Successive halving: try every setting a little, and the better ones longer. Pure but for what it calls.

Source: K. Jamieson, A. Talwalkar, Non-stochastic best arm identification and hyperparameter optimization, 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


@dataclass(frozen=True)
class Rung:
    """Train for ``epochs`` on so many ``folds``, then keep the best ``keep`` settings."""

    folds: int
    epochs: int
    keep: int


@dataclass(frozen=True)
class Trial(Generic[T]):
    """What a setting reached on a rung (from 0). A higher ``score`` is better."""

    setting: T
    rung: int
    score: float


@dataclass(frozen=True)
class Found(Generic[T]):
    """``best`` went through all rungs. ``complete``: the budget was enough for the whole plan."""

    best: T
    trials: tuple[Trial[T], ...]
    complete: bool


def halve(
    settings: Sequence[T],
    rungs: Sequence[Rung],
    score: Callable[[T, Rung], float],
    late: Callable[[], bool],
    kind: Callable[[T], str] = lambda _: "",
) -> Found[T]:
    """Return the best setting. When it is ``late``, no further setting begins a rung, but one always ends it.

    The best of each ``kind`` also goes from the first rung to the second: some kinds learn more slowly.
    """
    trials: list[Trial[T]] = []
    left, complete = list(settings), True
    for number, rung in enumerate(rungs):
        tried: list[Trial[T]] = []
        for setting in left:
            if tried and late():
                complete = False
                break
            tried.append(Trial(setting, number, score(setting, rung)))
        trials += tried
        ranked = [one.setting for one in sorted(tried, key=lambda one: -one.score)]
        left = ranked[: rung.keep]
        if not number:
            kinds = {kind(setting) for setting in left}
            for setting in ranked[rung.keep :]:
                if kind(setting) not in kinds:
                    kinds.add(kind(setting))
                    left.append(setting)
    return Found(left[0], tuple(trials), complete)


def rungs(count: int, folds: int, epochs: int) -> list[Rung]:
    """Return a plan for so many settings. Each rung has fewer, trains longer and measures on more folds."""
    return [
        Rung(min(2, folds), max(2, epochs // 4), max(2, count // 4)),
        Rung(folds, max(3, epochs // 2), max(1, count // 12)),
        Rung(folds, epochs, 1),
    ]
