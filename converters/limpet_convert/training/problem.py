"""What is to be learned: pieces, labels, and which recordings are held back together. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from limpet_convert.errors import ConvertError
from limpet_convert.training import folds, pieces, proposals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.contracts.data import Array, FloatArray
    from limpet_convert.training.pieces import Piece
    from limpet_convert.training.recorded import Recorded, Session
    from limpet_convert.training.windows import Windows

Task: TypeAlias = Literal["classify", "anomaly", "regress"]
SplitBy: TypeAlias = Literal["recording", "block"]

BLOCKS = 5
FEWEST_SAMPLES = 40
"""Samples of a label."""
FEWEST_NORMAL = 200
NORMAL = "normal"
LONGEST_OF_SOUND = 1.1
"""Seconds: windows of sound are shorter, unless ``--window`` is set."""
_STILL = 1e-6


@dataclass(frozen=True)
class Problem:
    """``pieces`` measure; the final model learns from the ``whole`` ones. ``folds``: that of each group of pieces.

    Held back by ``recording``, figures are of other recordings than those learned from. By ``block``, they are of
    other parts of the same recordings, and so better than the model will be. ``target`` is the channel to predict.
    ``sound``: one channel, which is heard by its spectrum.
    """

    task: Task
    labels: tuple[str, ...]
    pieces: tuple[Piece, ...]
    whole: tuple[Piece, ...]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    rate: float | None
    folds: Mapping[int, int]
    split_by: SplitBy
    names: tuple[str, ...]
    target: str = ""
    unit: str = ""
    sound: bool = False
    warnings: tuple[str, ...] = field(default=())

    @property
    def fold_count(self) -> int:
        """How many folds there are."""
        return len(set(self.folds.values()))

    def fold_of(self, windows: Windows) -> Array:
        """Return the fold of each window."""
        by_piece = np.array([self.folds[piece.group] for piece in self.pieces])
        return np.asarray(by_piece[windows.piece])

    def recording_of(self, windows: Windows) -> Array:
        """Return the recording of each window, as a position in ``names``."""
        by_piece = np.array([piece.recording for piece in self.pieces])
        return np.asarray(by_piece[windows.piece])

    def targets(self, windows: Windows) -> Array:
        """Return the class of each window, int64 ``(n,)``, or its number, float32 ``(n, 1)``.

        Of anomalies, the class is 1, of normal windows 0.
        """
        if windows.target is not None:
            return windows.target[:, np.newaxis]
        if self.task == "classify":
            by_piece = np.array([self.labels.index(piece.label) for piece in self.pieces], np.int64)
        else:
            by_piece = np.array([bool(piece.label) for piece in self.pieces], np.int64)
        return np.asarray(by_piece[windows.piece])


def regress(session: Session, target: str, window: int | None) -> Problem:
    """Return the problem of estimating a number: a channel, or else the labels."""
    unit = ""
    if target:
        if target not in session.channels:
            raise ConvertError(
                f"--target: there is no channel {target!r}; the recordings have: {', '.join(session.channels)}"
            )
        numbers = session.column(target)
        unit = session.units[session.channels.index(target)]
        session = session.chosen([name for name in session.channels if name != target])
        found = pieces.everything(session.recordings, numbers)
    else:
        found = numbered(pieces.of_spans(session.recordings))
    values = [piece.target for piece in found if piece.target is not None]
    if not values or min(one.min() for one in values) == max(one.max() for one in values):
        raise ConvertError("the number to estimate never changes. Record it at several values.")
    return _problem("regress", session, found, (), window, target=target or "value", unit=unit)


def numbered(found: Sequence[Piece]) -> list[Piece]:
    """Return the pieces with their labels as numbers."""
    if not found:
        raise ConvertError("nothing has a label. Run: limpet label, or name the channel to estimate with --target")
    if words := sorted({piece.label for piece in found if not _is_number(piece.label)}):
        raise ConvertError(f"label {words[0]!r} is no number; name the channel to estimate with --target")
    return [
        replace(piece, label="", target=np.full(len(piece.values), float(piece.label), np.float32))
        for piece in found
    ]


def _is_number(label: str) -> bool:
    try:
        return bool(np.isfinite(float(label)))
    except ValueError:
        return False


def anomaly(session: Session, window: int | None) -> Problem:
    """Return the problem of knowing what is normal.

    Normal is what is labelled so; without such a label, all that has no label. Other labels are anomalies, which
    measure only. ``ConvertError`` if too little is normal.
    """
    normal, strange = normal_and_strange(session)
    samples = sum(len(piece.values) for piece in normal)
    if samples < FEWEST_NORMAL:
        raise ConvertError(
            f"{samples} samples are normal; {FEWEST_NORMAL} or more are needed. Normal is what has the label "
            f"{NORMAL!r}, or no label if nothing has that one."
        )
    found = _problem("anomaly", session, normal, (), window)
    groups = sorted({piece.group for piece in found.pieces})
    placed = [replace(piece, group=_group(piece, found.folds, groups)) for piece in strange]
    return replace(found, pieces=(*found.pieces, *placed), whole=(*found.whole, *strange))


def normal_and_strange(session: Session) -> tuple[list[Piece], list[Piece]]:
    """Return what is normal, without a label, and what is labelled as something else."""
    labelled = pieces.of_spans(session.recordings)
    normal = [replace(piece, label="") for piece in labelled if piece.label == NORMAL]
    strange = [piece for piece in labelled if piece.label != NORMAL]
    return normal or pieces.unlabelled(session.recordings), strange


def _group(strange: Piece, folds_of: Mapping[int, int], groups: Sequence[int]) -> int:
    """Return the group that an anomaly is judged with: that of its recording if there is one."""
    return strange.group if strange.group in folds_of else groups[strange.group % len(groups)]


def classify(session: Session, window: int | None) -> Problem:
    """Return the problem of telling labels apart. ``ConvertError`` says what is missing, and how much of it."""
    found = pieces.of_spans(session.recordings)
    labels = tuple(sorted({piece.label for piece in found}))
    if len(labels) < 2:
        there = f"the only label is {labels[0]!r}" if labels else "nothing has a label"
        raise ConvertError(
            f"telling classes apart needs two labels or more, and {there}. Run: limpet label, or learn what is "
            "normal with --task anomaly"
        )
    for label in labels:
        samples = sum(len(piece.values) for piece in found if piece.label == label)
        if samples < FEWEST_SAMPLES:
            raise ConvertError(
                f"label {label!r} has {samples} samples; it needs {FEWEST_SAMPLES} or more. Record more of it."
            )
    return _problem("classify", session, found, labels, window)


def _problem(  # noqa: PLR0913 - the parts of a problem
    task: Task,
    session: Session,
    found: Sequence[Piece],
    labels: tuple[str, ...],
    window: int | None,
    *,
    target: str = "",
    unit: str = "",
) -> Problem:
    warnings: list[str] = []
    if session.sound and not window:
        window = round(LONGEST_OF_SOUND * (session.rate or 0))
    split, chosen, split_by = _split(found, window, warnings)
    return Problem(
        task=task,
        labels=labels,
        pieces=tuple(split),
        whole=tuple(found),
        channels=session.channels,
        units=session.units,
        rate=session.rate,
        folds=chosen,
        split_by=split_by,
        names=tuple(one.file for one in session.recordings),
        warnings=tuple(warnings),
        target=target,
        unit=unit,
        sound=session.sound,
    )


def _split(
    found: Sequence[Piece], window: int | None, warnings: list[str]
) -> tuple[list[Piece], Mapping[int, int], SplitBy]:
    """Return the pieces, the fold of each group, and what is held back together."""
    labels, groups = [piece.label for piece in found], [piece.group for piece in found]
    rare = folds.single(labels, groups)
    if not rare:
        return list(found), folds.folds(labels, groups), "recording"
    if len(set(groups)) == 1:
        what = "There is one recording"
    else:
        what = (
            f"Label {', '.join(repr(label) for label in rare[:5])} {'is' if len(rare) == 1 else 'are'} "
            "in one recording"
        )
    warnings.append(
        f"{what}, so accuracy on new recordings cannot be measured. The figures are of other parts of the same "
        "recordings and are too good. Record each label in two recordings or more, on different occasions."
    )
    if len(set(groups)) > 1:
        warnings.append(
            "A label that is in one recording only may be recognised by something else of that recording, such as "
            "the place of the sensor."
        )
    block = min(sum(len(p.values) for p in found if p.label == label) for label in set(labels)) // BLOCKS
    gap = min(window or proposals.longest(found), block // 4)
    split = pieces.blocks(found, BLOCKS, gap)
    usable = folds.single([piece.label for piece in split], [piece.group for piece in split])
    if usable:
        raise ConvertError(f"label {usable[0]!r} has too few samples to hold any back. Record more of it.")
    return split, {group: group for group in {piece.group for piece in split}}, "block"


def still(session: Session) -> list[str]:
    """Return the channels that never change."""
    low = np.min([one.values.min(axis=0) for one in session.recordings if len(one.values)], axis=0)
    high = np.max([one.values.max(axis=0) for one in session.recordings if len(one.values)], axis=0)
    return [name for name, same in zip(session.channels, (low == high).tolist(), strict=True) if same]


def leaking(recordings: Sequence[Recorded], channels: Sequence[str]) -> list[str]:
    """Return the channels that change with the label alone: constant in each span, and other for other labels."""
    found = [piece for piece in pieces.of_spans(recordings) if len(piece.values) > 1]
    if len({piece.label for piece in found}) < 2:
        return []
    inside = np.array([piece.values.std(axis=0) for piece in found])
    means = np.array([piece.values.mean(axis=0) for piece in found])
    whole = np.maximum(means.std(axis=0), 1e-12)
    return [
        name
        for column, name in enumerate(channels)
        if (inside[:, column] < _STILL * max(1.0, float(np.abs(means[:, column]).max()))).all()
        and whole[column] > _STILL
        and _separates(means[:, column], [piece.label for piece in found])
    ]


def _separates(values: FloatArray, labels: Sequence[str]) -> bool:
    """Whether each value belongs to one label."""
    of_value = defaultdict[float, set[str]](set)
    for value, label in zip(np.round(values, 6).tolist(), labels, strict=True):
        of_value[value].add(label)
    return all(len(found) == 1 for found in of_value.values())
