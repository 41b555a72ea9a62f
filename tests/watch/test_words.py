"""Results in words: what each decoder gives, and what no decoder gives."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.detected_events import KeywordEvent
from limpet.watch import words

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=15,
)
WALK = {
    "label": "walking",
    "score": 0.92,
    "top": [{"label": "walking", "score": 0.92}, {"label": "rest", "score": 0.08}],
}


@pytest.mark.parametrize(
    ("output", "text", "alarm"),
    [
        ({**WALK, "abstained": False}, "walking 92%", False),
        ({**WALK, "label": None, "abstained": True}, "unsure: walking 92%", False),
        ({**WALK, "abstained": False, "set": ["walking"]}, "walking 92%", False),
        (
            {**WALK, "label": None, "abstained": True, "set": ["walking", "rest"]},
            "unsure: walking 92% of walking, rest", False,
        ),
        (
            {"values": {"t": 21.4}, "units": {"t": "°C"}, "in_range": True, "out_of_range": [],
             "intervals": {"t": [20, 22.8]}, "abstained": True},
            "t 21.4 °C (20 to 22.8) (unsure)", False,
        ),
        ({"label": "3", "score": None, "top": [], "abstained": False}, "3", False),
        ({"anomalous": False, "score": 0.0132, "threshold": 0.144}, "normal 0.0132 of 0.144", False),
        ({"anomalous": True, "score": 0.52, "threshold": 0.144}, "ANOMALY 0.52 of 0.144", True),
        ({"anomalous": True, "score": None, "threshold": 0.144}, "no score", True),
        (
            {"anomalous": False, "score": 1.5, "threshold": 3, "untrained": True},
            "normal 1.5 of 3 (still learning)", False,
        ),
        (
            {
                "detections": [{"label": "dog", "score": 0.5, "box": [0, 0, 1, 1]}],
                "counts": {"person": 2, "dog": 1, "cat": 0},
            },
            "2 person, 1 dog", False,
        ),
        ({"detections": [], "counts": {}}, "nothing found", False),
        (
            {"detections": [], "counts": {"cat": 3}, "zones": {"lawn": {"cat": 2, "dog": 0}, "drive": {}}},
            "3 cat (2 in lawn)",
            False,
        ),
        ({"poses": [], "counts": {"hand": 2, "face": 0}, "skeleton": []}, "2 hand", False),
        ({"shares": {"floor": 0.25, "wall": 0.75, "door": 0}, "regions": []}, "wall 75%, floor 25%", False),
        (
            {
                "values": {"t": 21.44, "rh": None, "n": 1234.6}, "units": {"t": "°C", "rh": "%"},
                "in_range": False, "out_of_range": ["rh"],
            },
            "t 21.4 °C, rh ? %, n 1235 (out of range)", True,
        ),
        ({"steps": 5}, '{"steps":5}', False),
    ],
)  # fmt: skip
def test_a_result_is_said_in_words(output: Any, text: str, *, alarm: bool) -> None:
    said = words.result(output)
    assert (said.text, said.alarm) == (text, alarm)


@pytest.mark.parametrize(
    ("shape", "form", "samples"),
    [
        ([240, 320, 3], "picture 320 x 240", "frames"),
        ([0, 0, 3], "", "frames"),  # no frame has come
        ([1], "1 channel", "samples"),
        ([9], "9 channels", "samples"),
        ([4, 5, 6], "input 4 x 5 x 6", "samples"),
        ([], "", "samples"),
    ],
)
def test_samples_are_called_by_their_form(shape: list[int], form: str, samples: str) -> None:
    assert (words.form(shape), words.samples(shape)) == (form, samples)


def test_a_keyword_is_shown_with_its_score() -> None:
    assert words.detected_event(KeywordEvent(label="okay nabu", score=0.876)) == "okay nabu 88%"


def test_classes_have_bars_and_numbers_have_curves() -> None:
    assert words.result({**WALK, "abstained": False}).shares == (("walking", 0.92), ("rest", 0.08))
    said = words.result({"anomalous": False, "score": 0.5, "threshold": 2.0})
    assert (said.numbers, said.limit) == ((("score", 0.5),), 2.0)


@given(JSON)
def test_any_output_becomes_one_printable_line(output: Any) -> None:
    said = words.result(output)
    assert said.text.isprintable()
    assert len(said.text) <= 8 * words.LONGEST


@given(st.text())
def test_a_text_from_outside_becomes_printable_and_short(text: str) -> None:
    cleaned = words.cleaned(text, 20)
    assert cleaned.isprintable()
    assert len(cleaned) <= 21


@given(st.lists(st.floats(), max_size=20), st.floats() | st.none())
def test_a_curve_has_a_bar_for_each_number_that_is_one(values: list[float], high: float | None) -> None:
    assert len(words.curve(values, high=high)) == sum(map(math.isfinite, values))


def test_a_curve_rises_from_the_smallest_to_the_largest_value() -> None:
    assert words.curve([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert words.curve([5, 5]) == "▁▁"
    assert words.curve([-1, 0.5, 9], 0.0, 1.0) == "▁▅█"


def test_a_value_that_is_infinitely_far_above_the_scale_is_at_its_top() -> None:
    assert words.curve([1e308], 0.0, 1e-308) == "█"


@given(st.text(alphabet=st.characters(exclude_categories=["C", "Z"])), st.integers(0, 30))
def test_a_text_is_fitted_into_columns_wide_characters_included(text: str, width: int) -> None:
    assert words.cells(words.fitted(text, width)) <= width
    if words.cells(text) <= width:
        assert words.fitted(text, width) == text


@given(st.floats() | st.none())
def test_any_number_has_a_short_form(value: float | None) -> None:
    for form in (words.number(value), words.rate(value), words.share(value), words.span(value or 0.0)):
        assert 0 < len(form) < 14


@pytest.mark.parametrize(
    ("us", "said"), [(0.25, "0.25 µs"), (999.4, "999 µs"), (1500, "1.5 ms"), (2_500_000, "2.5 s"), (-1, "?")]
)
def test_a_duration_has_the_unit_that_suits_it(us: float, said: str) -> None:
    assert words.span(us) == said


def test_causes_of_drops_are_named() -> None:
    assert words.causes({"queue": 1234, "gap": 0, "crc\x1b": 2}) == "queue 1,234, crc\\x1b 2"
    assert words.causes({"queue": 0}) == "none"
    assert words.causes({"queue": 10**20}) == "queue very many"


def test_faults_of_a_device_are_times_and_no_dropped_samples() -> None:
    counts = {"queue": 3, "missing": 2, "no_access": 1, "busy": 0}
    assert words.causes(counts) == "queue 3"
    assert words.faults(counts) == "missing 2 times, no access 1 time"
    assert words.faults({"queue": 3}) == ""
