"""Models that leave out overlapping boxes themselves and give boxes, classes and scores apart."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.decoders._detection.boxes import CLASSES, Boxes
from limpet.decoders._detection.heads import FINISHED
from limpet.decoders._detection.tables import refuse_types, shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import FloatArray, TensorSpec
    from limpet.decoders._detection.tables import Layout, Tables


class Order(NamedTuple):
    """Which output is what. ``number`` is that of the count, ``None`` where all boxes count."""

    boxes: int
    classes: int
    scores: int
    number: int | None


class Finished:
    """Boxes, classes and scores in outputs of their own: see ``heads.Head``.

    ``top_first``: boxes are top, left, bottom, right, as ``TFLite_Detection_PostProcess`` gives them.
    """

    usual = FINISHED

    def __init__(self, order: Order, *, top_first: bool) -> None:
        self._order = order
        self._sides = [1, 0, 3, 2] if top_first else [0, 1, 2, 3]

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        """Return what scores enough, as far as it is counted."""
        boxes, classes, scores = (outputs[place] for place in self._order[:3])
        number = scores.size
        if self._order.number is not None:
            count = float(outputs[self._order.number].item())
            number = int(max(0.0, min(scores.size, count)))  # NaN is not less than that
        corners = boxes.reshape(-1, 4)[:number, self._sides]
        return known(corners, scores.ravel()[:number], classes.ravel()[:number], threshold)


class End2End:
    """Left, top, right, bottom, score, class."""

    usual = FINISHED

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        """Return what scores enough."""
        scores, classes = self._tables.scores.columns(outputs)
        extras = self._tables.extras.columns(outputs).T
        return known(self._tables.places.columns(outputs).T, scores, classes, threshold, extras)


def known(
    corners: FloatArray,
    scores: FloatArray,
    classes: FloatArray,
    threshold: float,
    extras: FloatArray | None = None,
) -> Boxes:
    """Return the boxes that score enough and whose class, a number, can be one."""
    good = (scores >= threshold) & (classes > -0.5) & (classes < CLASSES)
    chosen = np.asarray(corners[good], np.float32)
    more = np.zeros((len(chosen), 0), np.float32) if extras is None else extras[good]
    largest = float(np.fmax.reduce(np.abs(chosen), axis=None, initial=0))
    return Boxes(chosen, scores[good], np.rint(classes[good]).astype(np.intp), more, largest)


def finished(outputs: Sequence[TensorSpec], layout: Layout) -> Finished:
    """Return the head of these outputs. ``ValueError`` if it is not clear which is what."""
    order = _order(outputs, layout)
    refuse_types([outputs[order.boxes], outputs[order.scores]])
    return Finished(order, top_first=layout == "ssd")


def _order(outputs: Sequence[TensorSpec], layout: Layout) -> Order:
    if len(outputs) not in {3, 4}:
        raise ValueError(
            f"{layout} has four outputs (boxes, classes, scores and their count), or the first three, "
            f"not {len(outputs)}"
        )
    boxes = [n for n, tensor in enumerate(outputs) if len(tensor.shape) > 1 and tensor.shape[-1] == 4]
    for order in _candidates(outputs, boxes[0] if len(boxes) == 1 else -1):
        parts = [abs(prod(outputs[place].shape)) for place in order[:3]]
        counted = order.number is None or abs(prod(outputs[order.number].shape)) == 1
        if counted and parts == [4 * parts[1], parts[1], parts[1]]:
            return order
    raise ValueError(
        f"layout {layout} does not fit outputs of shape {shapes(outputs)}. It needs boxes, classes, scores and "
        "count, or scores, boxes, count and classes, in this order. In another order, names or types of the "
        "outputs must say which has the classes. Boxes have shape [1, n, 4]"
    )


def _candidates(outputs: Sequence[TensorSpec], boxes: int) -> list[Order]:
    """Return the orders that may be: what names or types say, else those in which TensorFlow 1 and 2 export."""
    rest = [place for place in range(len(outputs)) if place != boxes]
    if boxes < 0:
        return []
    counts = [place for place in rest if abs(prod(outputs[place].shape)) == 1] if len(outputs) == 4 else [-1]
    for number in counts:
        pair = [place for place in rest if place != number]
        for classes, scores in (pair, pair[::-1]):
            if _is_class(outputs[classes]) and not _is_class(outputs[scores]):
                return [Order(boxes, classes, scores, None if number < 0 else number)]
    orders = {0: Order(boxes=0, classes=1, scores=2, number=3), 1: Order(scores=0, boxes=1, number=2, classes=3)}
    return [orders[boxes]] if len(outputs) == 4 and boxes in orders else []


def _is_class(tensor: TensorSpec) -> bool:
    """Whether the type or the name of an output shows that it has the numbers of classes."""
    whole = tensor.dtype.kind in "iu" and not tensor.quantized
    name = tensor.name.lower()
    return whole or (("class" in name or "label" in name or "category" in name) and "score" not in name)
