"""Values of command-line options: numbers, names, and what stands for tables of the configuration."""

from __future__ import annotations

import argparse
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.errors import ConfigError
from limpet.filling import fill

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH = re.compile(r"(\d+)|(\d+(?:\.\d+)?|\.\d+)\s*(ms|s)")


def positive(text: str) -> float:
    """Return a number above 0, for argparse."""
    with suppress(ValueError):
        if 0 < (number := float(text)) <= 1e9:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


def count(text: str) -> int:
    """Return a whole number above 0, for argparse."""
    with suppress(ValueError):
        if (number := int(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")


def names(text: str) -> tuple[str, ...]:
    """Return different names with commas between them, for argparse."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different names with commas between them")
    return found


def filled(kind: type[Any], table: dict[str, Any], where: str = "--") -> Any:
    """Return a struct made of options. ``ConfigError`` names the option that is wrong, after ``where``."""
    problems: list[str] = []
    made = fill(kind, table, "--", Path.cwd(), problems)
    if made is None:
        raise ConfigError([problem.replace("--.", where) for problem in problems])
    return made


def window(length: str | None, hop: str | None) -> dict[str, Any]:
    """Return the table of a window, empty if both options are missing. ``ConfigError``."""
    if hop is not None and length is None:
        raise ConfigError(["--hop: goes with --window"])
    table = _length(length, "--window", ("size", "seconds")) if length else {}
    return table | (_length(hop, "--hop", ("hop", "hop_seconds")) if hop else {})


def _length(text: str, flag: str, keys: Sequence[str]) -> dict[str, Any]:
    match = _LENGTH.fullmatch(text.strip())
    if match is None:
        raise ConfigError([f"{flag}: {text!r}: give samples, as 128, or time, as 2s or 500ms"])
    samples, number, unit = match.groups()
    if samples:
        return {keys[0]: int(samples)}
    return {keys[1]: float(number) / (1000 if unit == "ms" else 1)}


def toml(text: str, flag: str) -> Any:
    """Return a value written in TOML. ``ConfigError``."""
    try:
        return msgspec.toml.decode(f"value = {text}".encode())["value"]
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ConfigError([f"{flag}: {text[:80]!r} is not TOML: {error}"]) from error


def decoder(text: str) -> Any:
    """Return a decoder's table; its kind alone stands for a table with no more. ``ConfigError``."""
    return {"kind": text} if re.fullmatch(r"[\w-]+", text) else toml(text, "--decoder")
