"""A pipeline that takes over from another one goes on with its next window, and the other one can go on, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.config import PipelineConfig
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.fields import WindowSpec
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from support import models
from support.assigned import single

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPEC = SampleSpec((1,), np.dtype(np.float32), ("n",), rate=100.0)
COUNT = 60
WINDOWS = [
    {"size": 4},
    {"size": 4, "hop": 1},
    {"size": 4, "hop": 3},
    {"size": 4, "hop": 7},
    {"seconds": 0.05, "size": 4},
    {"seconds": 0.08, "hop_seconds": 0.03, "size": 4},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    models.same(path / "same.tflite", (1, 4, 1), "float32")
    models.column(path / "twice.tflite", rows=4)
    return path


def opened(folder: Path, model: str, window: dict[str, Any], every: int = 1) -> Pipeline:
    wanted = PipelineConfig(
        source="s", model=model, window=WindowSpec(**window), every=every, decoder={"kind": "regress"}
    )
    return Pipeline(plan_pipeline(single(folder, wanted), "p", SPEC))


def blocks(ends: list[int]) -> Iterator[Samples]:
    """Yield 0, 1, 2, ... in blocks that end before these numbers."""
    begin = 0
    for end in [*sorted({*ends}), COUNT]:
        values = np.arange(begin, end, dtype=np.float32)[:, None]
        stamps = np.arange(begin, end, dtype=np.int64) * 10_000_000
        yield Samples(values, stamps, stamps, begin)
        begin = end


def run(pipeline: Pipeline, block: Samples) -> list[tuple[int, list[float]]]:
    return [(one.sample, list(one.output.values.values())) for one in pipeline.feed(block)]


ENDS = st.lists(st.integers(0, COUNT), max_size=12)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@settings(max_examples=10)
@given(ends=ENDS, at=st.integers(0, 12))
def test_no_window_is_lost_and_none_comes_twice(
    folder: Path, window: dict[str, Any], every: int, ends: list[int], at: int
) -> None:
    with (
        opened(folder, "same.tflite", window, every) as alone,
        opened(folder, "same.tflite", window, every) as old,
        opened(folder, "twice.tflite", window, every) as new,
    ):
        expected, seen, old_goes_on = [], [], []
        for number, block in enumerate(blocks(ends)):
            expected += run(alone, block)
            if number == at:
                assert new.take_over(old)
            if number < at:
                seen += run(old, block)
                old_goes_on = list(seen)
            else:
                seen += [(sample, [value / 2 for value in values]) for sample, values in run(new, block)]
                old_goes_on += run(old, block)
        assert seen == expected
        assert old_goes_on == expected
        assert new.discarded() == 0


def test_other_windows_begin_with_the_next_sample(folder: Path) -> None:
    with (
        opened(folder, "same.tflite", {"size": 4, "hop": 3}) as old,
        opened(folder, "same.tflite", {"size": 4}) as new,
    ):
        first, second = blocks([6])
        run(old, first)
        assert not new.take_over(old)
        assert run(new, second)[0] == (9, [6, 7, 8, 9])


def test_who_waits_for_a_window_sees_that_of_the_successor(folder: Path) -> None:
    shown: list[list[float]] = []
    with (
        opened(folder, "same.tflite", {"size": 4}) as old,
        opened(folder, "same.tflite", {"size": 4}) as new,
    ):
        old.capture(lambda _, inputs: shown.append(inputs[0].ravel().tolist()))
        new.take_over(old)
        new.adopt_captures(old)
        first, second = blocks([4])
        run(new, first)
        run(old, second)
    assert shown == [[0, 1, 2, 3]]
