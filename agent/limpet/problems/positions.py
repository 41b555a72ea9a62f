"""Where keys and values are in a TOML file.

No parser for Python gives positions. This one reads only texts that a real parser has accepted, so it has no rules
about what is valid. It finds where keys, values and tables begin and end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")|\'\'\'.*?\'{3,5}(?!\')|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\", "e": "\x1b"}
DEEPEST = 200
"""Lists and tables inside one another; nothing that is deeper has its own position."""


class Span(NamedTuple):
    """Characters ``begin`` to ``end`` of a text."""

    begin: int
    end: int


@dataclass
class Node:
    """A key or an entry of a list: where its name is, where its value is, and what is inside.

    A table has its header as both. An entry of a list has no name: its value stands for it.
    """

    key: Span
    value: Span
    children: dict[str | int, Node] = field(default_factory=dict)


def positions(text: str) -> Node:
    """Return a node for the whole file. ``text`` must be valid TOML, with LF as line ends.

    Positions of an invalid text are those of the part before the mistake, or are wrong; nothing is raised.
    """
    root = Node(Span(0, 0), Span(0, 0))
    reader = _Reader(text)
    table = root
    while (at := reader.skip(_BLANK_LINES)) < len(text):
        if text[at] == "[":
            table = reader.header(root)
        else:
            reader.pair(table, 0)
        if reader.at <= at:
            break
    return root


class _Reader:
    """A text and the place up to which it is read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def skip(self, what: re.Pattern[str]) -> int:
        """Go behind what is there, which may be nothing, and return the place."""
        match = what.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.at

    def header(self, root: Node) -> Node:
        """Read ``[a.b]`` or ``[[a.b]]`` and return the table that it begins."""
        repeats = self.text.startswith("[[", self.at)
        self.at += 2 if repeats else 1
        keys = self.keys()
        whole = Span(keys[0][1].begin, keys[-1][1].end) if keys else Span(self.at, self.at)
        table = root
        for name, _ in keys[:-1]:
            table = _last(table.children.setdefault(name, Node(whole, whole)))
        for name, _ in keys[-1:]:
            found = table.children.setdefault(name, Node(whole, whole))
            if repeats:
                entry = Node(whole, whole)
                found.children[len(found.children)] = entry
                found = entry
            found.key = found.value = whole
            table = found
        self.skip(_BLANK)
        self.at += len("]]") if repeats else len("]")
        return table

    def keys(self) -> list[tuple[str, Span]]:
        """Read ``a."b".c`` and return each name with its place."""
        found = []
        while True:
            begin = self.skip(_BLANK)
            quoted = self.text[begin : begin + 1] in {'"', "'"}
            end = self.skip(_STRING if quoted else _BARE_KEY)
            name = self.text[begin:end]
            found.append((_unquoted(name) if quoted else name, Span(begin, end)))
            self.skip(_BLANK)
            if end == begin or not self.text.startswith(".", self.at):
                return found
            self.at += 1

    def pair(self, table: Node, depth: int) -> None:
        """Read ``key = value`` into a table."""
        keys = self.keys()
        self.skip(_BLANK)
        self.at += 1
        for name, place in keys[:-1]:
            table = table.children.setdefault(name, Node(place, place))
        name, place = keys[-1]
        node = table.children[name] = Node(place, place)
        self.value(node, depth)

    def value(self, node: Node, depth: int) -> None:
        """Read a value into its node."""
        begin = self.skip(_BLANK)
        first = self.text[begin : begin + 1]
        if first in {"[", "{"} and depth < DEEPEST:
            self.at += 1
            self._entries(node, depth + 1, "]" if first == "[" else "}")
        elif first in {'"', "'"}:
            self.skip(_STRING)
        else:
            self.skip(_SCALAR)
        end = begin + len(self.text[begin : self.at].rstrip())
        node.value = Span(begin, end)

    def _entries(self, node: Node, depth: int, closing: str) -> None:
        """Read the entries of a list or of an inline table, and the bracket behind them."""
        while (at := self.skip(_BLANK_LINES)) < len(self.text) and self.text[at] != closing:
            if closing == "}":
                self.pair(node, depth)
            else:
                entry = node.children[len(node.children)] = Node(Span(at, at), Span(at, at))
                self.value(entry, depth)
                entry.key = entry.value
            self.skip(_BLANK_LINES)
            if self.text.startswith(",", self.at):
                self.at += 1
            if self.at <= at:
                return
        self.at += 1


def _last(table: Node) -> Node:
    """Return the table that ``[a.b]`` means by ``a``: the last one if there are several ``[[a]]``."""
    number = len(table.children) - 1
    return table.children.get(number, table)


def _unquoted(name: str) -> str:
    """Return the key that a quoted word means."""
    if name.startswith("'"):
        return name[1:-1]
    return _ESCAPE.sub(_character, name[1:-1])


def _character(escape: re.Match[str]) -> str:
    word = escape[1]
    if len(word) > 1:
        number = int(word[1:], 16)
        return chr(number) if number < 0x110000 else "?"
    return _ESCAPES.get(word, word)
