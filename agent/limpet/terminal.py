"""Colour for a person at a terminal; plain text for pipes, files and logs."""

from __future__ import annotations

import os
from typing import IO, Literal, TypeAlias

Style: TypeAlias = Literal["bold", "dim", "red", "green", "yellow", "blue", "cyan"]

_CODES: dict[Style, str] = {
    "bold": "1",
    "dim": "2",
    "red": "1;31",
    "green": "32",
    "yellow": "33",
    "blue": "1;34",
    "cyan": "36",
}


def is_terminal(stream: IO[str]) -> bool:
    """Whether a stream is a terminal. A closed stream is none."""
    try:
        return stream.isatty()
    except ValueError:
        return False


def can_draw(stream: IO[str]) -> bool:
    """Whether a stream is a terminal on which the cursor can be moved, as ``TERM`` says."""
    return is_terminal(stream) and os.environ.get("TERM", "").lower() not in {"", "dumb", "unknown"}


def takes_colour(stream: IO[str]) -> bool:
    """Whether to colour what is written to a stream.

    ``NO_COLOR`` says no and ``FORCE_COLOR`` says yes, if they are not empty. Otherwise the stream must be a
    terminal that ``TERM`` does not call ``dumb``.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def styled(text: str, style: Style, *, colour: bool) -> str:
    """Return a text in a style; unchanged without ``colour``. The text must be printable."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if colour and text else text
