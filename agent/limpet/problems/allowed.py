"""What a type of a key takes, in words: ``a whole number from 1 to 65535``, and a value in short."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import inspect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST_VALUE = 60
"""Characters of a value that are shown."""
_UNLIMITED = 1e9
"""A bound from here on only protects memory. It is left out of a sentence unless a value exceeds it."""

Number: TypeAlias = inspect.IntType | inspect.FloatType
LISTS = (
    inspect.ListType,
    inspect.VarTupleType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.CollectionType,
    inspect.TupleType,
)
TABLES = (inspect.StructType, inspect.DictType, inspect.TypedDictType, inspect.DataclassType)


def usable(info: inspect.Type, value: Any = None) -> str:
    """Return what a type takes instead of a value, for a sentence that begins with "use"."""
    alternatives = list(choices(info))
    texts = list(dict.fromkeys(_texts(alternatives, value)))
    if not texts:
        return "another value"
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def takes(info: inspect.Type, value: Any) -> bool:
    """Whether a type takes a value that is neither a list nor a table."""
    plain = unwrapped(info)
    rule = _RULES.get(type(plain))
    return rule is not None and rule(plain, value)


def takes_null(info: inspect.Type) -> bool:
    """Whether a type takes JSON's null."""
    plain = unwrapped(info)
    return isinstance(plain, inspect.NoneType) or (
        isinstance(plain, inspect.UnionType) and any(takes_null(one) for one in plain.types)
    )


def words(info: inspect.Type) -> list[str]:
    """Return the words that a type takes."""
    return [word for one in choices(info) for word in _members(one) if isinstance(word, str)]


def choices(info: inspect.Type) -> Iterator[inspect.Type]:
    """Yield what a type may be; without ``None``, which TOML cannot write."""
    if isinstance(info, inspect.UnionType):
        for one in info.types:
            yield from choices(one)
    elif isinstance(info, inspect.Metadata) and isinstance(info.type, inspect.UnionType):
        yield from choices(info.type)
    elif not isinstance(info, inspect.NoneType | inspect.AnyType):
        yield info


def unwrapped(info: inspect.Type) -> inspect.Type:
    """Return a type without what was added for documentation."""
    return unwrapped(info.type) if isinstance(info, inspect.Metadata) else info


