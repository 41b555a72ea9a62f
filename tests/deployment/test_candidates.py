"""Which models a pipeline may run because of an update, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limpet.config import Config, Device, PipelineConfig, Rung
from limpet.contracts.assignment import FoundModel, SourceTable
from limpet.deployment.candidates import candidates_of, has_others, key
from limpet.deployment.desired import Rollout, desired, on_rung
from limpet.models import deployed
from limpet.models.pins import Pins
from limpet.updates.selection import selection
from limpet.updates.state import Deployed, Update, Updates
from support import bundles

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.updates import UpdateStage


def bundle(version: int) -> Deployed:
    digest = f"{version:064x}"
    return Deployed(model="motion", version=version, sha256=digest, file_sha256=digest, length=1)


ONE, TWO, THREE = bundle(1), bundle(2), bundle(3)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    store = tmp_path / "models"
    store.mkdir()
    for version in (7, 8):
        bundles.bundle(store / f"motion-{version}.limpet", {"model.tflite": b"x"}, version=version)
    pipelines = {
        "p": PipelineConfig(source="line", model="motion", ladder=[Rung(every=2), Rung(model="motion@7")]),
        "q": PipelineConfig(source="line", model="motion@7"),
    }
    device = Device(id="d", state=tmp_path / "state", models=store)
    return Config(tmp_path, device, {"line": SourceTable("replay", {})}, pipelines, {})


def with_update(config: Config, pinned: Pins | None = None, **fields: object) -> Config:
    update = Update(pipeline="p", **fields)  # type: ignore[arg-type]
    return deployed.applied(config, Updates(pipelines={"p": update}), pinned or Pins())


@pytest.mark.parametrize(
    ("stage", "good", "previous", "order"),
    [
        ("idle", None, None, [None]),
        ("trial", None, None, [THREE, None]),
        ("trial", TWO, ONE, [THREE, TWO, ONE, None]),
        ("trial", TWO, None, [THREE, TWO, None]),
        ("trial", None, ONE, [THREE, None, ONE]),
        ("shadow", TWO, ONE, [TWO, ONE, None]),
        ("failed", TWO, ONE, [TWO, ONE, None]),
        ("rolled_back", None, TWO, [None, TWO]),
        ("good", TWO, TWO, [TWO, None]),
    ],
)
def test_the_candidate_runs_during_its_trial_alone_and_the_last_good_one_before_others(
    stage: UpdateStage, good: Deployed | None, previous: Deployed | None, order: list[Deployed | None]
) -> None:
    update = Update(pipeline="p", stage=stage, candidate=THREE, good=good, previous=previous)
    assert list(selection(update)) == order


def test_what_an_update_selected_comes_before_what_the_configuration_means(config: Config) -> None:
    wanted = with_update(config, good=TWO, previous=ONE)
    found = candidates_of(wanted)
    models = found[key(wanted, "p", wanted.pipelines["p"])]
    assert [one.path.name for one in models] == [
        "motion-2.limpet",
        "motion-1.limpet",
        "motion-8.limpet",
        "motion-7.limpet",
    ]
    assert models[0].path.parent == config.device.state / "deployed"
    assert [one.sha256 for one in models] == [TWO.sha256, ONE.sha256, "", ""]
    assert [one.version for one in found[key(wanted, "q", wanted.pipelines["q"])]] == [7]


def test_a_pipeline_runs_what_was_selected_except_on_a_rung_with_its_own_model(config: Config) -> None:
    wanted = with_update(config, good=TWO)
    found = {model: [sound(one) for one in models] for model, models in candidates_of(wanted).items()}
    versions = []
    for level in range(3):
        model = desired(wanted, found, level=level).pipelines["p"].model
        assert model is not None
        versions.append(model.version)
    assert versions == [2, 2, 7]
    failed = desired(wanted, found, Rollout(failed={"p": {TWO.sha256: "it failed"}})).pipelines["p"]
    assert failed.model
    assert failed.model.version == 8
    assert failed.skipped == ("motion-2.limpet: it failed",)
    assert has_others(wanted, "p", wanted.pipelines["p"])
    assert has_others(wanted, "p", on_rung(wanted.pipelines["p"], 1))
    assert not has_others(wanted, "q", wanted.pipelines["q"])


def test_a_pipeline_with_a_pin_of_its_own_runs_no_model_of_an_update(config: Config) -> None:
    assert with_update(config, Pins(pipelines={"p": 7}), good=TWO).selected == {}
    assert with_update(config, Pins(pipelines={"q": 7}), good=TWO).selected.keys() == {"p"}
    assert with_update(config, Pins({"motion": 7}), good=TWO).selected.keys() == {"p"}


def test_an_update_of_a_pipeline_that_is_not_configured_selects_nothing(config: Config) -> None:
    updates = Updates(pipelines={"gone": Update(pipeline="gone", good=TWO)})
    assert deployed.applied(config, updates, Pins()).selected == {}


def sound(one: FoundModel) -> FoundModel:
    return FoundModel(one.path, one.name, one.version, one.sha256 or f"sha-{one.path.name}")
