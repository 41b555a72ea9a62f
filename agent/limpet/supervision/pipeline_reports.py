"""What is reported of each pipeline: its state, its model, and that it is gone."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from limpet.contracts.messages import PipelineRemoved, SnapshotMessage
from limpet.supervision.cell_pipelines import AT_WORK
from limpet.supervision.health import HealthReader, model_reported, now
from limpet.supervision.traffic import LEAVING
from limpet.wire.records import Transition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet.config import PipelineConfig
    from limpet.contracts.assignment import ModelFile
    from limpet.contracts.messages import ModelReported, Origin
    from limpet.delivery.bus import Bus
    from limpet.models.history import History
    from limpet.supervision.auditing import Auditing
    from limpet.supervision.events import Events
    from limpet.supervision.ledger import Account, Ledger
    from limpet.supervision.roster import Roster
    from limpet.supervision.updates import Updater


class Outputs(NamedTuple):
    """Where the supervisor writes what happens: into memory, onto the disk, and onto the bus."""

    origin: Origin
    bus: Bus
    ledger: Ledger
    events: Events
    history: History
    roster: Roster
    auditing: Auditing


class PipelineReports:
    """Reports the pipelines. ``updates`` says how far the update of a pipeline is."""

    def __init__(self, outputs: Outputs, updates: Updater) -> None:
        self._outputs = outputs
        self._updates = updates
        self._health = HealthReader(outputs.origin)
        self._leaving: dict[str, float] = {}
        """Pipelines that are not configured any more, and until when their workers may report that they stop."""

    def publish_health(self) -> None:
        """Publish the health of all pipelines."""
        for account in self._outputs.ledger.current:
            self._outputs.bus.append(self._health.pipeline(account, now()))

    def publish_health_of(self, pipeline: str) -> None:
        """Publish the health of one pipeline."""
        account = self._outputs.ledger.account(pipeline)
        if not account.removed:
            self._outputs.bus.append(self._health.pipeline(account, now()))

    def publish_model(self, pipeline: str) -> None:
        """Publish which model a pipeline runs, and how far its update is."""
        self._outputs.bus.append(self.model(pipeline))

    def model(self, pipeline: str) -> ModelReported:
        """Return which model a pipeline runs, and how far its update is."""
        out, account = self._outputs, self._outputs.ledger.account(pipeline)
        return model_reported(out.origin, account, now(), self._updates.report(pipeline))

    def move(self, to: Transition, assigned: ModelFile | None = None) -> bool:
        """Report a new state of a pipeline. Return ``False`` if that pipeline is gone already.

        ``assigned``: the model that the pipeline was to run last.
        """
        out, account = self._outputs, self._outputs.ledger.account(to.pipeline)
        if account.removed:
            return False
        for event, reason in account.move(to):
            out.events.report(event, to.pipeline, reason)
        if to.state == "running":
            out.history.ran(to.pipeline, to.model, to.version)
            out.auditing.ran(to.pipeline, to.model, to.version, assigned)
        out.bus.append(self._health.pipeline(account, now()))
        self.publish_model(to.pipeline)
        if to.pipeline in self._leaving and to.state == "stopped":
            self._remove(account)
        return True

    def _remove(self, account: Account) -> None:
        """Have the state of a pipeline that is not configured any more forgotten, here and by brokers."""
        self._leaving.pop(account.pipeline, None)
        account.removed = True
        self._outputs.bus.append(
            PipelineRemoved(device=self._outputs.origin.device, pipeline=account.pipeline, time=now())
        )

    def remove_all_but(self, pipelines: Mapping[str, PipelineConfig]) -> None:
        """Report that pipelines of earlier configurations are stopped, and clear what brokers retain of them."""
        out = self._outputs
        out.history.forget_all_but(pipelines)
        self._leaving = {name: at for name, at in self._leaving.items() if name not in pipelines}
        pictured = [name for name, one in pipelines.items() if one.snapshots is not None]
        gone = out.roster.adopt(pipelines, pictured)
        for name in out.roster.unpictured:
            out.bus.append(SnapshotMessage(device=out.origin.device, pipeline=name, time=now()))
        for name in gone:
            runs = out.ledger.account(name).last.state in AT_WORK
            self._leaving[name] = monotonic() + (LEAVING if runs else 0.0)  # its worker reports that it stops
        self.tend()

    def tend(self) -> None:
        """Take pipelines as stopped whose workers do not report it."""
        for name in [name for name, at in self._leaving.items() if at <= monotonic()]:
            self.move(Transition(name, "stopped", "no longer configured"))
