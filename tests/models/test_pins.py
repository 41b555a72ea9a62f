"""Pins and the history of models: files that a stranger may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.config import Backup, Config, Device, PipelineConfig, Rung
from limpet.contracts.assignment import SourceTable
from limpet.contracts.savings import CascadeOptions
from limpet.models import history, pins
from limpet.models.history import History, Ran, Runs
from limpet.models.pins import Pins


def configured(model: str, *rungs: Rung) -> Config:
    pipeline = PipelineConfig(source="line", model=model, ladder=list(rungs))
    return Config(Path("/base"), Device(id="d"), {"line": SourceTable("replay", {})}, {"p": pipeline}, {})


@pytest.mark.parametrize(
    ("model", "runs"),
    [
        ("motion", "motion@2"),
        ("motion@3", "motion@3"),
        ("motion-2.limpet", "motion-2.limpet"),
        ("other", "other"),
        ("folder/motion", "folder/motion"),
    ],
)
def test_a_pin_holds_for_the_name_of_a_model_alone(model: str, runs: str) -> None:
    wanted = configured("x", Rung(model=model))
    assert pins.applied(configured(model), Pins({"motion": 2})).pipelines["p"].model == runs
    assert pins.applied(wanted, Pins({"motion": 2})).pipelines["p"].ladder[0].model == runs
    assert wanted.pipelines["p"].ladder[0].model == model


def test_a_pin_holds_for_the_backup_model_too() -> None:
    wanted = configured("motion")
    wanted.pipelines["p"].backup = Backup(model="small")
    backup = pins.applied(wanted, Pins({"small": 2})).pipelines["p"].backup
    assert backup == Backup(model="small@2")


def test_a_pin_holds_for_the_light_model_of_a_cascade_too() -> None:
    wanted = configured("motion")
    wanted.pipelines["p"].cascade = CascadeOptions(model="small", margin=0.5)
    cascade = pins.applied(wanted, Pins({"small": 2})).pipelines["p"].cascade
    assert cascade == CascadeOptions(model="small@2", margin=0.5)


def test_a_pin_of_a_pipeline_holds_for_its_own_model_alone() -> None:
    wanted = configured("motion", Rung(model="motion"), Rung(model="other"))
    pinned = pins.applied(wanted, Pins({"motion": 2, "other": 5}, {"p": 3})).pipelines["p"]
    assert pinned.model == "motion@3"
    assert [rung.model for rung in pinned.ladder] == ["motion@2", "other@5"]
    assert pins.applied(configured("a.limpet"), Pins(pipelines={"p": 3})).pipelines["p"].model == "a.limpet"
    assert pins.applied(wanted, Pins(pipelines={"q": 3})).pipelines["p"].model == "motion"


def test_pins_are_kept(tmp_path: Path) -> None:
    assert pins.read(tmp_path) == Pins()
    kept = Pins({"motion": 2}, {"p": 3})
    pins.write(tmp_path, kept)
    assert pins.read(tmp_path) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"pins": {"../x": 1}}',
        '{"pins": {"a/#": 1}}',
        '{"pins": {"a": -1}}',
        '{"pins": {"a": 1e99}}',
        '{"pins": {"a": true}}',
        '{"pins": {}, "format": 2}',
        '{"pins": {}, "pipelines": {"../x": 1}}',
        '{"pipelines": {"p": "1"}}',
        '{"pins": ' + "[" * 100_000,
    ],
)
def test_damaged_pins_are_none_and_are_set_aside(text: str, tmp_path: Path) -> None:
    (tmp_path / "pins.json").write_text(text)
    assert pins.read(tmp_path) == Pins()
    assert (tmp_path / "pins.json").exists()
    said: list[str] = []
    assert pins.read(tmp_path, said.append) == Pins()
    assert len(said) == 1
    assert "the highest versions of all models run" in said[0]
    assert (tmp_path / "pins.json.damaged").exists()


def test_what_is_no_file_of_ours_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"pins": {"motion": 1}}')
    (tmp_path / "pins.json").symlink_to(tmp_path / "secret")
    said: list[str] = []
    assert pins.read(tmp_path, said.append) == Pins()
    assert "symbolic link" in said[0]


def test_the_version_before_is_remembered(tmp_path: Path) -> None:
    ran = History(tmp_path, pytest.fail)
    for version in (1, 1, 2, 2, 3):
        ran.ran("p", "motion", version)
    assert history.read(tmp_path) == {"p": Runs(Ran("motion", 3), Ran("motion", 2))}
    again = History(tmp_path, pytest.fail)
    again.ran("p", "motion", 3)
    assert history.read(tmp_path)["p"].previous == Ran("motion", 2)
    again.forget_all_but([])
    assert history.read(tmp_path) == {}


def test_a_disk_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in place of the directory")
    ran = History(tmp_path / "state", pytest.fail)
    ran.ran("p", "motion", 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["p", "pins", "running", "format"]), inner),
)


@given(JSON)
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("state")
    for name in ("pins.json", "models.json"):
        (folder / name).write_text(json.dumps(value))
    assert isinstance(pins.read(folder), Pins)
    assert isinstance(history.read(folder), dict)
