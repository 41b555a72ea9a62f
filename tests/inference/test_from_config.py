"""A program that embeds a pipeline of a configuration file runs what the daemon would run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limpet import Pipeline
from limpet.errors import ConfigError, ModelError
from support import models
from support.bundles import bundle

if TYPE_CHECKING:
    from pathlib import Path

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
    assert "pipeline motion: passed over motion-2.limpet: " in caplog.text


def test_what_cannot_run_is_an_error_that_says_why(configured: Path) -> None:
    put(configured, 2, "of-a-later-version")
    with pytest.raises(ModelError, match="'of-a-later-version' is not one of the decoders"):
        Pipeline.from_config(configured, "motion")
    with pytest.raises(ConfigError, match=r"no pipeline 'moton' \(did you mean 'motion'\?\)"):
        Pipeline.from_config(configured, "moton")
