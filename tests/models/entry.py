"""What a file of ``catalogue/`` has: a model, its bundle, its files, its maker's own code, and how to compare.

``answers`` and ``prepare`` run in another environment, with the maker's packages: the top of a catalogue's file
imports nothing but numpy and the standard library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from models.photographs import Case
    from models.speech import Clip


class Model(NamedTuple):
    """Where a model's bundle comes from, and how its answers are compared.

    ``recipe`` is what ``limpet-convert recipe`` makes; without it, ``project`` is a project file below
    ``converters/examples`` whose ``train.py`` runs first. ``maker``: the environment of ``answers``, as in
    ``run.PYTHONS``; ``bare``: that of ``prepare``. ``tolerance`` is the largest ``difference``; ``why`` says what
    that is. ``least_right``: share of the cases in which the model must be right. It shows that truth and decoder
    fit together, and is set before a run: from the accuracy that the maker publishes, or half of the cases where
    there is none. ``right_because`` says which. Of a model of sound, ``size`` and ``hop`` are its windows in
    samples. ``state``: names of inputs, each with that of the output that it gets next time. ``film``: photographs
    that are also shown by a camera, see ``models.live``. ``any_tolerance`` is that of their frames with ``like =
    "any"``.
    """

    name: str
    maker: str
    tolerance: float
    why: str
    bare: str = "converters"
    least_right: float = 0.5
    right_because: str = "no accuracy is published that these pictures could be held against"
    recipe: str = ""
    project: str = ""
    size: int = 0
    hop: int = 0
    state: tuple[tuple[str, str], ...] = ()
    film: tuple[str, ...] = ()
    any_tolerance: float = 0.0

    def windows(self, samples: int) -> int:
        """Return how many windows there are in a sound."""
        return (samples - self.size) // self.hop + 1


class Entry(Protocol):
    """A module of ``catalogue/``. Pictures are uint8 ``(height, width, 3)`` in RGB.

    For a model of sound, ``prepare`` and ``answers`` get clips in place of pictures: int16 samples at 16 kHz.
    ``prepare`` yields the input of each window. The ``output`` of a clip has the ``windows`` and the ``events``.
    """

    MODEL: Model

    def cases(self, folder: Path) -> list[Case] | list[Clip]:
        """Write the pictures into a folder; return them, at least ten, with what they show."""

    def prepare(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the model's input as its maker documents it."""

    def answers(self, model: str, pictures: Sequence[NDArray[np.uint8]]) -> list[Any]:
        """Return what the maker's code says of pictures, as JSON can have it."""

    def difference(self, output: Any, answer: Any) -> float:
        """Return how far a result's ``output`` is from the maker's answer; infinity where they disagree."""

    def right(self, output: Any, case: Any) -> bool:
        """Return whether a result is what the picture shows."""
