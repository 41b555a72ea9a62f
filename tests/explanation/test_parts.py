from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.explanation.parts import divide, usual

if TYPE_CHECKING:
    from limpet.contracts.explanation import By
    from limpet.explanation.parts import Parts

ROWS = np.arange(24, dtype=np.float32).reshape(8, 3)
NAMES = ("ax", "ay", "az")


def without(parts: Parts, *hidden: str) -> np.ndarray:
    return parts.shown(np.array([name not in hidden for name in parts.names], float))


@pytest.mark.parametrize("by", ["channels", "times", "cells", "bands"])
def test_a_window_with_all_parts_is_the_window_itself(by: By) -> None:
    parts = divide(ROWS, np.zeros(3), by, channels=NAMES)
    shown = parts.shown(np.ones(len(parts.names)))
    np.testing.assert_array_equal(shown, ROWS)
    assert shown.dtype == ROWS.dtype
    assert not np.shares_memory(shown, ROWS)
    assert np.prod(parts.shape) == len(parts.names)


def test_a_hidden_channel_has_its_baseline() -> None:
    parts = divide(ROWS, np.array([1.0, 2.0, 3.0]), "channels", channels=NAMES)
    assert parts.names == ["ax", "ay", "az"]
    hidden = without(parts, "ay")
    assert (hidden[:, 1] == 2).all()
    np.testing.assert_array_equal(hidden[:, [0, 2]], ROWS[:, [0, 2]])


@pytest.mark.parametrize(
    ("rate", "first", "last"),
    [
        (1 / 3600, "0-2 h", "30-32 h"),
        (0.1, "0-20 s", "300-320 s"),
        (1 / 30, "0-1 min", "15-16 min"),
        (10_000.0, "0-0.2 ms", "3-3.2 ms"),
        (4.0, "0-0.5 s", "7.5-8 s"),
    ],
)
def test_times_are_in_a_unit_that_suits_the_window(rate: float, first: str, last: str) -> None:
    times = divide(np.zeros((32, 1), np.float32), np.zeros(1), "times", rate=rate)
    assert (times.names[0], times.names[-1]) == (first, last)
    assert len(set(times.names)) == len(times.names)


def test_times_and_cells_are_where_they_say() -> None:
    times = divide(ROWS, np.zeros(3), "times", rate=4.0)
    assert times.names[:2] == ["0-0.25 s", "0.25-0.5 s"]
    assert without(times, "0.25-0.5 s").any(1).tolist() == [True, False, *[True] * 6]
    cells = divide(ROWS, np.zeros(3), "cells", channels=NAMES, rate=4.0, most=12)
    assert cells.shape == (3, 4)
    changed = without(cells, "az, 0.5-1 s") != ROWS
    assert changed.nonzero()[0].tolist() == [2, 3]
    assert changed.nonzero()[1].tolist() == [2, 2]


def test_a_hidden_band_takes_its_tone_out_and_leaves_the_other() -> None:
    seconds = np.arange(256) / 256
    low, high = np.sin(2 * np.pi * 3 * seconds), np.sin(2 * np.pi * 100 * seconds)
    parts = divide((low + high + 5)[:, None], np.zeros(1), "bands", rate=256.0)
    assert parts.names[0] == "0 Hz"
    of_high = next(
        name for name in parts.names[1:] if float(name.split("-")[0]) <= 100 <= float(name.split("-")[1][:-3])
    )
    np.testing.assert_allclose(without(parts, of_high)[:, 0], low + 5, atol=1e-9)
    np.testing.assert_allclose(without(parts, "0 Hz")[:, 0], low + high, atol=1e-9)


def test_a_hidden_tile_of_a_picture_has_the_mean_colour() -> None:
    picture = np.zeros((1, 16, 24, 3), np.uint8)
    picture[..., 0] = 200
    parts = divide(picture, np.array([9.6, 300.0, -4.0]), "pixels")
    assert parts.shape == (8, 8)
    hidden = without(parts, "3,2-6,4")
    assert hidden[0, 3, 4].tolist() == [10, 255, 0]
    assert (hidden != picture).any(-1).sum() == 6
    half = parts.shown(np.full(64, 0.5))
    assert half[0, 0, 0].tolist() == [105, 128, 0]


def test_windows_are_explained_by_what_they_are() -> None:
    assert usual(np.zeros((1, 9)), None, picture=False) == "channels"
    assert usual(np.zeros((128, 6)), 100.0, picture=False) == "channels"
    assert usual(np.zeros((128, 1)), 100.0, picture=False) == "times"
    assert usual(np.zeros((16_000, 1)), 16_000.0, picture=False) == "bands"
    assert usual(np.zeros((1, 96, 96, 3)), None, picture=True) == "pixels"


def test_parts_that_a_window_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        divide(ROWS, np.zeros(3), "pixels")
    with pytest.raises(ValueError, match="no bands"):
        divide(ROWS[:2], np.zeros(3), "bands")
    with pytest.raises(ValueError, match='use "pixels"'):
        divide(np.zeros((1, 4, 4, 3)), np.zeros(3), "channels")


@given(st.integers(1, 40), st.integers(1, 100), st.sampled_from(["channels", "times", "cells"]))
def test_each_value_belongs_to_exactly_one_part(rows: int, columns: int, by: By) -> None:
    values = np.ones((rows, columns))
    parts = divide(values, np.zeros(columns), by)
    count = len(parts.names)
    assert len(set(parts.names)) == count
    alone = np.eye(count)
    assert (sum(parts.shown(share) for share in alone) == 1).all()
