"""What is wrong with a value is a plain sentence with a place, whatever stands in the file."""

from __future__ import annotations

import datetime as dt
import enum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from limpet import config, plugins
from limpet.filling import fill
from limpet.problems.locate import locate

GROUPS: tuple[plugins.Group, ...] = (
    "sources",
    "framings",
    "transforms",
    "runtimes",
    "decoders",
    "postprocess",
    "reporters",
    "dialects",
)
CONFIGS: dict[str, Any] = {
    f"{group}/{kind}": plugins.load(group, kind).Config
    for group in GROUPS
    for kind in plugins.built_in(group)
    if kind != "coreml"
} | {"device": config.Device, "pipeline": config.PipelineConfig, "governor": config.GovernorTable}
FIELDS = [(name, field.encode_name) for name, kind in CONFIGS.items() for field in msgspec.structs.fields(kind)]
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.datetimes()
    | st.times(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["size", "state", "every", "kind"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
NEVER = ("matching regex", "enum value", "Expected `", "msgspec", "NoneType", "array_like", "Traceback")
JARGON = (
    "matching regex",
    "enum",
    "Expected",
    "`",
    "msgspec",
    "None",
    "array",
    "object",
    "\\Z",
    "[^",
    "<class",
    "typing",
    "float",
    "int ",
    "str ",
    "null",
)


def problems(kind: Any, table: dict[str, Any]) -> list[str]:
    found: list[str] = []
    fill(kind, table, "table", Path("/etc"), found)
    return found


@given(st.sampled_from(FIELDS), VALUES)
@settings(max_examples=400)
def test_any_value_of_any_key_gives_plain_sentences_with_a_place(field: tuple[str, str], value: Any) -> None:
    name, key = field
    text = tomli_w.dumps({"table": {key: value}})
    sentences = problems(CONFIGS[name], {key: value})
    for problem in locate("limpet.toml", text, sentences):
        words = problem.message.partition(" is ")[2].partition("; ")[2]  # without the value, which may be anything
        assert not [word for word in JARGON if word in words], problem.message
        assert not [word for word in NEVER if word in problem.message], problem.message
        assert problem.path[0] == "table"
        assert 1 <= problem.line <= text.count("\n") + 1
        assert problem.column >= 1
        assert len(problem.message) < 1000


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    low: int = 0
    high: int = 1

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError("low must be below high")


class Everything(msgspec.Struct, forbid_unknown_fields=True):
    path: Path | None = None
    flag: bool = False
    word: str = ""
    short: Annotated[str, Meta(max_length=3)] = ""
    filled: Annotated[str, Meta(min_length=1)] = "x"
    plain: Annotated[str, Meta(pattern="^a+$", extra={"use": 'the letter "a" only'})] = "a"
    form: Annotated[str, Meta(pattern="^a+$")] = "a"
    port: Annotated[int, Meta(ge=1, le=65535)] = 1
    count: Annotated[int, Meta(ge=1, le=1 << 31)] = 1
    positive: Annotated[float, Meta(gt=0)] = 1.0
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    number: float = 0.0
    qos: Literal[0, 1] = 0
    mode: Literal["none", "even", "odd"] = "none"
    colour: Colour = Colour.RED
    speed: Literal["recorded"] | Annotated[float, Meta(gt=0)] = 1.0
    several: str | list[str] = ""
    names: Annotated[list[str], Meta(min_length=1)] = []
    pairs: list[float | list[float]] = []
    modes: list[Literal["a", "b"]] = []
    pair: tuple[int, int] = (0, 0)
    inner: Inner | None = None
    rungs: list[Inner] = []
    by_name: dict[str, Inner] = {}
    day: dt.date | None = None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("path", 3, ["t.path is 3; use a path in quotes"]),
        ("flag", "yes", ['t.flag is "yes"; use true or false']),
        ("word", True, ["t.word is true; use text in quotes"]),
        ("short", "long", ['t.short is "long"; use text in quotes with at most 3 characters']),
        ("filled", "", ['t.filled is ""; use text in quotes with at least 1 character']),
        ("plain", "b", ['t.plain is "b"; use the letter "a" only']),
        ("form", "b", ['t.form is "b"; use text in quotes, in the form that the documentation shows']),
        ("port", 70_000, ["t.port is 70000; use a whole number from 1 to 65535"]),
        ("port", 1.5, ["t.port is 1.5; use a whole number from 1 to 65535"]),
        ("count", 0, ["t.count is 0; use a whole number of at least 1"]),
        ("count", 1 << 40, ["t.count is 1099511627776; use a whole number from 1 to 2147483648"]),
        ("positive", 0, ["t.positive is 0; use a number above 0"]),
        ("share", 1.5, ["t.share is 1.5; use a number from 0 to 1"]),
        ("share", float("nan"), ["t.share is nan; use a number from 0 to 1"]),
        ("number", "fast", ['t.number is "fast"; use a number']),
        ("number", dt.date(2026, 1, 2), ["t.number is 2026-01-02; use a number"]),
        ("qos", 3, ["t.qos is 3; use 0 or 1"]),
        ("qos", True, ["t.qos is true; use 0 or 1"]),
        ("mode", "evn", ['t.mode is "evn"; use "even", "none" or "odd" (did you mean \'even\'?)']),
        ("mode", "zzz", ['t.mode is "zzz"; use "even", "none" or "odd"']),
        ("colour", "green", ['t.colour is "green"; use "red" or "blue"']),
        ("speed", 0, ['t.speed is 0; use "recorded" or a number above 0']),
        ("several", 1, ['t.several is 1; use text in quotes or a list of texts, such as ["a", "b"]']),
        (
            "several",
            ["a", 2, "b", 3],
            ["t.several[1] is 2; use text in quotes", "t.several[3] is 3; use text in quotes"],
        ),
        ("names", [], ['t.names is an empty list; use a list of texts with at least 1 entry, such as ["a", "b"]']),
        ("pairs", [1, [2, "x"]], ['t.pairs[1][1] is "x"; use a number']),
        ("modes", ["a", "c"], ['t.modes[1] is "c"; use "a" or "b"']),
        ("modes", "a", ['t.modes is "a"; use a list of "a" or "b"']),
        ("pair", [1], ["t.pair is a list of 1; use a list of 2"]),
        ("inner", 3, ["t.inner is 3; use a table"]),
        (
            "inner",
            {"low": "a", "hihg": 2},
            ["t.inner.hihg: unknown key (did you mean 'high'?)", 't.inner.low is "a"; use a whole number'],
        ),
        ("inner", {"low": 5}, ["t.inner.low must be below high"]),
        ("rungs", [{}, {"high": []}], ["t.rungs[1].high is an empty list; use a whole number"]),
        ("rungs", [{"low": 9}], ["t.rungs[0].low must be below high"]),
        ("by_name", {"a.b": {"low": {}}}, ["t.by_name.a.b.low is a table; use a whole number"]),
        ("day", "today", ['t.day is "today"; use a date']),
        ("day", dt.time(1, 2), ["t.day is 01:02:00; use a date"]),
        ("word", 10**80, ["t.word is a number of more than 60 digits; use text in quotes"]),
        ("number", "x" * 100_000, [f't.number is "{"x" * 59}..."; use a number']),
    ],
)  # fmt: skip
def test_a_sentence_says_what_is_there_and_what_to_use(key: str, value: Any, said: list[str]) -> None:
    assert problems(Everything, {key: value}) == [sentence.replace("t.", "table.", 1) for sentence in said]


def test_what_is_missing_says_what_to_write() -> None:
    found = problems(plugins.load("sources", "serial").Config, {"channels": ["a"]})
    assert found == ["table.port is missing; use text in quotes with at least 1 character"]


def test_a_value_with_thousands_of_faults_gives_fifty() -> None:
    assert len(problems(Everything, {"names": [1] * 5000})) == 50
