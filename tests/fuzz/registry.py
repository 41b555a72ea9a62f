"""One way to name a parser: ``@parser("name")`` on a function that prepares it in a folder of its own.

The function returns sound inputs to start from, and what takes an input. ``LimpetError`` says that an input is
refused. Anything else that is raised is a crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Prepared(NamedTuple):
    """``corpus``: sound inputs; ``take``: reads an input."""

    corpus: list[bytes]
    take: Callable[[bytes], object]


PARSERS: dict[str, Callable[[Path], Prepared]] = {}


def parser(name: str) -> Callable[[Callable[[Path], Prepared]], Callable[[Path], Prepared]]:
    """Register what prepares a parser."""

    def register(prepare: Callable[[Path], Prepared]) -> Callable[[Path], Prepared]:
        PARSERS[name] = prepare
        return prepare

    return register
