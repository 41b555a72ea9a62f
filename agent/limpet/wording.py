"""Parts of messages that several modules use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_COMPARED = 500
"""Known words that may be meant: a comparison takes up to a millisecond."""
MOST_LISTED = 40
MOST_REASONS = 5


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: the known word that was probably meant, or all of them.

    Words may be names of files that a stranger chose. What cannot be printed in them is escaped.
    """
    import difflib

    words = sorted(known)
    close = difflib.get_close_matches(word, words[:MOST_COMPARED], n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (there are: {listed(words)})" if words else ""


def listed(words: Sequence[str]) -> str:
    """Return words with commas between them. If there are too many, the last ones are counted only."""
    shown = [word if word.isprintable() else ascii(word)[1:-1] for word in words[:MOST_LISTED]]
    more = len(words) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def joined(reasons: Sequence[str]) -> str:
    """Return reasons with semicolons between them. If there are too many, the last ones are counted only."""
    more = len(reasons) - MOST_REASONS
    return "; ".join(reasons[:MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")
