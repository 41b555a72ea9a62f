"""What a window is most like: the cosine of its embedding and those that were enrolled on this device.

The command ``enrol`` adds a label. The embeddings of the next windows, each scaled to length 1, are averaged to
its prototype. So a device learns a new face, part or sound without a new model.

Source of the method: nearest class mean, as in Snell et al., Prototypical Networks (2017), with the cosine.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import isfinite, isnan
from pathlib import Path  # noqa: TC003 - msgspec reads it
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.commands import LONGEST_ENROLLED, EnrolledLabel
from limpet.contracts.decoder import Abilities
from limpet.contracts.fields import Count
from limpet.contracts.outputs import Embedding, ScoredLabel
from limpet.decoders._scores import row_size
from limpet.device import kept_file
from limpet.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(output=Embedding, reads_inputs=False, threshold=True, outlives_gaps=True, enrols=True)
"""What is enrolled has nothing to do with gaps."""

DIGITS = 6
LARGEST = 4096
"""Numbers in an embedding."""
MOST_LABELS = 256
MOST_PAST = 16
"""Changes of labels that can be undone."""
MOST_WAITING = 16
"""Commands that may wait for windows."""
FORMAT = 1
_LARGEST_FILE = (MOST_LABELS + MOST_PAST) * (8 * LARGEST + 4 * LONGEST_ENROLLED + 64) + (1 << 12)

Vector = Annotated[list[float], Meta(min_length=1, max_length=LARGEST)]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is compared, and what is reported."""

    threshold: float = 0.7
    """Lowest similarity, -1 to 1, of a label."""
    top_k: Count = 3
    """How many labels are reported, best first."""
    vector: bool = True
    """Whether the result has the embedding itself."""
    prototypes: Annotated[dict[EnrolledLabel, Vector], Meta(max_length=MOST_LABELS)] = {}
    """Embeddings of labels that are known from the start. Example: `{ screw = [0.1, 0.9], nut = [0.8, 0.2] }`."""

    def __post_init__(self) -> None:
        if isnan(self.threshold):
            raise ValueError("threshold must be a number")
        for label, vector in self.prototypes.items():
            if not any(vector) or not all(map(isfinite, vector)):
                raise ValueError(f"prototypes: {label!r} must have finite numbers that are not all 0")


class Enrolled(msgspec.Struct, forbid_unknown_fields=True):
    """A label of the file: the sum of the embeddings of ``windows`` windows, each of length 1."""

    windows: Annotated[int, Meta(ge=1, le=1 << 40)]
    total: Vector


class Past(msgspec.Struct, forbid_unknown_fields=True):
    """What a label was before a change, ``None`` if it was not enrolled."""

    label: EnrolledLabel
    before: Enrolled | None


class Kept(msgspec.Struct, forbid_unknown_fields=True):
    """What is in the file. ``size``: numbers in an embedding. ``past``: the last changes, oldest first."""

    format: Annotated[int, Meta(ge=FORMAT, le=FORMAT)]
    size: Annotated[int, Meta(ge=1, le=LARGEST)]
    labels: Annotated[dict[EnrolledLabel, Enrolled], Meta(max_length=MOST_LABELS)]
    past: Annotated[list[Past], Meta(max_length=MOST_PAST)] = []


class _Prototype(NamedTuple):
    windows: int
    total: NDArray[np.float64]


_Before: TypeAlias = tuple[dict[str, _Prototype], tuple[tuple[str, _Prototype | None], ...]]
"""Labels and past changes, as they were."""


@dataclass
class _Waiting:
    """A command that waits for windows."""

    label: str
    left: int
    windows: int
    total: NDArray[np.float64]
    done: Callable[[str], None]


def open(config: Config, spec: Spec) -> Embed:
    """Prepare to compare. ``ValueError`` if the first output is no row of numbers, or no prototype's size."""
    size = row_size("embed", spec.outputs)
    if size > LARGEST:
        raise ValueError(f"embed takes embeddings of at most {LARGEST} numbers, and the model gives {size}")
    for label, vector in config.prototypes.items():
        if len(vector) != size:
            raise ValueError(f"prototypes: {label!r} has {len(vector)} numbers, and the model gives {size}")
    return Embed(config, size, spec)


