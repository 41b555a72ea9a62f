"""Problems as a person reads them: a sentence with its place, the line, and carets below what is meant."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from limpet.errors import ConfigFileError
from limpet.terminal import styled
from limpet.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.errors import ConfigError, Problem

MOST_EXCERPTS = 100
"""Problems that are shown with their line."""
MOST_SHOWN = 1000
"""Problems that are shown at all."""
WIDEST = 100
"""Characters of a line that are shown."""
_BEFORE = 60
"""Characters that are shown before a place far along its line."""
LONGEST_SENTENCE = 2000


def report(program: str, error: ConfigError, *, colour: bool = False) -> str:
    """Return all that is wrong as lines for a terminal, printable and bounded."""
    if not isinstance(error, ConfigFileError):
        return "\n".join(_bounded([f"{program}: {printable(problem)}" for problem in error.problems]))
    lines = []
    for number, problem in enumerate(error.found[: MOST_SHOWN + 1]):
        lines.append("\n".join(_lines(problem, excerpt=number < MOST_EXCERPTS, colour=colour)))
    return "\n".join(_bounded(lines, len(error.found)))


def _bounded(lines: Sequence[str], count: int = 0) -> Iterator[str]:
    yield from lines[:MOST_SHOWN]
    if (more := max(count, len(lines)) - MOST_SHOWN) > 0:
        yield f"{more} more problems are not shown."


def _lines(problem: Problem, *, excerpt: bool, colour: bool) -> Iterator[str]:
    """Yield the sentence of a problem, and its line with carets."""
    where = f"{problem.file}:{problem.line}:{problem.column}" if problem.line else problem.file
    yield f"{styled(printable(where), 'bold', colour=colour)}: {sentence(problem.message)}"
    if excerpt and problem.excerpt:
        line, carets = _excerpt(problem)
        margin = f"{problem.line:5} |"
        yield f"{styled(margin, 'blue', colour=colour)} {line}"
        if carets:
            bar = styled(" " * (len(margin) - 1) + "|", "blue", colour=colour)
            yield f"{bar} {styled(carets, 'red', colour=colour)}"


def sentence(message: str) -> str:
    """Return a message as a printable sentence of bounded length, with a full stop unless it ends in a command."""
    text = printable(" ".join(message[:LONGEST_SENTENCE].splitlines()).replace("\t", " "))
    if len(message) > LONGEST_SENTENCE:
        return f"{text}..."
    command = re.search(r"\b[Rr]un: [^.]*(?:\.[^. ]+)*$", text)  # it is copied as it is
    return text if command or text.endswith((".", "?", "!")) else f"{text}."


def _excerpt(problem: Problem) -> tuple[str, str]:
    """Return the part of the line that is around the problem, and carets for the line below it."""
    line, column = problem.excerpt, problem.column - 1
    begin = 0 if column < WIDEST - 20 else column - _BEFORE
    end = begin + WIDEST
    before, after = "..." if begin else "", "..." if end < len(line) else ""
    shown = f"{before}{''.join(map(_cell, line[begin:end]))}{after}"
    if column >= len(line) and column > 0 and line.endswith("..."):
        return shown, ""
    left = len(before) + sum(_width(_cell(each)) for each in line[begin:column])
    marked = sum(_width(_cell(each)) for each in line[column : min(column + problem.length, end)])
    return shown, " " * left + "^" * max(1, marked)


def _cell(character: str) -> str:
    """Return what is shown for a character."""
    return "    " if character == "\t" else printable(character)


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in {"W", "F"})
        for each in text
    )
