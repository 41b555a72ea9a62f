"""What a configuration may say of delegates, ladders and the governor, and what is made of it."""

from __future__ import annotations

import mmap
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from limpet import config
from limpet.contracts.data import SampleSpec, TensorSpec
from limpet.contracts.delegate import CPU
from limpet.deployment.local import assignment_of
from limpet.doctor import check
from limpet.errors import ConfigError, ModelError
from limpet.executor.process import lay_out
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.wire.shared_arrays import put, view
from support import models
from support.bundles import bundle

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.assignment import Assignment

SAMPLES = SampleSpec((3,), np.dtype(np.float32))


def tables(**pipeline: Any) -> dict[str, Any]:
    whole = {"source": "line", "model": "dense.tflite", "decoder": {"kind": "regress"}, **pipeline}
    return {
        "device": {"id": "press-07", "state": "state"},
        "sources": {"line": {"kind": "replay", "path": "recording.csv", "rate": 10}},
        "pipelines": {"motion": whole},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models.dense(tmp_path / "dense.tflite", inputs=3, outputs=3)
    models.dense(tmp_path / "wide.tflite", inputs=5, outputs=3)
    (tmp_path / "recording.csv").write_text("ax,ay,az\n1,2,3\n")
    return tmp_path


def motion(folder: Path, **pipeline: Any) -> Assignment:
    return assignment_of(config.build(tables(**pipeline), folder), "motion")


def test_the_cpu_comes_last_unless_something_is_required(folder: Path) -> None:
    def names(**pipeline: Any) -> list[str]:
        made = plan_pipeline(motion(folder, **pipeline), "motion", SAMPLES)
        return [choice.name for choice in made.delegates]

    assert names() == ["cpu"]
    assert names(delegates=["edgetpu", "gpu"]) == ["edgetpu", "gpu", "cpu"]
    assert names(delegates=["cpu", "gpu"]) == ["cpu", "gpu"]
    assert names(delegates=["gpu", "gpu"], require=0.9) == ["gpu"]


def test_a_library_starts_at_the_configurations_folder(folder: Path) -> None:
    mine = {"kind": "external", "library": "lib/libmine.so", "options": {"threads": 2}}
    wanted = config.build(
        {**tables(delegates=["mine", "external:/opt/other.so", "vx"]), "delegates": {"mine": mine}}, folder
    )
    made = plan_pipeline(assignment_of(wanted, "motion"), "motion", SAMPLES)
    first, second, third, last = made.delegates
    assert (first.libraries, first.options) == ((str(folder / "lib/libmine.so"),), {"threads": "2"})
    assert second.libraries == ("/opt/other.so",)
    assert third.libraries[0] == "libvx_delegate.so"
    assert last == CPU


@pytest.mark.parametrize(
    ("pipeline", "more", "problem"),
    [
        ({"delegates": ["edgetup"]}, {}, "pipelines.motion.delegates: delegate 'edgetup' is neither known"),
        (
            {"delegates": ["mine"]},
            {"delegates": {"mine": {"kind": "vxx"}}},
            "delegates.mine.kind: 'vxx' is",
        ),
        ({}, {"delegates": {"mine": {"libary": "x"}}}, "delegates.mine.libary: unknown key"),
        ({"require": 1.5}, {}, "pipelines.motion.require"),
        ({"every": 0}, {}, "pipelines.motion.every"),
        ({"ladder": [{"modle": "x"}]}, {}, "pipelines.motion.ladder"),
        ({}, {"governor": {"hot": 60}}, "governor.cool must be below hot"),
        ({"ladder": [{"every": 2}, {"model": "gone.tflite"}]}, {}, "pipelines.motion.ladder[1]: there is no file"),
        ({"backup": {"model": "gone.tflite"}}, {}, "pipelines.motion.backup.model: there is no file"),
        ({"backup": {"model": "wide.tflite"}}, {}, "source, window and transforms give [1, 3]"),
    ],
)
def test_check_says_what_is_wrong(
    pipeline: dict[str, Any], more: dict[str, Any], problem: str, folder: Path
) -> None:
    try:
        problems, *_ = check.inspect(config.build({**tables(**pipeline), **more}, folder))
    except ConfigError as error:
        problems = list(error.problems)
    assert any(problem in said for said in problems), problems


def test_check_shows_every_rung(folder: Path) -> None:
    lines = check.inspect(config.build(tables(ladder=[{"every": 4}], delegates=["gpu"]), folder)).lines
    # What a GPU lacks on this machine, if it lacks anything, comes behind.
    assert [line.partition("; not here: gpu: ")[0] for line in lines] == [
        "motion: line -> dense 0 on gpu, cpu",
        "motion: line -> dense 0 on gpu, cpu, one window in 4 (rung 1 of its ladder)",
    ]


@pytest.mark.skipif(sys.platform == "darwin", reason="this is macOS")
def test_check_says_that_core_ml_needs_macos(folder: Path) -> None:
    bundle(
        folder / "apple-1.limpet", {"model.mlmodel": b""}, name="apple", runtime="coreml", model="model.mlmodel"
    )
    problems, *_ = check.inspect(config.build(tables(model="apple-1.limpet"), folder))
    assert any("needs macOS" in problem for problem in problems)


def test_a_program_that_embeds_a_pipeline_falls_back_too(folder: Path) -> None:
    with Pipeline(plan_pipeline(motion(folder, delegates=["vx"]), "motion", SAMPLES)) as pipeline:
        assert pipeline.model.delegate == "cpu"
        assert pipeline.degraded
    with (
        pytest.raises(ModelError, match="libvx_delegate"),
        Pipeline(plan_pipeline(motion(folder, delegates=["vx"], require=1), "motion", SAMPLES)),
    ):
        pass


DTYPES = arrays.integer_dtypes() | arrays.floating_dtypes(sizes=(16, 32, 64)) | arrays.boolean_dtypes()


@given(st.lists(arrays.arrays(DTYPES, arrays.array_shapes(max_dims=4, max_side=5)), min_size=1, max_size=4))
def test_arrays_come_through_shared_memory_as_they_are(values: list[np.ndarray[Any, Any]]) -> None:
    places = lay_out([TensorSpec("", value.shape, np.dtype(np.int8)) for value in values])
    with mmap.mmap(-1, places[-1][0] + places[-1][1]) as memory:
        forms = [put(memory, place, value) for place, value in zip(places, values, strict=True)]
        for place, form, value in zip(places, forms, values, strict=True):
            seen = view(memory, place, form).copy()
            assert seen.dtype == value.dtype
            assert np.array_equal(seen, value, equal_nan=value.dtype.kind == "f")


def test_an_array_too_large_for_its_place_is_refused() -> None:
    ((offset, size),) = places = lay_out([TensorSpec("", (2, 2), np.dtype(np.int8))])
    assert (offset, size) == (0, 32)
    with mmap.mmap(-1, 4096) as memory, pytest.raises(ModelError, match=r"shape \[5\] and float64 is too large"):
        put(memory, places[0], np.zeros(5))
