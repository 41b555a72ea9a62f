"""Keys and the editor of labels, without a terminal."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.recorder.editor import COLUMNS, Editor
from limpet.recorder.editor_screen import frame
from limpet.recorder.plot import braille
from limpet.recorder.screen import sparkline
from limpet.recordings.folder import Span
from recordings.test_folder import recording

SECONDS = np.arange(100) / 10
VALUES = np.stack([np.sin(SECONDS), SECONDS], axis=1)


def editor(*spans: Span) -> Editor:
    return Editor(recording(spans=list(spans), gaps=[3.0]), SECONDS, ["sit", "walk"])


def pressed(one: Editor, *wanted: str) -> Editor:
    for key in wanted:
        one.press(key)
    return one


def test_a_part_is_selected_and_labelled_by_number_or_by_name() -> None:
    one = pressed(editor(), "b", *["right"] * 39, "1")
    assert one.spans == [Span("sit", 0, 5.0)]
    pressed(one, "b", "end", "e", "l", *"stand.up", "backspace", "enter")
    assert one.spans == [Span("sit", 0, 5.0), Span("stand.u", 5.0, 10.0)]
    assert one.labels == ["sit", "walk", "stand.u"]
    assert one.changed


def test_the_span_at_the_cursor_can_be_labelled_again_and_deleted_and_that_is_undone() -> None:
    one = pressed(editor(Span("sit", 0, 4), Span("walk", 4, 10)), "2")
    assert one.spans == [Span("walk", 0, 10)]
    pressed(one, "u", "d")
    assert one.spans == [Span("walk", 4, 10)]
    pressed(one, "u")
    assert not one.changed
    assert pressed(one, "u").message == "There is nothing to undo."


def test_without_a_part_a_label_needs_one() -> None:
    assert "Select a part first" in pressed(editor(), "1").message
    assert pressed(editor(), "l").typed is None


def test_a_name_that_is_no_label_changes_nothing() -> None:
    one = pressed(editor(), "b", "end", "l", *"a/b", "enter")
    assert "is no label" in one.message
    assert not one.changed


def test_the_cursor_goes_from_sample_to_sample() -> None:
    one = pressed(editor(), ".", ".", ".")
    assert one.cursor == pytest.approx(0.3)
    assert pressed(one, ",").cursor == pytest.approx(0.2)


def test_zooming_keeps_the_cursor_in_place_and_ends_at_a_few_samples() -> None:
    one = pressed(editor(), *["right"] * 39)
    pressed(one, *["+"] * 20)
    begin, end = one.view
    assert begin <= one.cursor <= end
    assert end - begin == pytest.approx(0.8)
    assert pressed(one, *["-"] * 20).view == (0, 10)


def test_leaving_needs_a_second_key_if_something_was_not_saved() -> None:
    one = pressed(editor(), "b", "end", "1")
    assert one.press("n") == ""
    assert one.press("q") == ""
    assert one.press("q") == "quit"
    assert one.press("s") == "save"
    one.saved()
    assert one.press("q") == "quit"


_KEYS = st.sampled_from(
    [*"be12lduacq+-,.n", "left", "right", "home", "end", "page up", "page down", "enter", "escape"]
)


@given(st.lists(_KEYS, max_size=40), st.integers(5, 60))
def test_whatever_keys_are_pressed_the_screen_fits_and_the_labels_are_valid(
    wanted: list[str], height: int
) -> None:
    one = pressed(editor(Span("sit", 1, 2)), *wanted)
    msgspec.structs.replace(one.recording, spans=one.spans).__post_init__()
    assert 0 <= one.cursor <= 10
    assert 0 <= one.view[0] < one.view[1] <= 10.0000001
    lines = frame(one, VALUES, "a.csv", height)
    assert len(lines) <= height
    assert all(len(line) <= COLUMNS for line in lines)


def test_the_screen_shows_labels_selection_gaps_and_cursor() -> None:
    one = pressed(editor(Span("sit", 0, 5), Span("walk", 5, 10)), *["right"] * 50, "b", *["right"] * 10)
    lines = frame(one, VALUES, "a.csv", 24)
    assert len(lines) == 24
    assert any(line.startswith("|sit---") and "|walk---" in line for line in lines)
    (marks,) = [line for line in lines if "[" in line and "^" in line]
    assert (marks.index("!"), marks.index("["), marks.index("^")) == (23, 50, 60)


def test_a_recording_of_one_sample_can_be_shown() -> None:
    one = Editor(recording(samples=1, seconds=0.0), np.zeros(1), [])
    assert len(frame(pressed(one, "+", "right", "-"), np.zeros((1, 2)), "a.csv", 24)) == 24


def test_a_plot_reaches_from_the_lowest_to_the_highest_value() -> None:
    (top, bottom) = braille(np.arange(4.0), np.array([[0.0], [0.0], [9.0], [0.0]]), (0, 4), (2, 2))
    assert top == "\u2800\u28ff"
    assert bottom[0] == "\u28c0"
    assert sparkline(np.array([0.0, 1.0, 2.0]), 3) == "▁▅█"
    assert sparkline(np.zeros(5), 3) == "▁▁▁"
