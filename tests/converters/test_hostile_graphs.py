"""Graphs of hostile files: circles, long names, orders for a terminal, and models that do not end."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet_convert import foreign
from limpet_convert.converters import _onnx_names, _unroll
from limpet_convert.converters._onnx2tf import refusal
from limpet_convert.errors import ConvertError
from limpet_convert.jail import Jail, LateError
from support.protobuf import onnx

if TYPE_CHECKING:
    from pathlib import Path


def nodes(**inputs: list[str]) -> list[SimpleNamespace]:
    return [SimpleNamespace(name=name, input=taken) for name, taken in inputs.items()]


def test_nodes_come_behind_those_they_take_from() -> None:
    ordered = _unroll._in_order(nodes(a=["b", "c:1"], c=["b"], b=["^d"], d=[]))  # noqa: SLF001
    assert [node.name for node in ordered] == ["d", "b", "c", "a"]


@pytest.mark.parametrize("inputs", [{"a": ["a"]}, {"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": []}])
def test_a_circle_of_nodes_is_no_loop_that_can_be_written_out(inputs: dict[str, list[str]]) -> None:
    with pytest.raises(_unroll.UnknownStepsError, match="loop of TensorFlow 1"):
        _unroll._in_order(nodes(**inputs))  # noqa: SLF001


def test_a_node_of_an_onnx_file_is_named_in_one_line_that_gives_a_terminal_no_orders() -> None:
    found = refusal("onnx_op_name: node_0_Conv", {"node_0_Conv": "\x1b[2J\nlimpet-convert: done" + "a" * 5000})
    assert found.isprintable()
    assert len(found) < 700


def test_ops_of_other_makers_are_named_without_their_orders_for_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx(op="Shell\n\x1b[2J", domain="evil.ops"))
    with pytest.raises(ConvertError, match=r"evil\.ops\.Shell\\n\\x1b\[2J;"):
        foreign.refuse(tmp_path / "m.onnx")


def test_a_model_that_does_not_end_is_ended(tmp_path: Path) -> None:
    jail = Jail([tmp_path])
    try:
        with pytest.raises(LateError, match=r"no answer within 0\.001 s"):
            jail.call("open", str(tmp_path / "m.keras"), within=0.001)
    finally:
        jail.close()


@pytest.mark.parametrize(
    ("exact", "other", "off"),
    [
        ([math.nan, 1.0, 3.0], [math.nan, 1.0, 3.0], 0.0),
        ([math.nan, 1.0, 3.0], [0.0, 1.0, 3.0], math.inf),
        ([-math.inf, 1.0, 3.0], [math.inf, 1.0, 3.0], math.inf),
        ([-math.inf, 1.0, 3.0], [-math.inf, 2.0, 2.0], 1.0),
        ([math.nan, math.nan], [math.nan, math.nan], math.inf),
    ],
)
def test_answers_that_are_no_numbers_must_be_at_the_same_places(
    exact: list[float], other: list[float], off: float
) -> None:
    found, _ = _onnx_names._off(np.array(exact, np.float32), np.array(other, np.float32))  # noqa: SLF001
    assert found == pytest.approx(off)


def test_an_output_of_many_axes_is_compared_in_a_bounded_number_of_orders() -> None:
    off, order = _onnx_names._off(np.ones((1,) * 20 + (2,), np.float32), np.zeros((1,) * 20 + (2,), np.float32))  # noqa: SLF001
    assert off > _onnx_names.WRONG
    assert len(order) == 21
