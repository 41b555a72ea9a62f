"""The transforms of sound and signals give the numbers of the libraries with which models are trained."""

from __future__ import annotations

import pytest

from support import golden

ARRAYS = golden.arrays("sounds")


@pytest.mark.parametrize("case", golden.cases("sounds"), ids=lambda case: case.name)
def test_a_transform_gives_the_numbers_of_the_library(case: golden.Golden) -> None:
    assert golden.difference(case, ARRAYS) <= case.difference
    assert case.difference <= 1e-4 * max(case.largest, 1)
