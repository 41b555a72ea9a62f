"""From spans to pieces: samples that follow each other and have one label. No window reaches beyond its piece.

Pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import FloatArray
    from limpet_convert.training.recorded import Recorded


@dataclass(frozen=True)
class Piece:
    """``values``: float32 ``(n, channels)``; ``target``: float32 ``(n,)`` where a channel is to be predicted.

    ``recording`` is its position in the folder, of captures that of the first one of the same occasion. ``group``:
    pieces of one group are never in two folds.
    ``label`` is empty where there is none.
    """

    values: FloatArray
    label: str
    recording: int
    group: int
    target: FloatArray | None = None

    def part(self, begin: int, end: int, group: int) -> Piece:
        """Return the samples from ``begin`` to ``end`` as a piece of another group."""
        target = None if self.target is None else self.target[begin:end]
        return replace(self, values=self.values[begin:end], target=target, group=group)


def of_spans(recordings: Sequence[Recorded]) -> list[Piece]:
    """Return a piece for each run of samples within a span. The group is the recording or the occasion."""
    found = []
    for number, one in enumerate(recordings):
        for span in one.spans:
            found += _runs(one, number, span.label, (span.begin, span.end), None)
    return found


def unlabelled(recordings: Sequence[Recorded]) -> list[Piece]:
    """Return a piece for each run of samples outside of all spans."""
    found = []
    for number, one in enumerate(recordings):
        edges = [0]
        for span in one.spans:
            edges += [span.begin, span.end]
        edges.append(len(one.values))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            found += _runs(one, number, "", (begin, end), None)
    return found


def everything(recordings: Sequence[Recorded], targets: Sequence[FloatArray] | None = None) -> list[Piece]:
    """Return a piece for each run of samples, whatever the labels are."""
    return [
        piece
        for number, one in enumerate(recordings)
        for piece in _runs(one, number, "", (0, len(one.values)), targets)
    ]


def _runs(
    one: Recorded, number: int, label: str, where: tuple[int, int], targets: Sequence[FloatArray] | None
) -> list[Piece]:
    begin, end = where
    at = one.occasion
    edges = [begin, *(place for place in one.breaks if begin < place < end), end]
    return [
        Piece(one.values[a:b], label, at, at, None if targets is None else targets[number][a:b])
        for a, b in pairwise(edges)
        if b > a
    ]


def blocks(pieces: Sequence[Piece], count: int, gap: int) -> list[Piece]:
    """Cut each label's pieces into ``count`` blocks in their order; block i of all labels is group i.

    Between two blocks of a piece, ``gap`` samples are left out, so that no window of one touches the other.
    """
    found = []
    for label in dict.fromkeys(piece.label for piece in pieces):
        of_label = [piece for piece in pieces if piece.label == label]
        total = sum(len(piece.values) for piece in of_label)
        edges = [round(total * number / count) for number in range(count + 1)]
        start = 0
        for piece in of_label:
            for group, (low, high) in enumerate(pairwise(edges)):
                begin, end = max(low - start, 0), min(high - start, len(piece.values))
                if begin > 0:
                    begin += gap
                if begin < end:
                    found.append(piece.part(begin, end, group))
            start += len(piece.values)
    return found