class Embed:
    """Knows the prototypes of the configuration, and those that were enrolled."""

    def __init__(self, config: Config, size: int, spec: Spec) -> None:
        self.spec = spec
        self._threshold = config.threshold
        self._top_k = config.top_k
        self._vector = config.vector
        self._size = size
        self._given = {label: _Prototype(1, _unit(np.array(one))) for label, one in config.prototypes.items()}
        self._enrolled: dict[str, _Prototype] = {}
        self._past: tuple[tuple[str, _Prototype | None], ...] = ()
        self._waiting: deque[_Waiting] = deque()
        self._path: Path | None = None
        self._arrange()

    def __call__(self, window: Window) -> Window:
        """Return the window with the label that is most like it, of equals the one that was there first."""
        with np.errstate(all="ignore"):
            vector = _unit(window.outputs[0].ravel().astype(np.float64))
        if not np.isfinite(vector).all():
            window.result = Embedding(None, None, [])
            return window
        if self._waiting:
            self._take(vector)
        similar = self._matrix @ vector
        order = (-similar).argsort(kind="stable")[: self._top_k].tolist()
        top = [ScoredLabel(self._labels[at], round(float(similar[at]), DIGITS)) for at in order]
        best = top[0].score if top else None
        label = top[0].label if top and best is not None and best >= self._threshold else None
        shown = vector.round(DIGITS).tolist() if self._vector else []
        window.result = Embedding(label, best, top, shown)
        return window

    def reset(self) -> None:
        """Do nothing: what is enrolled stays."""

    def set_threshold(self, value: float) -> None:
        """Give no label to what is less similar, from the next window on."""
        self._threshold = value

    @property
    def labels(self) -> dict[str, int]:
        """How many windows each enrolled label was made of."""
        return {label: one.windows for label, one in self._enrolled.items()}

    def keep(self, path: Path | None) -> str:
        """Go on from a file, and keep there what will be enrolled. Return why that is not possible, if so."""
        self._path = path
        try:
            kept = None if path is None else kept_file.load(path, Kept, _LARGEST_FILE)
            if kept is not None:
                enrolled = _restored(kept.labels, kept.size, self._size)
                self._past = tuple((one.label, _past(one, kept.size, self._size)) for one in kept.past)
                self._enrolled = enrolled
        except UnreadableError as error:
            return f"what was enrolled cannot be used, and is empty now: {error}"
        self._arrange()
        return ""

    def enrol(self, label: str, windows: int, done: Callable[[str], None]) -> None:
        """Take the next windows as examples of a label, then call ``done``: with why it failed, else empty.

        ``ValueError`` if there are too many labels or commands.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise ValueError("too many labels are being enrolled; wait for an answer")
        if label not in self._enrolled and len(self._enrolled) >= MOST_LABELS:
            raise ValueError(f"{MOST_LABELS} labels are enrolled; forget one first")
        self._waiting.append(_Waiting(label, windows, windows, np.zeros(self._size), done))

    def forget(self, label: str) -> None:
        """Remove a label that was enrolled. ``ValueError`` if it was not. ``OSError`` if it stays in the file."""
        if label not in self._enrolled:
            known = ", ".join(sorted(self._enrolled)) or "none"
            raise ValueError(f"{label!r} is not enrolled; enrolled: {known}")
        before = self._remember(label)
        del self._enrolled[label]
        self._keep_or_restore(before)

    def undo(self, count: int) -> None:
        """Take back the last changes. ``ValueError`` if so many are not remembered.

        ``OSError`` if they stay in the file.
        """
        if count > len(self._past):
            raise ValueError(f"{len(self._past)} changes of labels are remembered; {count} cannot be undone")
        before = dict(self._enrolled), self._past
        for label, known in reversed(self._past[len(self._past) - count :]):
            self._enrolled.pop(label, None)
            if known is not None:
                self._enrolled[label] = known
        self._past = self._past[: len(self._past) - count]
        self._keep_or_restore(before)

    def _remember(self, label: str) -> _Before:
        """Take note of a label that is about to change. Return all that is known now."""
        before = dict(self._enrolled), self._past
        self._past = (*self._past, (label, self._enrolled.get(label)))[-MOST_PAST:]
        return before

    def _take(self, vector: NDArray[np.float64]) -> None:
        """Give a window to the command that has waited longest."""
        first = self._waiting[0]
        first.total += vector
        first.left -= 1
        if first.left:
            return
        self._waiting.popleft()
        known = self._enrolled.get(first.label)
        total = first.total if known is None else known.total + first.total
        if not total.any():
            first.done("its windows are opposite to each other, so they have no mean")
            return
        before = self._remember(first.label)
        self._enrolled[first.label] = _Prototype(first.windows + (known.windows if known else 0), total)
        try:
            self._keep_or_restore(before)
        except OSError as error:
            first.done(f"it cannot be kept: {error.strerror}")
        else:
            first.done("")

    def _keep_or_restore(self, before: _Before) -> None:
        """Write the file. If that fails, nothing has changed."""
        try:
            if self._path is not None:
                past = [Past(label, _to_keep(one) if one else None) for label, one in self._past]
                kept_file.save(self._path, Kept(FORMAT, self._size, self._labels_to_keep(), past))
        except OSError:
            self._enrolled, self._past = before
            raise
        finally:
            self._arrange()

    def _labels_to_keep(self) -> dict[str, Enrolled]:
        return {label: _to_keep(one) for label, one in self._enrolled.items()}

    def _arrange(self) -> None:
        """Prepare to compare with all prototypes; an enrolled label takes the place of a given one."""
        together = {**self._given, **self._enrolled}
        self._labels = list(together)
        rows = [_unit(one.total) for one in together.values()]
        self._matrix = np.array(rows).reshape(-1, self._size)


def _to_keep(one: _Prototype) -> Enrolled:
    return Enrolled(one.windows, one.total.tolist())


def _restored(labels: Mapping[str, Enrolled], of: int, size: int) -> dict[str, _Prototype]:
    """Return labels of a file, whose embeddings have ``of`` numbers.

    ``UnreadableError`` if it is of another model, or has no directions.
    """
    if of != size:
        raise UnreadableError(f"it has embeddings of {of} numbers, and the model gives {size}")
    found = {label: _Prototype(one.windows, np.array(one.total)) for label, one in labels.items()}
    for label, one in found.items():
        if len(one.total) != size or not np.isfinite(_unit(one.total)).all():
            raise UnreadableError(f"{label!r} has no embedding")
    return found


def _past(one: Past, of: int, size: int) -> _Prototype | None:
    """Return what a label was before a change. ``UnreadableError`` as from ``_restored``."""
    return None if one.before is None else _restored({one.label: one.before}, of, size)[one.label]


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a vector of length 1, NaN for one of zeros."""
    with np.errstate(all="ignore"):
        largest = np.abs(vector).max(initial=0.0)  # squares of large numbers would be infinite
        scaled = vector / largest
        return np.asarray(scaled / np.linalg.norm(scaled), np.float64)
