"""``limpet.Pipeline``: what a program that embeds Limpet sees."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet import Anomaly, Classification, ConfigError, ModelError, Pipeline, Regression
from support import models
from support.bundles import bundle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parent.parent
SHUTTLE = ROOT / "agent" / "limpet" / "demo_data" / "shuttle-1.limpet"
ROWS = np.arange(27, dtype=np.float32).reshape(3, 9)

TEXT = """
[device]
id = "d"
state = "state"
[jsonl]
[sources.s]
kind = "replay"
path = "n.csv"
rate = 10
speed = "flat-out"
[pipelines.motion]
source = "s"
model = "motion"
"""


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    (tmp_path / "n.csv").write_text("n\n1\n2\n3\n")
    (tmp_path / "state" / "models").mkdir(parents=True)
    (tmp_path / "limpet.toml").write_text(TEXT)
    return tmp_path / "limpet.toml"


def put(configured: Path, version: int, decoder: str) -> None:
    model = models.same(configured.with_name("same.tflite"), (1, 1), "float32").read_bytes()
    path = configured.parent / "state" / "models" / f"motion-{version}.limpet"
    bundle(path, {"model.tflite": model}, name="motion", version=version, decoder={"kind": decoder})


def test_a_version_that_does_not_work_gives_way_and_the_log_says_why(
    configured: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(configured, 1, "regress")
    put(configured, 2, "of-a-later-version")
    with Pipeline.from_config(configured, "motion") as pipeline:
        results = list(pipeline)
    assert [(one.version, one.sample) for one in results] == [(1, 0), (1, 1), (1, 2)]
    assert "pipeline motion: skipped motion-2.limpet: " in caplog.text


def test_what_cannot_run_is_an_error_that_says_why(configured: Path) -> None:
    put(configured, 2, "of-a-later-version")
    with pytest.raises(ModelError, match="'of-a-later-version' is not one of the decoders"):
        Pipeline.from_config(configured, "motion")
    with pytest.raises(ConfigError, match=r"no pipeline 'moton' \(did you mean 'motion'\?\)"):
        Pipeline.from_config(configured, "moton")


@pytest.fixture
def doubles(tmp_path: Path) -> Path:
    """A bare model on windows of two samples of two channels, whose output is its input."""
    return models.same(tmp_path / "same.tflite", (1, 2, 2), "float32")


TWO = {"size": 2, "hop": 1}


def test_arrays_go_in_and_typed_results_come_out() -> None:
    with Pipeline(SHUTTLE, output=Anomaly) as pipeline:
        results = pipeline.feed(ROWS)
        assert [type(one.output) for one in results] == [Anomaly] * 3
        assert [one.sample for one in results] == [0, 1, 2]
        assert [one.sample for one in pipeline.feed(ROWS[:1])] == [3]
        assert pipeline.infer(ROWS[1]).output == results[1].output
        assert (results[0].model, results[0].version, results[0].delegate) == ("shuttle", 1, "cpu")


def test_windows_go_over_from_one_call_to_the_next_but_for_gaps(doubles: Path) -> None:
    with Pipeline(doubles, window=TWO, shape=(2,), output=Regression) as pipeline:
        assert pipeline.feed([[0, 1]]) == []
        assert [one.sample for one in pipeline.feed([[2, 3], [4, 5]])] == [1, 2]
        assert pipeline.feed([[6, 7]], gap=True) == []
        assert pipeline.feed([[np.nan, 0], [1, 1]]) == []
        assert pipeline.discarded == 2
        assert list(pipeline.infer([[8, 9], [10, 11]]).output.values.values()) == [8, 9, 10, 11]


def test_columns_are_found_by_their_names() -> None:
    names = [f"f{number}" for number in range(9, 0, -1)]
    with Pipeline(SHUTTLE, channels=["time", *names]) as turned, Pipeline(SHUTTLE) as plain:
        swapped = np.column_stack([np.zeros(3), ROWS[:, ::-1]])
        assert [one.output for one in turned.feed(swapped)] == [one.output for one in plain.feed(ROWS)]


def test_times_are_those_of_the_samples(doubles: Path) -> None:
    with Pipeline(doubles, window=TWO, shape=(2,)) as pipeline:
        (result,) = pipeline.feed([[0, 1], [2, 3]], times=[1_700_000_000.25, 1_700_000_000.5])
        assert result.wall_ns == 1_700_000_000_500_000_000
        with pytest.raises(ValueError, match="times: expected 1 finite numbers of seconds, one for each sample"):
            pipeline.feed([[0, 1]], times=[1.0, 2.0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 9)), r"a window has shape \(1, 9\), not \(2, 9\)"),
        (np.zeros(8), r"a window has shape \(1, 9\), not \(8,\)"),
        ([["a"] * 9], "expected numbers, got <U1"),
        ([np.inf] * 9, "a value of the window is NaN or infinite"),
    ],
)
def test_a_window_of_another_kind_is_refused(values: Any, message: str) -> None:
    with Pipeline(SHUTTLE) as pipeline:
        with pytest.raises(ValueError, match=message):
            pipeline.infer(values)
        assert len(pipeline.feed(ROWS)) == 3


FACES = ROOT / "agent" / "limpet" / "demo_data" / "face-detection-1.limpet"
WORDS = FACES.with_name("okay-nabu-1.limpet")


@pytest.mark.parametrize(
    ("model", "values", "way"),
    [
        (FACES, np.zeros((24, 32, 3), np.uint8), r"open the pipeline with shape=\(24, 32, 3\)"),
        (FACES, np.zeros((2, 24, 32, 3), np.uint8), r"open the pipeline with shape=\(24, 32, 3\)"),
        (FACES, np.zeros((128, 128, 3), np.uint8), r"values\[None\] has one sample"),
        (WORDS, np.zeros(16000), r"values\[:, None\] has one channel"),
    ],
)
def test_the_way_to_use_pictures_and_sound_of_another_shape_is_named(model: Path, values: Any, way: str) -> None:
    with Pipeline(model) as pipeline, pytest.raises(ValueError, match=way):
        pipeline.feed(values)


def test_pictures_of_another_size_suit_a_bare_model(tmp_path: Path) -> None:
    model = models.same(tmp_path / "m.tflite", (1, 2, 2, 3), "uint8")
    picture = np.full((8, 10, 3), (1, 2, 3), np.uint8)
    with Pipeline(model, output=Regression, shape=(8, 10, 3)) as pipeline:
        result = pipeline.infer(picture)
    assert list(result.output.values.values()) == [1, 2, 3] * 4


def test_samples_of_another_shape_are_refused() -> None:
    with (
        Pipeline(SHUTTLE) as pipeline,
        pytest.raises(ValueError, match=r"samples have shape \(n, 9\), not \(9,\)"),
    ):
        pipeline.feed(ROWS[0])


def test_numbers_are_not_changed_without_a_word(tmp_path: Path) -> None:
    picture = np.full((2, 2, 3), 255)
    with Pipeline(models.same(tmp_path / "picture.tflite", (1, 2, 2, 3), "uint8")) as pipeline:
        assert pipeline.window.dtype == np.uint8
        assert pipeline.infer(picture)
        with pytest.raises(ValueError, match="expected uint8, got float64; for an image, bytes from 0 to 255"):
            pipeline.infer(picture / 255)
        with pytest.raises(ValueError, match="expected uint8, got integers outside 0 to 255"):
            pipeline.feed([picture + 1])


def test_another_type_of_result_is_refused() -> None:
    with pytest.raises(ModelError, match="the decoder 'anomaly' gives Anomaly, not Classification"):
        Pipeline(SHUTTLE, output=Classification)


def test_a_file_that_is_no_model_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "damaged.limpet").write_text("PK")
    for name in ("absent.limpet", "damaged.limpet"):
        with pytest.raises(ModelError, match=name):
            Pipeline(tmp_path / name)


def test_a_wrong_key_is_named_as_it_was_given() -> None:
    with pytest.raises(ConfigError, match=r"^window\.siz: unknown key \(did you mean 'size'\?\)$"):
        Pipeline(SHUTTLE, window={"siz": 1})


def test_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match=r"has no option 'chanels' \(did you mean 'channels'\?\)"):
        Pipeline(SHUTTLE, chanels=["a"])  # type: ignore[call-overload]


def test_a_failed_window_costs_no_other() -> None:
    with Pipeline(SHUTTLE) as pipeline:
        failures: list[ModelError] = []
        huge = np.full((1, 9), 3e38, np.float32)
        results = pipeline.feed(np.concatenate([ROWS, huge, ROWS]), failed=failures.append)
        assert len(results) + len(failures) == 7
        assert len(results) >= 6


def test_it_has_no_sensor_of_its_own() -> None:
    with (
        Pipeline(SHUTTLE) as pipeline,
        pytest.raises(TypeError, match=r"has no source: use infer\(\) or feed\(\)"),
    ):
        next(iter(pipeline))


def test_a_stream_is_fed_beside_the_event_loop() -> None:
    async def blocks() -> AsyncIterator[Any]:
        for row in ROWS:
            yield [row]

    async def samples() -> list[int]:
        with Pipeline(SHUTTLE) as pipeline:
            return [one.sample async for one in pipeline.stream(blocks())]

    assert asyncio.run(samples()) == [0, 1, 2]


def test_a_configured_source_is_read_beside_the_event_loop(configured: Path) -> None:
    put(configured, 1, "regress")

    async def samples() -> list[int]:
        with Pipeline.from_config(configured, "motion") as pipeline:
            return [one.sample async for one in pipeline]

    assert asyncio.run(samples()) == [0, 1, 2]


def test_an_iteration_that_is_given_up_ends_at_once(configured: Path) -> None:
    put(configured, 1, "regress")

    async def first() -> int:
        with Pipeline.from_config(configured, "motion") as pipeline:
            async for one in pipeline:
                return one.sample
        raise AssertionError("no result")

    assert asyncio.run(first()) == 0


def test_it_shows_itself() -> None:
    with Pipeline(SHUTTLE) as pipeline:
        assert "model: shuttle 1" in repr(pipeline)
        assert "<th>channels</th><td>f1, f2, f3" in pipeline._repr_html_()


PAGE = (ROOT / "docs" / "how-to" / "embed.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("program", EXAMPLES)
def test_the_examples_of_the_page_run(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_type_checker_knows_the_results() -> None:
    pytest.importorskip("mypy", reason="mypy is a tool of developers; the environment of tflite-runtime has none")
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "tests/data/typed_program.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    revealed = re.findall(r'Revealed type is "(?:limpet.contracts.outputs.)?(.*?)"', done.stdout)
    assert revealed == ["Classification", "float | None", "str"]
    assert "chanels" in done.stdout


def test_a_pipeline_on_a_camera_takes_arrays_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    models.same(tmp_path / "m.tflite", (1, 2, 2, 3), "uint8")
    (tmp_path / "limpet.toml").write_text(
        '[device]\nid = "d"\nstate = "state"\n[jsonl]\n'
        '[sources.camera]\nkind = "images"\npath = "pictures"\n'
        '[pipelines.p]\nsource = "camera"\nmodel = "m.tflite"\ndecoder = { kind = "regress" }\n'
        'transforms = [{ kind = "resize", width = 2, height = 2 }]\n'
    )
    picture = np.full((8, 10, 3), (1, 2, 3), np.uint8)
    with Pipeline.from_config(tmp_path / "limpet.toml", "p", output=Regression) as pipeline:
        result = pipeline.infer(picture)
        fed = pipeline.feed(np.stack([picture, picture + 1]))
        with pytest.raises(ValueError, match=r"samples have shape \(n, n, n, 3\), not \(8, 10\)"):
            pipeline.feed(picture[:, :, 0])
    assert list(result.output.values.values()) == [1, 2, 3] * 4
    assert [list(one.output.values.values())[:3] for one in fed] == [[1, 2, 3], [2, 3, 4]]
