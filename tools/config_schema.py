"""The JSON Schemas of ``limpet.toml`` and ``convert.toml``, with descriptions and examples for editors."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect as kinds

from config_keys import Key, keys
from limpet import config, plugins, tables
from limpet.contracts.assignment import DelegateTable, SourceTable
from limpet.contracts.fields import NAME_PATTERN
from limpet.plugins import built_in
from limpet_convert import project
from limpet_convert.converters import coreml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.plugins import Group

DIALECT = "http://json-schema.org/draft-07/schema#"
"""What SchemaStore and the editors' TOML extensions read."""
_NOTES = ("description", "default", "examples")
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def limpet_toml() -> Any:
    """Return the schema of the agent's configuration."""
    reporters = {"mqtt": {"dialects": _dialects()}}
    waiting = schema(SourceTable)["properties"]
    framing = {"serial": {"framing": _framing()}}
    properties = {
        "device": schema(config.Device),
        **{kind: schema(_config("reporters", kind), reporters.get(kind)) for kind in config.SHORT_REPORTERS},
        "reporters": _named(_by_kind("reporters", reporters), "Where results go, by name."),
        "sources": _named(_by_kind("sources", framing, waiting), "Sensors, by name."),
        "pipelines": _named(schema(config.PipelineConfig, _stages()), "Models on sources, by name."),
        "delegates": _named(schema(DelegateTable), "What names in the delegates of pipelines mean."),
        "governor": schema(config.GovernorTable),
        "trust": schema(tables.TrustTable),
        "updates": schema(tables.UpdatesTable),
        "api": schema(tables.ApiTable),
    }
    whole = _object(properties, ("device", "pipelines", "sources"), "Configuration of Limpet.")
    return {"$schema": DIALECT, "title": "limpet.toml", **whole}


def convert_toml() -> Any:
    """Return the schema of a converter's project file."""
    stages = {name: part for name, part in _stages().items() if name != "runtime"}
    properties = {name: schema(struct) for name, struct in project.TABLES.items()}
    properties |= {"bundle": schema(project.Bundle, stages), "coreml": schema(coreml.Config)}
    whole = _object(properties, project.REQUIRED, "A model, and how it becomes a bundle.")
    return {"$schema": DIALECT, "title": "convert.toml", **whole}


def schema(struct: type[msgspec.Struct], more: Mapping[str, Any] | None = None) -> Any:
    """Return the schema of a table. ``more``: properties in place of those of the struct, or beside them."""
    described = keys(struct)
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    properties = {key.name: _described(key, fields[key.name]) for key in described}
    for name, part in (more or {}).items():
        notes = {note: value for note, value in properties.get(name, {}).items() if note in _NOTES}
        properties[name] = {**notes, **part}
    required = [key.name for key in described if fields[key.name].required]
    return _object(properties, required, struct.__doc__)


def _config(group: Group, kind: str) -> type[msgspec.Struct]:
    found: type[msgspec.Struct] = plugins.load(group, kind).Config
    return found


def _object(properties: Any, required: Sequence[str] = (), text: str | None = None) -> Any:
    made = {"type": "object", "properties": properties, "additionalProperties": False}
    made |= {"required": sorted(required)} if required else {}
    return {"description": " ".join(text.split("\n\n")[0].replace("``", "`").split()), **made} if text else made


def _described(key: Key, field: Any) -> Any:
    text = f"{key.text} Default: {key.default}." if key.stated else key.text
    made = {"description": text, **_typed(kinds.type_info(field.type))}
    if field.default is not msgspec.NODEFAULT and field.default not in (None, ""):
        made["default"] = msgspec.to_builtins(field.default, enc_hook=str)
    if key.value:
        made["examples"] = [msgspec.toml.decode(f"value = {key.value}")["value"]]
    return made


@singledispatch
def _typed(_kind: kinds.Type) -> Any:
    """Return the schema of a type. Structs stand in it whole."""
    return {}


