"""A shadow's process that was taken over, as its worker sees it: it ends its shadow alone."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.contracts.data import Samples
from limpet.contracts.fields import WindowSpec
from limpet.contracts.outputs import Regression, Segmentation
from limpet.errors import ModelError
from limpet.inference.agreement import agreement, answer
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline, plan_source
from limpet.updates.answers import Pair, Pairs
from limpet.wire import border
from limpet.wire.channel import Channel
from limpet.wire.records import LARGEST_OUTPUT, FromWorker, RawResult, RawResults
from limpet.wire.shadow_records import RunWindow, ShadowOpened
from limpet.worker.shadow_link import ShadowLink, ShadowRan
from limpet.worker.shadow_windows import ShadowWindows
from support import models
from support.assigned import cells

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE = 2000
BLOCK = 200
WINDOW = RunWindow("<f4", (1, 3), 5, 6, 7, False, None, False)
OURS = Segmentation({"road": 0.5}, [])
GROWS = {"values": {str(i): 1 for i in range(15_000)}, "units": {}, "in_range": True, "out_of_range": []}
"""Small as it is sent. As floats, its numbers take nine bytes each."""
PLAIN = msgspec.msgpack.encode(Regression({"x": 1.0}, {}, True, []))

_plain = (
    st.none() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=3) | st.binary(max_size=3)
)
_keys = st.text(max_size=3) | st.integers(0, 9)
_bodies = st.recursive(
    _plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=8,
)
_shares = st.dictionaries(st.sampled_from("ab"), st.floats(), max_size=2)
_segmentations = st.builds(lambda shares: {"shares": shares, "regions": []}, _shares)
_quantities = st.builds(
    lambda values: {"values": values, "units": {}, "in_range": True, "out_of_range": []},
    st.dictionaries(st.text(max_size=3), st.none() | st.floats(), max_size=3),
)
_times = st.integers(0, 1 << 63)


def answered(**fields: Any) -> ShadowRan:
    """Return what a worker makes of an answer to a window. ``ModelError`` ends the shadow."""
    ours, theirs = socket.socketpair()
    link, shadow = ShadowLink(10.0, 10.0), Channel(theirs, dict)
    try:
        link.connect(ours)
        link.put(WINDOW, np.zeros((1, 3), np.float32))
        plain = {"type": "Ran", "ordinal": 7, "run_ns": 1, "cpu_ns": 1, "kind": "Regression", "output": {}}
        shadow.send({**plain, **fields})
        while not (ran := link.poll()):
            pass
        return ran[0]
    finally:
        link.close()
        shadow.close()


def pass_on(ran: ShadowRan) -> None:
    """Have the supervisor check what a worker sends of it: a pair, and a result in place of the pipeline's own."""
    theirs_us = ran.run * 1e6
    pair = Pair(1, 2, answer(OURS), answer(ran.output), agreement(OURS, ran.output), 1.0, theirs_us)
    records: list[Any] = [Pairs("p", "old", 1, "new", 2, [pair])]
    decode = msgspec.msgpack.Decoder(FromWorker).decode
    result = RawResult("p", "new", 2, "cpu", False, 1, 2, 3, 4, msgspec.Raw(msgspec.msgpack.encode(ran.output)))
    records.append(RawResults([result]))
    for record in records:
        border.check(decode(msgspec.msgpack.encode(record)), {"p"}, {})


@settings(max_examples=60)
@given(st.one_of(
    st.tuples(st.just("Segmentation"), _segmentations),
    st.tuples(st.just("Regression"), _quantities),
    st.tuples(st.sampled_from(["", "Classification", "Tensors", "Nothing"]), _bodies),
), _times, _times)  # fmt: skip
def test_whatever_a_shadow_answers_ends_it_or_is_what_its_worker_may_report(
    output: tuple[str, Any], run_ns: int, cpu_ns: int
) -> None:
    kind, body = output
    try:
        ran = answered(kind=kind, output=body, run_ns=run_ns, cpu_ns=cpu_ns)
    except ModelError:
        return
    pass_on(ran)


@pytest.mark.parametrize(
    "answer_of_it",
    [
        {"kind": "", "output": {"x": msgspec.msgpack.Ext(5, b"x")}},
        {"kind": "", "output": {"x": "y" * (LARGEST_OUTPUT + 100)}},
        {"kind": "Regression", "output": GROWS},
        {"kind": "Regression", "output": msgspec.Raw(PLAIN), "run_ns": 1 << 62},
    ],
)  # fmt: skip
def test_an_answer_that_no_worker_may_report_ends_the_shadow(answer_of_it: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        answered(**answer_of_it)


def test_shares_whose_sum_is_no_number_are_compared() -> None:
    huge = Segmentation({"road": 1e308, "rail": 1e308}, [])
    assert agreement(OURS, huge) == agreement(huge, OURS) == 0
    assert agreement(huge, huge) == 1


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[tuple[Any, Pipeline]]:
    """Yield the form of the samples of a source, and a pipeline on it."""
    (tmp_path / "n.csv").write_text("a,b,c\n1,2,3\n")
    models.dense(tmp_path / "old.tflite", 3, 3)
    cell = cells(
        {
            "device": {"id": "d", "state": str(tmp_path / "state")},
            "sources": {"s": {"kind": "replay", "path": str(tmp_path / "n.csv"), "rate": RATE}},
            "pipelines": {"p": {"source": "s", "model": "old.tflite", "decoder": {"kind": "tensor"}}},
            "jsonl": {},
        },
        tmp_path,
    )["s"]  # fmt: skip
    spec = plan_source(cell, "s").spec
    with Pipeline(plan_pipeline(cell, "p", spec)) as pipeline:
        yield spec, pipeline


def cut(windows: ShadowWindows, blocks: int) -> int:
    """Return how many windows some blocks of samples make."""
    count = 0
    for start in range(0, blocks * BLOCK, BLOCK):
        times = (np.arange(start, start + BLOCK) * (10**9 // RATE)).astype(np.int64)
        block = Samples(np.zeros((BLOCK, 3), np.float32), times, times, start)
        count += sum(1 for _ in windows.of(block))
    return count


def test_windows_by_time_come_as_often_as_samples_at_most(beside: tuple[Any, Pipeline]) -> None:
    spec, pipeline = beside
    plain = ShadowOpened(WindowSpec(seconds=0.1, hop_seconds=1 / RATE), None)
    assert cut(ShadowWindows(plain, spec, pipeline), 10) > 8 * BLOCK
    endless = ShadowOpened(WindowSpec(seconds=0.1, hop_seconds=1e-12), None)
    with pytest.raises(ModelError, match="too many"):
        cut(ShadowWindows(endless, spec, pipeline), 10)


def test_windows_whose_resampling_would_keep_the_worker_busy_are_refused(beside: tuple[Any, Pipeline]) -> None:
    costly = ShadowOpened(WindowSpec(seconds=1.0, size=1 << 22, hop_seconds=0.001), None)
    with pytest.raises(ModelError, match="bytes a second"):
        ShadowWindows(costly, *beside)
