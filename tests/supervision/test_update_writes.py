"""A state of updates that the disk does not take: what happened is passed on again later, and nothing is lost."""

from __future__ import annotations

import select
import selectors
from typing import TYPE_CHECKING

import pytest

from limpet.audit.journal import Journal
from limpet.config import Config, Device, PipelineConfig
from limpet.contracts.assignment import SourceTable
from limpet.delivery.deliveries import DeliveryInbox
from limpet.device.host import Host
from limpet.fork.launch import ForkServerProcess
from limpet.models import deployed
from limpet.models.deployed import Kept
from limpet.models.pins import Pins
from limpet.supervision.fleet import Fleet
from limpet.supervision.update_calls import Calls
from limpet.supervision.updates import Surroundings, Updater
from limpet.updates.comparison import Comparisons
from limpet.updates.state import Deployed, Update, Updates
from limpet.updates.stimuli import NotTakenOver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    selector = selectors.PollSelector()
    made = Fleet(selector, ForkServerProcess(), lambda _cell, _record: None)
    yield made
    made.close()
    selector.close()


def bundle(version: int) -> Deployed:
    digest = f"{version:064x}"
    return Deployed(model="motion", version=version, sha256=digest, file_sha256=digest, length=1)


def updater(state: Path, fleet: Fleet, events: list[str]) -> Updater:
    """Return the updates of two pipelines, each of which has a model on trial."""
    pipelines = {name: PipelineConfig(source="line", model="m.tflite") for name in "ab"}
    config = Config(state, Device(id="d", state=state), {"line": SourceTable("replay", {})}, pipelines, {})
    on_trial = {
        name: Update(pipeline=name, stage="trial", candidate=bundle(3), good=bundle(2)) for name in pipelines
    }
    device = Surroundings(
        fleet, DeliveryInbox(lambda: None), Host(None), Journal(state, "1"), Comparisons("d", "1")
    )
    one = Updater(config, Kept(Updates(pipelines=on_trial), Pins(), intact=True), device)
    one.boot()
    one.begin(
        Calls(
            select=lambda: None,
            shadow=lambda _pipeline, _shadow: None,
            publish=lambda _pipeline: None,
            report=lambda event, _pipeline, _reason: events.append(event),
            try_out=lambda _pipeline, _model: None,
            has_model=lambda _pipeline: True,
            model=lambda _pipeline: None,
            has_first=lambda _pipeline: True,
        )
    )
    return one


def test_what_waits_is_passed_on_also_if_a_later_state_could_be_written(tmp_path: Path, fleet: Fleet) -> None:
    events: list[str] = []
    updates = updater(tmp_path, fleet, events)
    (tmp_path / "updates.json").rename(tmp_path / "kept")
    (tmp_path / "updates.json").mkdir()
    assert not updates.feed("a", NotTakenOver("It does not open."))
    assert not updates.feed("a", NotTakenOver("It does not open."))
    assert events == ["update_waits"]
    (tmp_path / "updates.json").rmdir()
    assert updates.feed("b", NotTakenOver("It does not open."))
    for _ in range(400):
        if "a" in stages(tmp_path, "rolled_back"):
            break
        select.select([], [], [], 0.05)
        updates.tend()
    assert stages(tmp_path, "rolled_back") == {"a", "b"}


def stages(state: Path, stage: str) -> set[str]:
    return {name for name, one in deployed.read(state).pipelines.items() if one.stage == stage}
