"""What an answer hangs on: the question that a person or a command sends, and the explanation.

No numpy here: the supervisor passes explanations on.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

By: TypeAlias = Literal["channels", "times", "cells", "bands", "pixels"]
"""The parts of a window. ``cells``: channels by times. ``pixels``: tiles of a picture."""
Method: TypeAlias = Literal["shapley", "occlusion", "rise"]
Baseline: TypeAlias = Literal["typical", "mean", "zero"]
"""What replaces a hidden part: the reference's median of each channel, the window's mean of it, or zeros."""
ChangeKind: TypeAlias = Literal["shift", "gain", "hide"]

MOST_INVOKES, USUAL_INVOKES = 10_000, 1024
MOST_PARTS = 1024
"""Parts of a window in one explanation."""
MOST_CHANGED = 64
"""Parts that one change names."""
LONGEST_PART = 96
"""Characters of the name of a part, or of an answer."""

PartName = Annotated[str, Meta(max_length=LONGEST_PART)]


class Question(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to explain about a window, and how. What is left out depends on the window, see docs/how-to/explain.md.

    ``label``: the class or quantity to explain instead of the answer. ``invokes``: how often the model may run.
    """

    by: By | None = None
    method: Method | None = None
    label: Annotated[str, Meta(max_length=LONGEST_PART)] = ""
    baseline: Baseline | None = None
    invokes: Annotated[int, Meta(ge=2, le=MOST_INVOKES)] = USUAL_INVOKES
    change: bool = True
    """Whether to look for the smallest change that gives another answer."""


class Importance(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How much a part contributes to ``Explanation.value``, in the same unit.

    ``error``: standard error of it, where it was sampled.
    """

    name: PartName
    value: float
    error: float | None = None


class Change(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The smallest change that was found to give another answer.

    ``shift``: ``size`` is added to the channel, which is ``spreads`` of its standard deviations. ``gain``: its
    deviation from its mean is multiplied by ``size``. ``hide``: the parts are hidden, ``size`` of all parts.
    ``answer`` is then the answer, null if the decoder abstains.
    """

    kind: ChangeKind
    parts: Annotated[list[PartName], Meta(max_length=MOST_CHANGED)]
    size: float
    spreads: float | None = None
    answer: PartName | None = None


class Explanation(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Which parts of a window its answer hangs on.

    ``answer``: that of the whole window, null if there is no class. ``label``: the class or quantity that is
    explained. ``value``: its score or value with the whole window; ``hidden``: with all parts hidden. ``exact``:
    the importances are computed, not sampled. ``shape`` arranges the parts: their number, or rows and columns.
    ``cut``: left, top, right and bottom of the pixels as fractions of the source's picture. ``changes``: smallest
    first; null if none was looked for.
    """

    answer: PartName | None
    label: PartName
    value: float
    hidden: float
    by: By
    method: Method
    baseline: Baseline
    exact: bool
    invokes: int
    shape: Annotated[list[int], Meta(max_length=2)]
    parts: Annotated[list[Importance], Meta(max_length=MOST_PARTS)]
    cut: tuple[float, float, float, float] | None = None
    changes: Annotated[list[Change], Meta(max_length=16)] | None = None
    notes: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=8)] = []
    """What limits the explanation, a sentence each."""


class Explained(msgspec.Struct, kw_only=True):
    """The explanation of a window that a pipeline has run, as ``command/explain`` answers it.

    ``time`` is that of the window's newest sample, in UTC, and ``sample`` its ordinal in its source.
    """

    model: Annotated[str, Meta(max_length=64)]
    version: int
    time: Annotated[datetime, Meta(tz=True)]
    sample: int
    explanation: Explanation
