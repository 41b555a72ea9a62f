"""Every key and every value of a TOML file is found where a real parser reads it."""

from __future__ import annotations

import sys
from typing import Any

import tomli_w
from hypothesis import example, given
from hypothesis import strategies as st

from limpet.problems.positions import Node, positions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EVERY_SYNTAX = '''
# [not.a.table]
top = 1 # = 2
"quoted = key" = 'a # b'
dotted . "more".deep = 0x1F
[a.b]  # comment
basic = "say \\"hi\\" ] } #"
many = """
[c]
x = 1 \\"""
""""
literal = \'\'\'
y = "2
\'\'\'
list = [ 1, [2.5, "]"], # ] }
  { x = 1, y.z = ["}", true] },
  1979-05-27T07:32:00Z , 07:32:00,
]
inline = { "k" = { n = [{}] }, s = 'x' }
[[points]]
x = 1
[points.more]
deep = [[], [[3]]]
[[points]]
x = 2
[points.more]
"\\u00e9\\n" = 3
["a.b"."c d"]
last=inf'''

KEYS = st.text(max_size=6) | st.sampled_from(["a", "b", "a.b", "[x]", "#", "=", '"', "'", "\\"])
LEAVES = (
    st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["\n", '"""', "'''", "\\", "] } # ,", "\u65e5\u672c"])
    | st.dates()
    | st.datetimes()
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=15
)


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    inner: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if inner is None:
        return [(path, value)]
    return [leaf for key, each in inner for leaf in leaves(each, (*path, key))]


def node_at(root: Node, path: tuple[str | int, ...]) -> Node:
    for key in path:
        root = root.children[key]
    return root


def check(text: str) -> None:
    root = positions(text)
    for path, value in leaves(tomllib.loads(text)):
        node = node_at(root, path)
        read = tomllib.loads(f"v = {text[node.value.begin : node.value.end]}")["v"]
        assert read == value, path
        if isinstance(path[-1], str):
            key = text[node.key.begin : node.key.end]
            assert tomllib.loads(f"{key} = 1") == {path[-1]: 1}


def test_every_kind_of_key_and_value_is_found() -> None:
    check(EVERY_SYNTAX)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_document_is_found_value_by_value(tables: dict[str, Any]) -> None:
    check(tomli_w.dumps(tables))
    check(tomli_w.dumps(tables, multiline_strings=True).replace("\r", ""))


def test_a_header_is_the_place_of_its_table() -> None:
    node = positions(EVERY_SYNTAX).children["a"].children["b"]
    assert EVERY_SYNTAX[node.key.begin : node.key.end] == "a.b"


@given(st.text(max_size=60) | st.text("[]{}=\"'.,#\n\\ab1", max_size=60))
@example("[" * 5000)
@example("x = " + "[" * 5000)
@example("x = " + "{a=" * 5000)
@example('"' * 1000)
def test_no_text_breaks_it(text: str) -> None:
    assert positions(text).key == (0, 0)
