"""What updates select at a start of the daemon, before anything else has been started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limpet.config import Config, Device, PipelineConfig
from limpet.contracts.assignment import SourceTable
from limpet.models import deployed
from limpet.models.deployed import Kept
from limpet.models.pins import Pins
from limpet.supervision.updates import Surroundings, Updater
from limpet.updates.comparison import Comparisons
from limpet.updates.state import Deployed, Update, Updates

if TYPE_CHECKING:
    from pathlib import Path

NOTHING: Any = None
"""What is not needed before the work begins."""


def bundle(version: int) -> Deployed:
    digest = f"{version:064x}"
    return Deployed(model="motion", version=version, sha256=digest, file_sha256=digest, length=1)


def selected(state: Path, boots: int = 0) -> list[int | None]:
    """Return the versions that a pipeline may run after a start in the middle of a trial."""
    update = Update(pipeline="p", stage="trial", candidate=bundle(3), good=bundle(2), boots=boots)
    pipelines = {"p": PipelineConfig(source="line", model="m.tflite")}
    sources = {"line": SourceTable("replay", {})}
    config = Config(state, Device(id="d", state=state), sources, pipelines, {})
    around = Surroundings(NOTHING, NOTHING, NOTHING, NOTHING, Comparisons("d", "1"))
    kept = Kept(Updates(pipelines={"p": update}), Pins(), intact=True)
    models = Updater(config, kept, around).boot().selected["p"]
    return [one.version if one else None for one in models]


@pytest.mark.parametrize(("boots", "versions"), [(0, [3, 2, None]), (2, [3, 2, None]), (3, [2, None])])
def test_a_trial_goes_on_after_a_start_but_not_after_too_many(
    tmp_path: Path, boots: int, versions: list[int | None]
) -> None:
    assert selected(tmp_path, boots) == versions
    kept = deployed.read(tmp_path).pipelines["p"]
    assert (kept.stage, kept.boots) == (("trial", boots + 1) if boots < 3 else ("rolled_back", 0))


def test_a_start_that_cannot_be_counted_runs_no_model_on_trial(tmp_path: Path) -> None:
    (tmp_path / "updates.json").mkdir()
    assert selected(tmp_path) == [2, None]
