"""What is said of gaps in the samples of a source."""

from __future__ import annotations

import pytest

from limpet.worker.intake import Gaps


@pytest.mark.parametrize(
    ("count", "missing", "sentence"),
    [
        (1, 0, "1 gap in the samples of cam"),
        (1, 1, "1 gap in the samples of cam: 1 sample is missing"),
        (1200, 3500, "1,200 gaps in the samples of cam: 3,500 samples are missing"),
    ],
)
def test_missing_samples_are_counted_if_any_are_known(count: int, missing: int, sentence: str) -> None:
    assert Gaps(count, missing).sentence("cam") == sentence