def shown(value: Any) -> str:
    """Return a value as it would stand in a TOML file, in short."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        quoted = json.dumps(value[: LONGEST_VALUE + 1], ensure_ascii=False)
        return quoted if len(quoted) <= LONGEST_VALUE else f'{quoted[:LONGEST_VALUE]}..."'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an empty list" if not value else f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) >= 1 << 200:
        return "a number of more than 60 digits"  # Python refuses to write more than 4300 digits
    return str(value)[:LONGEST_VALUE]


def _texts(alternatives: list[inspect.Type], value: Any) -> Iterator[str]:
    has_float = any(isinstance(unwrapped(one), inspect.FloatType) for one in alternatives)
    for one in alternatives:
        plain = unwrapped(one)
        if isinstance(plain, inspect.IntType) and has_float:
            continue  # "a number" includes it
        if members := _members(plain):
            yield from map(shown, members)
        elif isinstance(one, inspect.Metadata) and one.extra and "use" in one.extra:
            yield str(one.extra["use"])
        else:
            yield _TEXTS.get(type(plain), _fixed("another value"))(plain, value)


def _members(info: inspect.Type) -> tuple[Any, ...]:
    """Return the values of a type that has a few."""
    if isinstance(info, inspect.EnumType):
        return tuple(member.value for member in info.cls)
    return info.values if isinstance(info, inspect.LiteralType) else ()


def _number(info: Number, value: Any) -> str:
    kind = "a whole number" if isinstance(info, inspect.IntType) else "a number"
    shown_bounds = [bound for bound in (info.lt, info.le) if bound is None or _matters(bound, value)]
    high = next((bound for bound in shown_bounds if bound is not None), None)
    if info.ge is not None and info.gt is None and info.lt is None and high is not None:
        return f"{kind} from {_figure(info.ge)} to {_figure(high)}"
    bounds = [
        *([f"above {_figure(info.gt)}"] if info.gt is not None else []),
        *([f"of at least {_figure(info.ge)}"] if info.ge is not None else []),
        *([f"{'below' if info.lt is not None else 'at most'} {_figure(high)}"] if high is not None else []),
        *([f"a multiple of {_figure(info.multiple_of)}"] if info.multiple_of else []),
    ]
    return " and ".join([f"{kind} {bounds[0]}", *bounds[1:]]) if bounds else kind


def _matters(bound: float, value: Any) -> bool:
    """Whether a sentence about a value names its upper bound."""
    return bound < _UNLIMITED or (isinstance(value, int | float) and value > bound)


def _figure(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


def _text(info: inspect.StrType, _: Any) -> str:
    if info.pattern is not None:
        return "text in quotes, in the form that the documentation shows"
    return f"text in quotes{_length(info, 'character')}"


def _list(info: Any, _: Any) -> str:
    if isinstance(info, inspect.TupleType):
        return f"a list of {len(info.item_types)}"
    kinds = {type(unwrapped(one)) for one in choices(info.item_type)}
    entries = example = ""
    if kinds and kinds <= {inspect.IntType, inspect.FloatType}:
        entries, example = " of numbers", ", such as [1, 2]"
    elif kinds == {inspect.StrType}:
        entries, example = " of texts", ', such as ["a", "b"]'
    elif kinds and kinds <= set(TABLES):
        entries = " of tables"
    elif kinds and kinds <= {inspect.LiteralType, inspect.EnumType}:
        entries = f" of {usable(info.item_type)}"
    return f"a list{entries}{_length(info, 'entry')}{example}"


def _length(info: Any, unit: str) -> str:
    """Return the length that is allowed, after "a list" or "text in quotes"."""
    least, most = info.min_length, info.max_length
    units = "entries" if unit == "entry" else f"{unit}s"
    if least and most is not None:
        return f" with {least} to {most} {units}"
    if least:
        return f" with at least {least} {unit if least == 1 else units}"
    return f" with at most {most} {units}" if most is not None else ""


def _custom(info: inspect.CustomType, _: Any) -> str:
    return "a path in quotes" if issubclass(info.cls, Path) else "another value"


def _fixed(text: str) -> Callable[[Any, Any], str]:
    def describe(_info: Any, _value: Any) -> str:
        return text

    return describe


_TEXTS: dict[type[inspect.Type], Callable[[Any, Any], str]] = {
    inspect.BoolType: _fixed("true or false"),
    inspect.IntType: _number,
    inspect.FloatType: _number,
    inspect.StrType: _text,
    inspect.DateTimeType: _fixed("a date with a time"),
    inspect.DateType: _fixed("a date"),
    inspect.TimeType: _fixed("a time of day"),
    inspect.CustomType: _custom,
    inspect.BytesType: _fixed("base64 text in quotes"),
    **dict.fromkeys(LISTS, _list),
    **dict.fromkeys(TABLES, _fixed("a table")),
}


def _takes_number(info: Number, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if isinstance(info, inspect.IntType) else int | float):
        return False
    within = (
        info.gt is None or value > info.gt,
        info.ge is None or value >= info.ge,
        info.lt is None or value < info.lt,
        info.le is None or value <= info.le,
    )
    try:
        return all(within) and not math.isnan(value)
    except OverflowError:  # more digits than a float can have
        return False


def _takes_text(info: inspect.StrType, value: Any) -> bool:
    if not isinstance(value, str) or len(value) < (info.min_length or 0):
        return False
    short = info.max_length is None or len(value) <= info.max_length
    return short and (info.pattern is None or re.search(info.pattern, value) is not None)


def _takes_member(info: inspect.Type, value: Any) -> bool:
    return any(value == one and type(value) is type(one) for one in _members(info))


def _takes_base64(_: inspect.BytesType, value: Any) -> bool:
    try:
        return isinstance(value, str) and base64.b64decode(value, validate=True) is not None
    except ValueError:
        return False


_RULES: dict[type[inspect.Type], Callable[[Any, Any], bool]] = {
    inspect.BoolType: lambda _, value: isinstance(value, bool),
    inspect.IntType: _takes_number,
    inspect.FloatType: _takes_number,
    inspect.StrType: _takes_text,
    inspect.LiteralType: _takes_member,
    inspect.EnumType: _takes_member,
    inspect.DateTimeType: lambda _, value: isinstance(value, dt.datetime),
    inspect.DateType: lambda _, value: isinstance(value, dt.date),
    inspect.TimeType: lambda _, value: isinstance(value, dt.time),
    inspect.BytesType: _takes_base64,
    inspect.CustomType: lambda info, value: issubclass(info.cls, Path) and isinstance(value, str),
}
