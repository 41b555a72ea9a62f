"""The decoder that a bare model gets by its shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limpet.models.usual_decoder import usual_decoder

if TYPE_CHECKING:
    from collections.abc import Sequence

PICTURE = [(1, 224, 224, 3)]


@pytest.mark.parametrize(
    ("outputs", "labels", "kind"),
    [
        ([(1, 1001)], 1001, "classify"),
        ([(1, 10, 4), (1, 10), (1, 10), (1,)], 90, "detect"),
        ([(1, 896, 16), (1, 896, 1)], 0, "detect"),
        ([(1, 2016, 18), (1, 2016, 1)], 1, "detect"),
        ([(1, 84, 8400)], 80, "detect"),
        ([(1, 25200, 85)], 80, "detect"),
        ([(1, 300, 6)], 80, "detect"),
        ([(1, 1, 17, 3)], 0, "keypoints"),
        ([(1, 195), (1, 1), (1, 256, 256, 1)], 0, "keypoints"),
        ([(1, 63), (1, 1), (1, 1), (1, 63)], 2, "keypoints"),
        ([(1, 1, 1, 1404), (1, 1, 1, 1)], 0, "keypoints"),
        ([(1, 256, 256, 1)], 1, "segment"),
        ([(1, 256, 256, 1)], 0, "segment"),
        ([(1, 257, 257, 21)], 21, "segment"),
    ],
)
def test_shapes_of_a_model_of_pictures_show_its_decoder(
    outputs: Sequence[tuple[int, ...]], labels: int, kind: str
) -> None:
    assert usual_decoder(PICTURE, outputs, labels) == {"kind": kind}


def test_without_labels_a_row_of_numbers_may_be_anything() -> None:
    assert usual_decoder(PICTURE, [(1, 10)], 0) == {}
    assert usual_decoder(PICTURE, [(1, 64, 64, 21)], 0) == {}


def test_a_model_of_other_inputs_with_labels_classifies() -> None:
    assert usual_decoder([(1, 128, 3)], [(1, 4)], 4) == {"kind": "classify"}
    assert usual_decoder([(1, 128, 3)], [(1, 17, 3)], 0) == {}
