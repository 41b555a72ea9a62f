"""What is concluded from who runs which op, and from how it went."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.accelerators.placement import (
    Proof,
    TimeShare,
    borders,
    of_coverage,
    place,
    shortfall,
    why_not_worth,
)
from limpet.contracts.placement import CPU, XNNPACK, OpPlace, Placement
from limpet.models.tflite.coverage import Coverage
from limpet.models.tflite.model_graph import GraphOp, ModelGraph


def graph(*macs: int | None) -> ModelGraph:
    return ModelGraph((), tuple(GraphOp(0, "", (), (), count) for count in macs), (), ())


def covered(names: str, delegated: str) -> Coverage:
    return Coverage(tuple(names.split()), tuple(mark == "x" for mark in delegated), ())


def test_shares_count_ops_and_multiply_adds() -> None:
    placement = of_coverage(
        "npu",
        covered("CONV CONV ADD CONV", "xx.."),
        covered("CONV CONV ADD CONV", "xxx."),
        graph(600, 300, 0, 100),
    )
    assert [op.executor for op in placement.ops] == ["npu", "npu", XNNPACK, CPU]
    assert (placement.op_share, placement.mac_share, placement.share) == (0.5, 0.9, 0.9)
    assert placement.left_over() == {"ADD": 1, "CONV": 1}


def test_a_graph_without_multiply_adds_is_judged_by_ops() -> None:
    placement = of_coverage("npu", covered("ADD ADD", "x."), covered("ADD ADD", "x."), graph(0, 0))
    assert (placement.mac_share, placement.share) == (None, 0.5)


def test_on_the_cpu_nothing_is_lacking() -> None:
    placement = of_coverage("cpu", covered("CONV ADD", ".."), covered("CONV ADD", "x."), graph(10, 0))
    assert [op.executor for op in placement.ops] == [XNNPACK, CPU]
    assert (placement.op_share, placement.mac_share, placement.left_over()) == (1.0, 1.0, {})
    assert shortfall(placement, 1.0) == ""
    assert borders(placement) == []


def test_a_compiled_model_is_judged_by_the_model_it_was_compiled_from() -> None:
    compiled = [OpPlace("edgetpu-custom-op", "edgetpu", None), OpPlace("CONV", CPU, 100)]
    assert place("edgetpu", compiled).mac_share is None
    assert place("edgetpu", compiled).share == 0.5
    assert place("edgetpu", compiled, whole=1000).share == 0.9
    on_cpu = [OpPlace("edgetpu-custom-op", CPU, None), OpPlace("CONV", CPU, 100)]
    assert place("edgetpu", on_cpu, whole=1000).share == 0.0


def test_nothing_of_it_is_there() -> None:
    placement = of_coverage("gpu", covered("CONV", "."), covered("CONV", "x"), graph(10))
    assert placement.share == 0.0
    assert shortfall(placement, 0.01)


def test_what_falls_short_says_what_the_cpu_is_left_with() -> None:
    placement = of_coverage(
        "npu", covered("CONV CONV ADD", "x.."), covered("CONV CONV ADD", "x.."), graph(90, 10, 0)
    )
    assert shortfall(placement, 0.9) == ""
    assert shortfall(placement, 0.95) == (
        "only 90.0% of the multiply-adds run on 'npu', 95.0% are required; the CPU is left with 1 ADD, 1 CONV"
    )


def proof(error: float = 0.0, delegate_us: float = 100.0, cpu_us: float = 300.0) -> Proof:
    return Proof(vectors=4, error=error, tolerance=0.5, delegate_us=delegate_us, cpu_us=cpu_us)


@pytest.mark.parametrize(
    ("made", "least", "reason"),
    [
        (proof(), 1.0, ""),
        (proof(error=0.5), 3.0, ""),
        (proof(error=0.6), 1.0, "wrong numbers: off by 0.6 where 0.5 is allowed"),
        (proof(error=float("inf")), 0.0, "wrong numbers: off by inf where 0.5 is allowed"),
        (proof(), 3.5, "not worth it: 100 µs a run, 300 µs on the CPU; 3.5 times the CPU's speed is required"),
        (proof(delegate_us=400), 0.5, ""),
        (proof(delegate_us=400), 1.0, "not worth it: 400 µs a run, 300 µs on the CPU; 1 times"),
    ],
)
def test_doubts(made: Proof, least: float, reason: str) -> None:
    said = why_not_worth(made, least)
    assert said.startswith(reason)
    assert bool(said) == bool(reason)


def test_time() -> None:
    shares = TimeShare(total_us=100, cpu_us=400, left_us=40)
    assert shares.on_delegate == 0.6
    worse = TimeShare(total_us=100, cpu_us=400, left_us=500)
    assert worse.on_delegate == 0.0


def test_goes_out_as_json() -> None:
    placement = place("npu", [OpPlace("CONV", "npu", 10)], device="NPU 3720")
    sent = json.loads(msgspec.json.encode(placement))
    assert sent["ops"] == [{"name": "CONV", "executor": "npu", "macs": 10}]
    assert msgspec.convert(sent, Placement) == placement


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["npu", CPU, XNNPACK]),
            st.one_of(st.none(), st.integers(0, 10**9)),
            st.sampled_from("AB"),
        ),
        max_size=30,
    ),
    st.one_of(st.none(), st.integers(0, 10**12)),
    st.floats(0, 1),
)
def test_laws(ops: list[tuple[str, int | None, str]], whole: int | None, require: float) -> None:
    placement = place("npu", [OpPlace(name, executor, macs) for executor, macs, name in ops], whole)
    assert 0 <= placement.op_share <= 1
    assert placement.mac_share is None or 0 <= placement.mac_share <= 1
    assert bool(shortfall(placement, require)) == (placement.share < require)
    left = {i for first, last in borders(placement) for i in range(first, last)}
    assert left == {i for i, (executor, _, _) in enumerate(ops) if executor != "npu"}
    assert sum(placement.left_over().values()) == len(left)
