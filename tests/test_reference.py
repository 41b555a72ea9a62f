"""The reference and the JSON Schemas of the two configuration files are made from the structs, and are right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest

import reference
from config_keys import keys, texts_of
from limpet import config, plugins
from limpet.contracts.assignment import DelegateTable, SourceTable
from limpet.contracts.fields import UnwindowedInput, WindowSpec
from limpet_convert import project
from test_docs import TOML, whole

if TYPE_CHECKING:
    from msgspec import Struct

    from limpet.plugins import Group

ROOT = Path(__file__).parent.parent
AGENT, CONVERTER = (
    jsonschema.Draft7Validator(json.loads((reference.SCHEMAS / f"{name}-toml.json").read_text()))
    for name in ("limpet", "convert")
)
EXAMPLES = sorted(ROOT.glob("converters/examples/*/convert.toml"))
GROUPS: tuple[Group, ...] = (
    "sources",
    "framings",
    "transforms",
    "decoders",
    "postprocess",
    "monitors",
    "reporters",
    "dialects",
)
STRUCTS: list[type[Struct]] = [
    *(plugins.load(group, kind).Config for group in GROUPS for kind in plugins.built_in(group)),
    *(plugins.load("runtimes", kind).Config for kind in ("tflite", "coreml")),
    *project.TABLES.values(),
    *(config.Device, config.PipelineConfig, config.GovernorTable, config.Rung),
    *(DelegateTable, WindowSpec, UnwindowedInput),
]


def parsed(text: str) -> dict[str, Any]:
    return msgspec.toml.decode(text, type=dict[str, Any])


def test_what_is_in_the_repository_is_what_the_code_says() -> None:
    stale = [str(path) for path, text in reference.files() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run: python tools/reference.py"


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: f"{struct.__module__}.{struct.__name__}")
def test_every_key_is_described_and_its_example_is_right(struct: type[Struct]) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    assert texts_of(struct).keys() == fields.keys()
    for key in keys(struct):
        assert re.match(r"[A-Z`\[0-9]", key.text), key
        assert key.text.endswith("."), key
        assert max(len(sentence.split()) for sentence in re.split(r"[.:;] ", key.text)) <= 25, key
        if key.value:
            value = parsed(f"value = {key.value}")["value"]
            msgspec.convert(value, fields[key.name].type, dec_hook=lambda _, text: Path(text))


@pytest.mark.parametrize("text", TOML)
def test_the_schema_takes_every_configuration_of_the_documentation(text: str) -> None:
    tables = parsed(text)
    if "bundle" in tables:
        CONVERTER.validate(tables)
    else:
        AGENT.validate(whole(tables))


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("firmware-configs/*/limpet.toml")), ids=lambda path: path.parent.name
)
def test_the_schema_takes_the_configuration_of_every_board(path: Path) -> None:
    AGENT.validate(parsed(path.read_text()))


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("converters/examples/*/convert.toml")), ids=lambda path: path.parent.name
)
def test_the_schema_takes_every_example_of_the_converters(path: Path) -> None:
    CONVERTER.validate(parsed(path.read_text()))


@pytest.mark.parametrize(
    "line",
    [
        "[device]\nid = 'a b'",
        "[device]\nid = 'd'\nstat = '/x'",
        "[sources.s]\nkind = 'serial'\nport = '/dev/x'\nchannels = ['a']\nboud = 9600",
        "[sources.s]\nkind = 'serial'\nport = '/dev/x'\nchannels = []",
        "[sources.s]\nkind = 'serial'\nport = 'x'\nchannels = ['a']\nframing = { kind = 'csv', delimeter = ';' }",
        "[sources.s]\nkind = 'replay'",
        "[pipelines.p]\nsource = 's'\nmodel = 'm'\ndecoder = { kind = 'classify', topk = 1 }",
        "[pipelines.p]\nsource = 's'\nmodel = 'm'\nwindow = { size = 0 }",
        "[pipelines.'a/b']\nsource = 's'\nmodel = 'm'",
        "[mqtt]\nqos = 1",
        "[mqtt]\nurl = 'mqtt://b'\nqos = 3",
        "[mqtt]\nurl = 'mqtt://b'\n[mqtt.dialects.homeassistant]\ndiscover = 'x'",
        "[governor]\nbusy = 2",
        "[reporters.r]\nurl = 'mqtt://b'",
        "[mqt]\nurl = 'mqtt://b'",
    ],
)
def test_the_schema_finds_mistakes(line: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        AGENT.validate(whole(parsed(line)))


def test_the_schema_leaves_plugins_of_other_packages_alone() -> None:
    AGENT.validate(whole(parsed("[sources.t]\nkind = 'thermal'\nzones = ['a']\nqueue = 3")))
    with pytest.raises(jsonschema.ValidationError):
        AGENT.validate(whole(parsed("[sources.t]\nkind = 'thermal'\nqueue = 0")))


def test_what_all_sources_have_is_described() -> None:
    assert [key.name for key in keys(SourceTable)] == ["queue", "queue_bytes", "silence"]
