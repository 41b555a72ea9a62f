"""From a table of TOML to the struct that has its keys, with every problem found at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from limpet.errors import ConfigError
from limpet.wording import below, suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=msgspec.Struct)


def fill(kind: type[S], table: Mapping[str, Any], where: str, base: Path, problems: list[str]) -> S | None:
    """Build the struct ``kind`` from a table, adding whatever is wrong to ``problems``; ``None`` if it was.

    Unlike ``msgspec.convert`` it does not stop at the first problem, and names the key that was meant. A field
    of type ``Path`` starts at ``base``.
    """
    before = len(problems)
    values = values_of(kind, table, where, base, problems)
    if len(problems) > before:
        return None
    try:
        return kind(**values)
    except ConfigError as error:
        reasons = error.problems
    except ValueError as error:
        reasons = (str(error),)
    problems += [below(where, reason, kind.__struct_encode_fields__) for reason in reasons]
    return None


def fill_partly(kind: type[S], table: Mapping[str, Any], base: Path) -> S | None:
    """Return the struct ``kind`` with the keys of a table that are right; ``None`` if they are not enough."""
    try:
        return kind(**values_of(kind, table, "", base, []))
    except (TypeError, ValueError):
        return None


def values_of(
    kind: type[S], table: Mapping[str, Any], where: str, base: Path, problems: list[str]
) -> dict[str, Any]:
    """Return the values of the keys that are right, and add what is wrong with the others to ``problems``."""

    def locate(wanted: type, value: Any) -> Any:
        if wanted is Path and isinstance(value, str):
            return base / Path(value).expanduser()
        raise ValueError("use a path in quotes")

    def convert(value: Any, wanted: Any) -> Any:
        try:
            return msgspec.convert(value, wanted, dec_hook=locate)
        except msgspec.ValidationError:
            raise
        except ValueError as error:  # Python refuses to write a number of thousands of digits
            raise msgspec.ValidationError("the number is too long") from error

    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    problems.extend(f"{where}.{key}: unknown key{suggest(key, fields)}" for key in table if key not in fields)
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in table:
            try:
                values[field.name] = convert(table[key], field.type)
            except (msgspec.ValidationError, RecursionError):
                problems += form().problems_of(table[key], field.type, f"{where}.{key}", convert)
        elif field.required:
            problems.append(form().missing(field.type, f"{where}.{key}"))
    return values


def form() -> Any:
    """Import what finds words for a problem: where all is well, it costs no memory."""
    from limpet.problems import form

    return form
