"""Keys of a terminal, from its bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limpet import keyboard


def test_sequences_are_keys_and_a_begun_one_waits_for_its_rest() -> None:
    assert keyboard.parse("a\x1b[D\x1b[3~\r\x7f") == (["a", "left", "delete", "enter", "backspace"], "")
    assert keyboard.parse("x\x1b[") == (["x"], "\x1b[")
    assert keyboard.parse("\x1b[B\x1b[B\x1bOA") == (["down", "down", "up"], "")
    assert keyboard.parse("\x1b[99;99R1") == (["1"], "")


@given(st.text(max_size=30))
def test_any_text_is_keys(text: str) -> None:
    found, rest = keyboard.parse(text)
    assert len(found) + len(rest) <= len(text)
