"""The keys of a configuration's structs, from the code and the string below each field."""

from __future__ import annotations

import ast
import inspect
import re
from functools import singledispatch
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect as kinds

_EXAMPLE = re.compile(r"\s*Example: `(?P<value>.*)`\.$")
_DEFAULT = re.compile(r"\s*Default: (?P<value>.*)\.$")
_HIGHEST = 1 << 24
"""A bound at or above this only keeps a number within 64 bits. It is no news to a person."""


class Key(NamedTuple):
    """A key in Markdown. ``value``: an example in TOML. ``stated``: whether its text has the default."""

    name: str
    type: str
    default: str
    text: str
    value: str
    stated: bool


def keys(struct: type[msgspec.Struct]) -> list[Key]:
    """Return the keys of a struct that have a text, in their order."""
    texts = texts_of(struct)
    fields = msgspec.structs.fields(struct)
    return [_key(field, texts[field.encode_name]) for field in fields if field.encode_name in texts]


def texts_of(struct: type) -> dict[str, str]:
    """Return the strings below the fields of a struct and of its bases."""
    texts: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(base))).body
            texts |= _texts_in(tree)
    return texts


def _texts_in(tree: ast.stmt) -> dict[str, str]:
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        match field, below:
            case (ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text)))):
                texts[name] = " ".join(text.split())
    return texts


def _key(field: Any, text: str) -> Key:
    example = _EXAMPLE.search(text)
    text = _EXAMPLE.sub("", text)
    stated = _DEFAULT.search(text)
    text = _DEFAULT.sub("", text)
    default = "required" if field.required else stated["value"] if stated else _default(field)
    value = example["value"] if example else ""
    return Key(field.encode_name, words(kinds.type_info(field.type)), default, text, value, stated is not None)


def _default(field: Any) -> str:
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        return ""
    return f"`{toml(value)}`" if value or isinstance(value, (bool, int, float)) else "none"


def toml(value: Any) -> str:
    """Return a default in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml(one)}' for key, one in value.items())} }}" if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, (str, Path)):
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)


@singledispatch
def words(_: kinds.Type) -> str:
    """Return a type in words."""
    return "any"


@words.register
def _(kind: kinds.UnionType) -> str:
    return " or ".join(words(one) for one in kind.types if not isinstance(one, kinds.NoneType))


@words.register
def _(kind: kinds.LiteralType) -> str:
    return ", ".join(f"`{toml(value)}`" for value in kind.values)


@words.register
def _(kind: kinds.Metadata) -> str:
    return words(kind.type)


@words.register
def _(kind: kinds.ListType) -> str:
    plural = {"text": "texts", "table": "tables", "any": "values", "path": "paths"}
    item = words(kind.item_type)
    return f"list of {plural.get(item, item.replace('number', 'numbers', 1))}"


@words.register
def _(kind: kinds.IntType) -> str:
    return f"whole number{_bounds(kind)}"


@words.register
def _(kind: kinds.FloatType) -> str:
    return f"number{_bounds(kind)}"


@words.register
def _(_kind: kinds.BoolType) -> str:
    return "`true` or `false`"


@words.register
def _(_kind: kinds.StrType) -> str:
    return "text"


@words.register(kinds.DictType)
@words.register(kinds.StructType)
def _(_kind: kinds.Type) -> str:
    return "table"


@words.register
def _(_kind: kinds.CustomType) -> str:
    return "path"


def _bounds(kind: kinds.IntType | kinds.FloatType) -> str:
    high = kind.le if kind.le is not None else kind.lt
    above = f"at least {kind.ge:g}" if kind.ge is not None else f"above {kind.gt:g}" if kind.gt is not None else ""
    below = "" if high is None or high >= _HIGHEST else f"at most {toml(high)}"
    said = ", ".join(part for part in (above, below) if part)
    return f", {said}" if said else ""
