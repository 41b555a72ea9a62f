"""The short form of ``make fuzz``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.run import FEWEST, fuzz

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 5.0


def test_damaged_input_is_refused_and_does_no_more(tmp_path: Path) -> None:
    found = fuzz(SECONDS, tmp_path)
    why = {path.stem: path.read_text() for path in tmp_path.glob("*.txt")}
    assert not why
    assert found["crashes"] == 0
    assert found["parsers"] >= 12
    assert found["least_inputs"] >= FEWEST