@_typed.register
def _(kind: kinds.UnionType) -> Any:
    options = [_typed(one) for one in kind.types if not isinstance(one, kinds.NoneType)]
    return options[0] if len(options) == 1 else {"anyOf": options}


@_typed.register
def _(kind: kinds.LiteralType) -> Any:
    return {"enum": list(kind.values)}


@_typed.register
def _(kind: kinds.Metadata) -> Any:
    return _typed(kind.type)


@_typed.register
def _(kind: kinds.StructType) -> Any:
    return schema(kind.cls)


@_typed.register
def _(kind: kinds.DictType) -> Any:
    return {"type": "object", "additionalProperties": _typed(kind.value_type)}


@_typed.register
def _(kind: kinds.ListType) -> Any:
    bounds = {"minItems": kind.min_length} if kind.min_length else {}
    return {"type": "array", "items": _typed(kind.item_type), **bounds}


@_typed.register
def _(_kind: kinds.BoolType) -> Any:
    return {"type": "boolean"}


@_typed.register
def _(_kind: kinds.CustomType) -> Any:
    return {"type": "string"}


@_typed.register
def _(kind: kinds.StrType) -> Any:
    bounds = {"minLength": kind.min_length, "maxLength": kind.max_length, "pattern": _pattern(kind.pattern)}
    return {"type": "string", **{name: value for name, value in bounds.items() if value is not None}}


@_typed.register(kinds.IntType)
@_typed.register(kinds.FloatType)
def _(kind: kinds.IntType | kinds.FloatType) -> Any:
    values = {"ge": kind.ge, "gt": kind.gt, "le": kind.le, "lt": kind.lt}
    bounds = {_BOUNDS[name]: value for name, value in values.items() if value is not None}
    return {"type": "integer" if isinstance(kind, kinds.IntType) else "number", **bounds}


def _pattern(pattern: str | None) -> str | None:
    """Return a pattern as JavaScript has it."""
    return None if pattern is None else pattern.replace(r"\Z", "$")


# --- tables whose keys depend on a plugin


def _by_kind(group: Group, more: Mapping[str, Any], shared: Mapping[str, Any] | None = None) -> Any:
    """Return the schema of a table whose ``kind`` names a plugin. One of another package may have any keys."""
    names = sorted(built_in(group))
    kind = {"description": "The plugin.", "anyOf": [{"enum": names}, {"type": "string"}]}
    known = {name: {"kind": {"const": name}, **(shared or {}), **more.get(name, {})} for name in names}
    rules = [
        {
            "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
            "then": schema(_config(group, name), properties),
        }
        for name, properties in known.items()
    ]
    return {"type": "object", "properties": {"kind": kind, **(shared or {})}, "required": ["kind"], "allOf": rules}


def _named(part: Any, text: str) -> Any:
    """Return the schema of a table of tables, by names that a person chooses."""
    names = {"pattern": _pattern(NAME_PATTERN)}
    return {"description": text, "type": "object", "propertyNames": names, "additionalProperties": part}


def _framing() -> Any:
    names = {"anyOf": [{"enum": sorted(built_in("framings"))}, {"type": "string"}]}
    return {"if": {"type": "string"}, "then": names, "else": _by_kind("framings", {})}


def _dialects() -> Any:
    dialects = {name: schema(_config("dialects", name)) for name in sorted(built_in("dialects"))}
    return {"type": "object", "properties": dialects, "additionalProperties": {"type": "object"}}


def _stages() -> dict[str, Any]:
    runtimes: dict[str, Any] = {}
    for name in ("tflite", "coreml"):
        runtimes |= schema(_config("runtimes", name))["properties"]
    return {
        "transforms": {"type": "array", "items": _by_kind("transforms", {})},
        "decoder": _by_kind("decoders", {}),
        "postprocess": {"type": "array", "items": _by_kind("postprocess", {})},
        "runtime": {"type": "object", "properties": runtimes},
    }
