"""When a pipeline is replaced by its successor, and when the old one goes on. Decides, without I/O.

A successor opens and is proven in its own thread while the old pipeline runs. It takes over between two
windows. The old pipeline is kept until the successor has run its first window, so that it can go on if that fails.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Mapping


class Phase(Enum):
    """How far a swap is."""

    OPENING = auto()
    """A thread opens and proves the successor."""
    SETTLING = auto()
    """The successor is proven on the CPU, and its accelerator opens."""
    TRIAL = auto()
    """The successor has taken over, and has not run its first window yet."""


class Seen(NamedTuple):
    """What is known of a successor.

    ``finished``: its thread has ended; ``error`` says why it failed, if it did. ``chosen``: its delegate is
    chosen. ``ready``: it can run windows. ``overdue``: its thread works for longer than it may.
    """

    finished: bool = False
    error: str = ""
    chosen: bool = False
    ready: bool = False
    overdue: bool = False


class Step(Enum):
    """What to do next."""

    WAIT = auto()
    SETTLE = auto()
    """Keep the successor that the thread opened, and look after its accelerators."""
    TAKE_OVER = auto()
    """Hand it the next samples."""
    FAIL = auto()
    """Report why, and close it or abandon its thread. The old pipeline goes on."""


def next_step(phase: Phase, seen: Seen) -> Step:
    """Decide what to do about a swap."""
    if phase is Phase.OPENING:
        if seen.finished:
            return Step.FAIL if seen.error else Step.SETTLE
        return Step.FAIL if seen.overdue else Step.WAIT
    if phase is Phase.SETTLING and seen.chosen:
        return Step.TAKE_OVER if seen.ready else Step.FAIL
    return Step.WAIT


class Changes(NamedTuple):
    """Names of pipelines to close, to open, and to open a successor for."""

    close: list[str]
    open: list[str]
    swap: list[str]


def superseded(opening: Mapping[str, int], wanted: Mapping[str, int]) -> list[str]:
    """Return the pipelines whose successor is not the wanted one. Both map a pipeline's name to a revision."""
    return [name for name, revision in opening.items() if revision != wanted.get(name)]


def changes(
    running: Mapping[str, int], failed: Mapping[str, int], swapping: Container[str], wanted: Mapping[str, int]
) -> Changes:
    """Compare what runs with what is assigned. Every mapping is from a pipeline's name to a revision.

    ``running``: pipelines at work. ``failed``: the successor that failed last, which is not tried again.
    ``swapping``: pipelines that have a successor already.
    """
    return Changes(
        close=[name for name in running if name not in wanted],
        open=[name for name in wanted if name not in running and name not in swapping],
        swap=[
            name
            for name, revision in wanted.items()
            if name in running and name not in swapping and revision not in (running[name], failed.get(name))
        ],
    )
