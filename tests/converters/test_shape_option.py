"""`options.shape` means the same for every converter: the input's sizes, with the batch or without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limpet_convert.converters import _shapes
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize(
    ("given", "sizes", "found"),
    [
        ([100, 6], [None, 100, 6], [100, 6]),
        ([1, 100, 6], [None, None, 6], [100, 6]),
        ([1, 28, 28], [None, None, None, None], [1, 28, 28]),
        ([1, 1, 28, 28], [None, None, None, None], [1, 28, 28]),
        ([1, 1], [None, None, None], [1, 1]),
        ([6], [None, None], [6]),
        ([1], [None, None], [1]),
        (None, [None, 6], [6]),
        (None, [4, 20, 6], [20, 6]),
        ([1, 100, 6], None, [100, 6]),
        ([100, 6], None, [100, 6]),
    ],
)
def test_the_number_of_axes_says_whether_the_batch_is_there(
    given: Sequence[int] | None, sizes: Sequence[int | None] | None, found: list[int]
) -> None:
    assert _shapes.closed(given, sizes) == found


@pytest.mark.parametrize(
    ("given", "sizes", "said"),
    [
        (None, [None, None, 6], r"shape \[\?, \?, 6\], with sizes left open.* options = { shape = \[100, 6\] }$"),
        (None, None, "an unknown shape.* such as options ="),
        ([4, 100, 6], [None, None, 6], r"a batch of 4.* Set model.options.shape to \[100, 6\]$"),
        ([100, 9], [None, None, 6], r"is \[100, 9\], .*\[\?, \?, 6\].* Set model.options.shape to \[100, 6\]$"),
        ([100, 9], [1, 100, 6], r"Set model.options.shape to \[100, 6\], or leave it out$"),
        ([100], [None, None, 6], r"Set model.options.shape to \[100, 6\]$"),
        ([], [None, 6], r"is \[\]; each size must be at least 1$"),
        ([-1, 6], [None, None, 6], r"is \[-1, 6\]; each size must be at least 1$"),
    ],
)
def test_a_shape_that_the_model_cannot_have_is_refused_with_one_that_it_can(
    given: Sequence[int] | None, sizes: Sequence[int | None] | None, said: str
) -> None:
    with pytest.raises(ConvertError, match=said):
        _shapes.closed(given, sizes)


def test_a_model_with_several_inputs_has_no_such_option() -> None:
    with pytest.raises(ConvertError, match="for a model with one input; this one has 2"):
        _shapes.closed([6], [None, 6], 2)
