"""What is wrong with the form of a value, as sentences: ``mqtt.qos is 3; use 0 or 1``.

msgspec decides what is right. Only if it refuses a value, this module finds the wrong places inside the value. For
each it says what the type accepts.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect

from limpet.problems.allowed import LISTS, TABLES, choices, shown, takes, takes_null, unwrapped, usable, words
from limpet.wording import below, joined, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Converter = Callable[[Any, Any], Any]

MOST = 50
"""Places in one value that are reported."""
_DEEPEST = 50


def problems_of(value: Any, kind: Any, where: str, convert: Converter) -> list[str]:
    """Return what is wrong with a value that msgspec refuses as ``kind``: at least one sentence.

    ``where`` has the keys that lead to the value. ``convert`` calls ``msgspec.convert`` with a value and a type.
    """
    info = inspect.type_info(kind)
    found = list(islice(_of_value(value, info, where, convert), MOST))
    return found or [f"{where} cannot be read; use {usable(info, value)}, as the documentation shows"]


def of_json(data: bytes, kind: Any, where: str) -> str:
    """Return in one line what is wrong with JSON that msgspec refuses as ``kind``.

    ``msgspec.DecodeError`` if it is no JSON.
    """
    return joined(problems_of(msgspec.json.decode(data), kind, where, msgspec.convert))


def missing(kind: Any, where: str) -> str:
    """Return that a key is missing, and what it takes."""
    return f"{where} is missing; use {usable(inspect.type_info(kind))}"


def wrong(value: Any, info: inspect.Type, where: str) -> str:
    """Return that a value is wrong as a whole, and what to use instead."""
    hint = suggest(value, words(info)) if isinstance(value, str) else ""
    return f"{where} is {shown(value)}; use {usable(info, value)}{hint if 'did you mean' in hint else ''}"


def _of_value(value: Any, info: inspect.Type, where: str, convert: Converter) -> Iterator[str]:
    """Yield what is wrong with a value, and with what is in it."""
    plain = [unwrapped(one) for one in choices(info)]
    if not plain or any(takes(one, value) for one in plain) or (value is None and takes_null(info)):
        return
    inner = TABLES if isinstance(value, dict) else LISTS if isinstance(value, list) else ()
    fitting: list[Any] = [one for one in plain if isinstance(one, inner)]
    if len(fitting) != 1:
        yield wrong(value, info, where)
    elif where.count(".") + where.count("[") > _DEEPEST:
        yield f"{where} has lists or tables that are nested too deeply"
    elif isinstance(value, dict):
        yield from _of_table(value, fitting[0], where, convert)
    else:
        yield from _of_list(value, fitting[0], where, convert)


def _of_list(value: list[Any], info: Any, where: str, convert: Converter) -> Iterator[str]:
    if isinstance(info, inspect.TupleType):
        items = info.item_types
        fits = len(value) == len(items)
    else:
        items = (info.item_type,) * len(value)
        fits = (info.min_length or 0) <= len(value) <= (info.max_length or len(value))
    if not fits:
        yield wrong(value, info, where)
        return
    for number, (entry, item) in enumerate(zip(value, items, strict=True)):
        yield from _of_value(entry, item, f"{where}[{number}]", convert)


def _of_table(value: dict[str, Any], info: Any, where: str, convert: Converter) -> Iterator[str]:
    if isinstance(info, inspect.DictType):
        names = [unwrapped(one) for one in choices(info.key_type)]
        for key, entry in value.items():
            if names and not any(takes(name, key) for name in names):
                yield f"{where}.{key}: unknown key; use {usable(info.key_type)}"
            yield from _of_value(entry, info.value_type, f"{where}.{key}", convert)
        return
    fields = {field.encode_name: field for field in info.fields}
    found = False
    for problem in _of_fields(value, info, fields, where, convert):
        found = True
        yield problem
    if not found and (reason := _refusal(value, info.cls, convert)):
        yield below(where, reason, fields)


def _of_fields(
    value: dict[str, Any], info: Any, fields: dict[str, Any], where: str, convert: Converter
) -> Iterator[str]:
    """Yield what is wrong with each key of a table."""
    if isinstance(info, inspect.StructType) and info.forbid_unknown_fields:
        for key in value:
            if key not in fields:
                yield f"{where}.{key}: unknown key{suggest(key, fields)}"
    for key, field in fields.items():
        if key in value:
            yield from _of_value(value[key], field.type, f"{where}.{key}", convert)
        elif field.required:
            yield f"{where}.{key} is missing; use {usable(field.type)}"


def _refusal(value: dict[str, Any], kind: Any, convert: Converter) -> str:
    """Return why a struct refuses keys that are right one by one."""
    try:
        convert(value, kind)
    except msgspec.ValidationError as error:
        return str(error).partition(" - at `$")[0]
    return ""
