"""Outputs and messages as flat named values, for dialects that have tags or entities."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind: TypeAlias = Literal["number", "text", "flag"]
Value: TypeAlias = float | str | bool | None

DEPTH = 6
"""Mappings that are nested deeper become JSON text."""
LONGEST_PATH = 256
"""Characters of a path. Values with a longer one are left out, as a message has it several times."""
LONGEST_UNIT = 32
"""Characters of a unit. A longer one is left out."""

PICTURE = "mask/png"
"""The path of a picture as base64, which is no field: it is in the results of the dialects json and msgpack."""


def output(content: Any) -> tuple[list[tuple[str, Any]], dict[str, str]]:
    """Return the values of a result's output by path, such as ``values/pressure``, and the units of some.

    Units are what ``regress`` gives: a mapping ``units`` beside a mapping ``values``.
    """
    content = msgspec.to_builtins(content)
    units: Mapping[str, Any] = {}
    if isinstance(content, dict) and isinstance(content.get("values"), dict):
        named = content.get("units")
        if isinstance(named, dict):
            units = named
            content = {key: value for key, value in content.items() if key != "units"}
    by_path = {
        f"values/{name}": unit
        for name, unit in units.items()
        if isinstance(unit, str) and len(unit) <= LONGEST_UNIT
    }
    return [(path, value) for path, value in flatten(content) if path != PICTURE], by_path


def flatten(content: Any, path: str = "", depth: int = DEPTH) -> Iterator[tuple[str, Any]]:
    """Yield what is in mappings by path; a list is one value. What has too long a path is left out."""
    if isinstance(content, Mapping) and depth:
        for key, value in content.items():
            longer = f"{path}/{key}" if path else str(key)
            if len(longer) <= LONGEST_PATH:
                yield from flatten(value, longer, depth - 1)
    else:
        yield path or "value", content


class Known:
    """The paths seen so far, at most ``limit``, and the kind of each. The first value that is not null decides."""

    def __init__(self, limit: int) -> None:
        self.kinds: dict[str, Kind] = {}
        self._limit = limit

    def forget(self, beginning: str) -> None:
        """Forget the paths that begin so: others can take their places."""
        self.kinds = {path: kind for path, kind in self.kinds.items() if not path.startswith(beginning)}

    def take(self, values: Iterable[tuple[str, Any]], *, learn: bool = True) -> dict[str, Value]:
        """Return the values of known paths. A value of another kind than its path has becomes null.

        ``learn``: whether paths that are new become known.
        """
        fitted: dict[str, Value] = {}
        for path, value in values:
            if learn and path not in self.kinds and len(self.kinds) < self._limit and (kind := _kind(value)):
                self.kinds[path] = kind
            if path in self.kinds:
                fitted[path] = _fit(self.kinds[path], value)
        return fitted


def _kind(value: Any) -> Kind | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "flag"
    return "number" if isinstance(value, int | float) else "text"


def _fit(kind: Kind, value: Any) -> Value:
    if value is None:
        return None
    if kind == "text":
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if kind == "flag":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isfinite(value) else None
