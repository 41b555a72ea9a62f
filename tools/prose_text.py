"""Sentences of the repository: those of Markdown, of docstrings and comments, and of messages in the code."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from markdown_it.token import Token

_CODE = re.compile(r"``[^`]+``|`[^`]+`")
_LINKS = re.compile(r"<?(?:https?|mqtts?|wss?|ssh)://\S+")
_END = re.compile(r"(?<=[.!?])[)\"']*\s+(?=[\"'(]?[A-Z0-9`_X*]|$)|\n\s*\n|\n\s*(?=[-*] |X\d+  )")
"""The end of a sentence, of a paragraph, of an item or of a row of a table in a docstring."""
_SHELL_FUNCTION = re.compile(r"^\w+\(\) ?\{", re.MULTILINE)
_WORDS = re.compile(r"[A-Za-zÀ-ÿ0-9][\w'.\-/]*")
_DIRECTIVES = re.compile(r"#\s*(?:noqa|type:|pragma|fmt:|!|:|\w+ = |-\*-)")


class Text(NamedTuple):
    """A piece of prose without its code. ``kind`` is ``page``, ``docstring``, ``comment`` or ``message``."""

    path: Path
    line: int
    kind: str
    text: str


def texts_of(path: Path) -> list[Text]:
    """Return the prose of a file."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        found = [*_of_markdown(path, content)]
    elif path.suffix == ".py":
        found = [*_of_strings(path, content), *_of_comments(path, content)]
    else:
        found = [
            Text(path, number, "comment", plain(line.lstrip("#; ")))
            for number, line in enumerate(content.splitlines(), 1)
            if line.lstrip().startswith("#")
        ]
    return [text for text in found if text.text.strip()]


def sentences(text: str) -> list[str]:
    """Return the sentences of a text."""
    return [one.strip() for one in _END.split(text) if one and one.strip()]


def count_words(sentence: str) -> int:
    """Return how many words a sentence has. A piece of code is one word."""
    return len(_WORDS.findall(sentence))


def plain(text: str) -> str:
    """Return a text with a word in place of each piece of code and each address, another one each time."""
    numbers = count(1)
    return _CODE.sub(lambda _: f"X{next(numbers)}", _LINKS.sub("`x`", text))


def _of_markdown(path: Path, content: str) -> Iterator[Text]:
    for token in MarkdownIt("commonmark").enable("table").parse(content):
        if token.type == "inline" and token.map and token.children:
            yield Text(path, token.map[0] + 1, "page", plain(_inline(token.children)))


def _inline(children: list[Token]) -> str:
    parts = []
    for child in children:
        if child.type == "code_inline":
            parts.append("`x`")
        elif child.type in {"softbreak", "hardbreak"}:
            parts.append(" ")
        elif child.type == "text":
            parts.append(child.content)
    return "".join(parts)


def _of_strings(path: Path, content: str) -> Iterator[Text]:
    inner: set[int] = set()
    """Nodes that are done: docstrings, parts of longer strings, and strings that are no prose."""
    for node in ast.walk(ast.parse(content)):
        if id(node) in inner:
            continue
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                inner.add(id(node.value))
                yield Text(path, node.lineno, "docstring", plain(_outside_of_blocks(text)))
            case ast.JoinedStr():
                inner.update(id(part) for part in ast.walk(node) if part is not node)
                parts = (part.value if isinstance(part, ast.Constant) else "`x`" for part in node.values)
                yield from _message(path, node.lineno, "".join(map(str, parts)))
            case ast.Constant(value=str(text)):
                yield from _message(path, node.lineno, text)
            case ast.Call():
                inner.update(map(id, _no_prose(node)))


def _outside_of_blocks(text: str) -> str:
    """Leave out blocks of code: lines that are indented after a line that ends with two colons."""
    kept, block = [], False
    for line in text.splitlines():
        if line.rstrip().endswith("::"):
            block = True
        elif block and line.strip() and not line.startswith("        "):
            block = False
        if not block:
            kept.append(line)
        elif line.rstrip().endswith("::"):
            kept += [line, ""]
    return "\n".join(kept)


def _no_prose(node: ast.Call) -> list[ast.expr]:
    """Return the strings of a call that are lists of words or regular expressions."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Constant() as words, attr="split")):
            return [words]
        case ast.Call(func=ast.Attribute(value=ast.Name(id="re")), args=[ast.Constant() as pattern, *_]):
            return [pattern]
    return []


def _is_program(text: str) -> bool:
    """Return whether a string is a program, which another interpreter runs: in Python, or for a shell."""
    if _SHELL_FUNCTION.search(text):
        return True
    if "import " not in text:
        return False
    try:
        return any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(text).body)
    except SyntaxError:
        return False


def _message(path: Path, line: int, text: str) -> Iterator[Text]:
    if len(text.split()) >= 4 and re.search(r"[a-z]{2} [a-z]{2}", text) and not _is_program(text):
        yield Text(path, line, "message", plain(text))


def _of_comments(path: Path, content: str) -> Iterator[Text]:
    begin, last, lines = 0, -1, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type != tokenize.COMMENT or _DIRECTIVES.match(token.string):
            continue
        if token.start[0] != last + 1 and lines:
            yield Text(path, begin, "comment", plain(" ".join(lines)))
            lines = []
        begin, last = (token.start[0] if not lines else begin), token.start[0]
        lines.append(token.string.lstrip("#: ").rstrip())
    if lines:
        yield Text(path, begin, "comment", plain(" ".join(lines)))
