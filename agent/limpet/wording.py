"""Parts of messages that several modules use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

IN_USE = "is in use by another program"
"""The end of what a source says if its device is busy."""
MOST_COMPARED = 500
"""Known words that may be meant: a comparison takes up to a millisecond."""
MOST_LISTED = 40
MOST_REASONS = 5
_EXCERPT = re.compile(r"'[^']*'|\"[^\"]*\"")
"""Part of a reason that changes while the reason stays the same."""
MOST_OF_A_REASON = 200
"""Characters of an error that plugins or libraries raise."""


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


def below(where: str, reason: str, keys: Iterable[str]) -> str:
    """Return a reason with the table that it is about in front: ``mqtt.url: ...`` if it begins with a key."""
    key = reason.partition(" ")[0].rstrip(":,").partition(".")[0].partition("[")[0]
    return f"{where}.{reason}" if key in set(keys) else f"{where}: {reason}"


def listed(words: Sequence[str]) -> str:
    """Return words with commas between them. If there are too many, the last ones are counted only."""
    shown = [word if word.isprintable() else ascii(word)[1:-1] for word in words[:MOST_LISTED]]
    more = len(words) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def counted(count: int, thing: str) -> str:
    """Return a number with what it counts: ``1 key``, ``2 keys``."""
    return f"{count} {thing if count == 1 else f'{thing}s'}"


def joined(reasons: Sequence[str]) -> str:
    """Return reasons with semicolons between them. If there are too many, the last ones are counted only."""
    more = len(reasons) - MOST_REASONS
    return "; ".join(reasons[:MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")


def short_hash(digits: str) -> str:
    """Return the first 16 digits of a SHA-256 or of a key's id, for people."""
    return digits[:16]


def line_of(error: BaseException) -> str:
    """Return the line of code that an error comes from, as the end of a sentence."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})" if trace else ""


def bug(error: Exception) -> str:
    """Say what a plugin raised that it should not, and in which line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:MOST_OF_A_REASON]}{line_of(error)}"


def same_reason(one: str, other: str) -> bool:
    """Whether two texts give the same reason: they differ at most in excerpts, which are quoted."""
    return one == other or _EXCERPT.sub("", one) == _EXCERPT.sub("", other)


def updated(old: str, new: str) -> str:
    """Return the reason that holds now: ``old`` if nothing is known or ``new`` gives the same one."""
    return old if not new or same_reason(old, new) else new


def answered(answer: object) -> str:
    """Return an answer or a truth in words: a label, a number, several labels, or nothing."""
    if isinstance(answer, list):
        return ", ".join(map(str, answer)) or "nothing"
    return "nothing" if answer is None else str(answer)
