"""`limpet doctor` about updates of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet.contracts.updates import DesiredModel, UpdatePolicy
from limpet.doctor.updates import updates
from limpet.models import deployed
from limpet.updates.state import Update, Updates
from support.patients import patient, table

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.updates import UpdateStage
    from limpet.doctor.finding import Finding

DAY = 24 * 3600.0


def found(tmp_path: Path, **tables: Any) -> list[Finding]:
    return list(updates(patient(tmp_path, config=table(tmp_path, **tables))))


def test_what_updates_lack_is_found(tmp_path: Path) -> None:
    root, commands, files = found(tmp_path, updates={})
    assert (root.result, root.what) == ("warn", "[updates] has no [trust]")
    assert commands.what == "over MQTT, these commands are refused: install and rollback"
    assert (files.result, files.what) == ("ok", "models of updates take 0.0 MB of 512 MB")
    assert [one.what for one in found(tmp_path)] == [files.what]
    allowed = {"id": "d", "commands": ["install", "rollback"]}
    assert commands not in found(tmp_path, updates={}, device=allowed)


def keep(tmp_path: Path, stage: UpdateStage, policy: UpdatePolicy, now: float, reason: str = "") -> str:
    """Keep an update in this stage, and return the name of its pipeline."""
    config = table(tmp_path)
    name = next(iter(config.pipelines))
    request = DesiredModel(model="motion", version=2, sha256="0" * 64, length=1, policy=policy)
    one = Update(pipeline=name, stage=stage, since=now, request=request, reason=reason)
    config.device.state.mkdir(parents=True, exist_ok=True)
    deployed.write(config.device.state, Updates(pipelines={name: one}))
    return name


def test_an_update_that_does_not_go_on_is_found(tmp_path: Path) -> None:
    now = patient(tmp_path, config=table(tmp_path)).now
    name = keep(tmp_path, "trial", UpdatePolicy(), now - 3 * DAY)
    finding = found(tmp_path)[-1]
    assert finding.what == f"{name}: the update to motion 2 is in stage trial for 3 days"
    assert finding.fix == f"limpet model history {name}"
    keep(tmp_path, "trial", UpdatePolicy(), now)
    assert [one.result for one in found(tmp_path)] == ["ok"]
    keep(tmp_path, "staged", UpdatePolicy(start="operator"), now)
    assert found(tmp_path)[-1].fix == f"limpet model install --pipeline {name}"
    keep(tmp_path, "failed", UpdatePolicy(), now, "The disk is full.")
    assert (found(tmp_path)[-1].result, found(tmp_path)[-1].why) == ("warn", "The disk is full.")
