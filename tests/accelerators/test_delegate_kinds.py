from __future__ import annotations

import pytest

from limpet.accelerators.delegate_kinds import KINDS, resolve
from limpet.contracts.assignment import DelegateTable
from limpet.contracts.delegate import CPU
from limpet.errors import ConfigError


def test_a_known_kind_needs_no_table() -> None:
    assert resolve("cpu", {}) == CPU
    edgetpu = resolve("edgetpu", {})
    assert (edgetpu.kind, edgetpu.how, edgetpu.libraries[0]) == ("edgetpu", "library", "libedgetpu.so.1")
    assert resolve("gpu", {}).how == "compiled"


def test_a_table_gives_options_and_another_library() -> None:
    tables = {"edgetpu": DelegateTable(library="/opt/libedgetpu.so", options={"device": "usb:0"})}
    choice = resolve("edgetpu", tables)
    assert (choice.libraries, choice.options) == (("/opt/libedgetpu.so",), {"device": "usb:0"})


def test_two_names_for_two_devices_of_one_kind() -> None:
    tables = {
        "left": DelegateTable(kind="edgetpu", options={"device": "usb:0"}),
        "right": DelegateTable(kind="edgetpu", options={"device": "usb:1"}),
    }
    left, right = resolve("left", tables), resolve("right", tables)
    assert (left.name, left.kind, right.name, right.kind) == ("left", "edgetpu", "right", "edgetpu")
    assert left.options != right.options


def test_options_add_to_the_kinds_own_and_are_text() -> None:
    tables = {"hexagon": DelegateTable(options={"htp_performance_mode": 2, "profiling": True, "x": 0.5})}
    assert resolve("hexagon", tables).options == {
        "backend_type": "htp",
        "htp_performance_mode": "2",
        "profiling": "1",
        "x": "0.5",
    }


def test_any_library() -> None:
    short = resolve("external:./libmine.so", {})
    table = resolve("mine", {"mine": DelegateTable(kind="external", library="./libmine.so")})
    assert short.libraries == table.libraries == ("./libmine.so",)
    assert (short.kind, table.kind, table.name) == ("external", "external", "mine")


@pytest.mark.parametrize(
    ("name", "tables", "reason"),
    [
        ("edgetup", {}, "did you mean 'edgetpu'"),
        ("external", {}, "delegates.external.library: missing"),
        ("external:", {}, "'external:' is neither known"),
        ("cpu:x", {}, "'cpu:x' is neither known"),
        ("mine", {"mine": DelegateTable(kind="extrenal")}, "delegates.mine.kind: 'extrenal' is unknown"),
        ("mine", {"mine": DelegateTable()}, "delegates.mine.kind: 'mine' is unknown"),
        ("gpu", {"gpu": DelegateTable(library="libgpu.so")}, "delegates.gpu.library: GPU through LiteRT has none"),
        ("cpu", {"cpu": DelegateTable(library="libcpu.so")}, "delegates.cpu.library: the CPU has none"),
    ],
)
def test_refuses(name: str, tables: dict[str, DelegateTable], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(name, tables)
    assert reason in str(caught.value)


def test_every_kind_of_library_says_where_it_comes_from() -> None:
    for name, kind in KINDS.items():
        assert bool(kind.install) == (kind.how != "cpu"), name
