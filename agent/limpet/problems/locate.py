"""From sentences such as ``mqtt.qos is 3; use 0 or 1`` to problems with line and column.

A sentence begins with the keys that lead to the place. They are looked up in the file, so names with dots in them
are found as well. All sentences of one file are looked up at once.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from limpet import text_file
from limpet.errors import ConfigError, ConfigFileError, Problem
from limpet.problems.positions import Node, positions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_BOUNDARY = re.compile(r"[.:,\[ ]|$")
_INDEX = re.compile(r"\[(\d{1,9})\]")
_MISSING = re.compile(r"[\w-]+(?=[: .,]|$)")
_ABOUT_KEY = re.compile(r": unknown (?:key|table)")
_AT = re.compile(r" \(at line (\d+), column (\d+)\)$")
_AT_END = " (at end of document)"
_TOO_LONG = "Exceeds the limit"
_LONG_NUMBER = re.compile(r"(?<![0-9_])[0-9](?:_?[0-9]){999,}")
_TWICE = ("Cannot overwrite a value", "Cannot declare ")
_KEY = r"(?:[\w-]{1,200}|\"[^\"]{0,200}\"|'[^']{0,200}')"
_NAME = re.compile(rf"[ \t]*(\[)?[ \t]*({_KEY}(?:[ \t]*\.[ \t]*{_KEY}){{0,20}})[ \t]*(?(1)\][ \t]*(?:#|$)|=)")
_LONGEST_NAME = 1000
_SECRET = re.compile(
    r"(?:pass|secret|token|credential)\w*(?<!_file)[\"']?\s*[=:]\s*|://(?=[^/@\s\"']*:[^/@\s\"']*@)", re.IGNORECASE
)
LONGEST_LINE = 10_000
"""Characters of a line that are kept as an excerpt."""


@contextmanager
def in_file(path: Path | str) -> Iterator[None]:
    """Turn a ``ConfigError`` into a ``ConfigFileError`` with places in this file."""
    try:
        yield
    except ConfigFileError:
        raise
    except ConfigError as error:
        raise ConfigFileError(read_and_locate(path, error.problems)) from error


def read_and_locate(path: Path | str, sentences: Iterable[str]) -> list[Problem]:
    """Read a file again and return its problems in its order. They have no place if it cannot be read any more."""
    from pathlib import Path

    try:
        text = text_file.read(Path(path))
    except (OSError, UnicodeDecodeError):
        return [Problem(str(path), sentence) for sentence in sentences]
    return locate(path, text, sentences)


def locate(path: Path | str, text: str, sentences: Iterable[str]) -> list[Problem]:
    """Return the problems of a file in its order. ``text`` is its content, with LF as line ends."""
    root = positions(text)
    starts = _starts(text)
    found = [_problem(str(path), text, starts, root, sentence) for sentence in dict.fromkeys(sentences)]
    return sorted(found, key=lambda problem: (problem.line, problem.column))


def of_syntax(path: Path | str, text: str, reason: str) -> Problem:
    """Return the problem of a text that is not TOML. ``reason`` is the parser's, with line and column."""
    message = f"not TOML: {_AT.sub('', reason).removesuffix(_AT_END)}"
    if reason.startswith(_TOO_LONG):
        number = _LONG_NUMBER.search(text)
        begin = number.start() if number else 0
        line, column = text.count("\n", 0, begin) + 1, begin - text.rfind("\n", 0, begin)
        message = "not TOML: a number has thousands of digits"
    elif at := _AT.search(reason):
        line, column = int(at[1]), int(at[2])
    elif reason.endswith(_AT_END):
        line = text.rstrip().count("\n") + 1
        column = len(text.rstrip().split("\n")[-1]) + 1
    else:
        return Problem(str(path), message, line=1, column=1)
    lines = text.split("\n")
    excerpt = lines[line - 1] if line <= len(lines) else ""
    if reason.startswith(_TWICE) and (name := _NAME.match(excerpt)):
        what = f"the table [{name[2]}]" if name[1] else f"the key {name[2]}"
        length = len(name[2])
        message = f"not TOML: {what} appears twice; write it once"
        return Problem(
            str(path), message[:LONGEST_LINE], (), line, name.start(2) + 1, length, _without_secrets(excerpt)
        )
    return Problem(str(path), message, (), line, column, 1, _without_secrets(excerpt))


def of_encoding(path: Path | str, error: UnicodeDecodeError) -> Problem:
    """Return the problem of a file that is no text."""
    before = error.object[: error.start]
    line = before.count(b"\n") + 1
    column = len(before.rpartition(b"\n")[2].decode(errors="replace")) + 1
    message = f"not TOML: byte 0x{error.object[error.start]:02x} is not {error.encoding.upper()}; save it as UTF-8"
    return Problem(str(path), message, line=line, column=column)


class _Place(NamedTuple):
    """Where a sentence leads. ``about_key``: it is about the name of the key, and not about its value."""

    path: tuple[str | int, ...]
    node: Node
    about_key: bool


def _problem(file: str, text: str, starts: list[int], root: Node, sentence: str) -> Problem:
    place = _find(root, sentence)
    if place.node is root:
        return Problem(file, sentence, place.path, 1, 1)
    span = place.node.key if place.about_key else place.node.value
    number = bisect_right(starts, span.begin)
    start = starts[number - 1]
    end = text.find("\n", start)
    line = text[start : len(text) if end < 0 else end][:LONGEST_LINE]
    length = max(1, min(span.end, start + len(line)) - span.begin)
    if place.about_key and span.end < place.node.value.begin < start + len(line):
        line = f"{line[: place.node.value.begin - start]}..."  # it may be a misspelt password
    return Problem(file, sentence, place.path, number, span.begin - start + 1, length, _without_secrets(line))


def _starts(text: str) -> list[int]:
    """Return where each line of a text starts."""
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _find(root: Node, sentence: str) -> _Place:
    """Return the place that the keys at the beginning of a sentence lead to."""
    node, at = root, 0
    path: list[str | int] = []
    while step := _step(node, sentence, at):
        key, at = step
        path.append(key)
        node = node.children[key]
        if sentence.startswith("[", at):
            continue
        if not sentence.startswith(".", at):
            return _Place(tuple(path), node, _ABOUT_KEY.match(sentence, at) is not None)
        at += 1
    if path and (missing := _MISSING.match(sentence, at)):
        path.append(missing[0])
    return _Place(tuple(path), node, about_key=True)


def _step(node: Node, sentence: str, at: int) -> tuple[str | int, int] | None:
    """Return the key or number at a place of a sentence, and its end; ``None`` if the file has no such key."""
    if index := _INDEX.match(sentence, at):
        return (int(index[1]), index.end()) if int(index[1]) in node.children else None
    longest = sentence[: at + _LONGEST_NAME]
    for boundary in reversed([match.start() for match in _BOUNDARY.finditer(longest, at)]):
        if boundary > at and longest[at:boundary] in node.children:
            return longest[at:boundary], boundary
    return None


def _without_secrets(line: str) -> str:
    """Return a line up to the first password or token in it: logs keep what is printed."""
    if secret := _SECRET.search(line):
        return f"{line[: secret.end()]}..."
    return line[:LONGEST_LINE]
