"""Keeps the plan up to date: what each pipeline should run, as models fail, updates select and heat rises.

A reload of the configuration changes the plan, too: ``limpet.supervision.reloads`` decides when.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from limpet.supervision import governor
from limpet.supervision.adoption import Adoption
from limpet.supervision.backup import Backups
from limpet.supervision.checking import Checking, Known
from limpet.supervision.ledger import BackupModel
from limpet.supervision.plan import Plan
from limpet.supervision.shadows import clean as clean_shadow

if TYPE_CHECKING:
    from limpet.config import Config
    from limpet.contracts.adaptation import Correction
    from limpet.contracts.assignment import Assignment, FoundModel, ModelFile, ShadowAssignment
    from limpet.contracts.updates import ModelName
    from limpet.device.host import Host
    from limpet.supervision.fleet import Fleet
    from limpet.supervision.learning import Learning
    from limpet.supervision.pipeline_reports import Outputs, PipelineReports
    from limpet.supervision.showing import Showing
    from limpet.supervision.updates import Updater
    from limpet.wire.records import Incident, Transition


class Checks(msgspec.Struct):
    """The check that goes on, and the change of reporters that follows the check of a new configuration."""

    checking: Checking | None = None
    adoption: Adoption | None = None

    @property
    def reloads(self) -> bool:
        """Whether a new configuration is on its way. Models are chosen once it is taken or refused."""
        return self.adoption is not None or (self.checking is not None and self.checking.options)

    @property
    def rests(self) -> bool:
        """Whether nothing is checked or changed."""
        return self.checking is None and self.adoption is None


class Planner:
    """Decides what the workers run, and has them run it. ``config`` and ``plan`` are what is in force."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that a change of the plan touches
        self,
        config: Config,
        fleet: Fleet,
        updates: Updater,
        outputs: Outputs,
        reports: PipelineReports,
        showing: Showing,
        learning: Learning,
    ) -> None:
        self.config = config
        self.plan: Plan
        self.checks = Checks()
        self.backups = Backups(config.pipelines)
        self._fleet = fleet
        self._updates = updates
        self._ledger = outputs.ledger
        self._events = outputs.events
        self._reports = reports
        self._showing = showing
        self._learning = learning
        self._governor = governor.Governor(config.governor)
        self._next_look = 0.0
        self._is_selected = True
        """Whether what runs is what updates select, or is being changed to that."""

    def start(self, checking: Checking) -> None:
        """Make the first plan, and have the workers run it."""
        self.plan = Plan(self.config, checking.found, self._correction)
        self._assign()

    def take_config(self, checking: Checking) -> None:
        """Have a new configuration in force. Its reporters are open."""
        self.config = checking.config
        self._governor.table = checking.config.governor
        self.backups.use(checking.config.pipelines)
        self.plan.backups = frozenset(self.backups.active)
        for name, account in self._ledger.accounts.items():
            account.backup = account.backup if self.backups.reason(name) else None
        self.plan.reload(checking.config, checking.found, self._fleet.in_use())
        self._follow_plan(checking)

    def keep_config(self) -> None:
        """Go on with the configuration in force, as a new one was refused."""
        self._is_selected = self._updates.selected(self.config).selected == self.config.selected
        if self.plan.failed_models:
            self._look_again()

    def take_models(self, checking: Checking) -> None:
        """Take what was found of models that updates select, and in place of models that failed."""
        before, self.config = self.config.selected, checking.config
        self.backups.retry(name for name, one in checking.config.selected.items() if before.get(name) != one)
        self.plan.backups = frozenset(self.backups.active)
        self.plan.select(checking.config, checking.found, self._fleet.in_use())
        self._follow_plan(checking)

    def retry(self, pipeline: str) -> None:
        """Have the models of a pipeline that failed tried again."""
        self.backups.retry([pipeline])
        self.plan.backups = frozenset(self.backups.active)
        if self.plan.retry(pipeline, self._fleet.in_use()):
            self._change()

    # --- what pipelines do

    def move(self, to: Transition) -> None:
        """Report a new state of a pipeline, and have the updates take note of it."""
        wanted = self.plan.desired.pipelines.get(to.pipeline)
        if self._reports.move(to, wanted.model if wanted else None):
            self._learning.show(to.pipeline)
            self._updates.moved(to, self._fleet.identity(to))

    def report_health(self, pipeline: str) -> None:
        """Publish the health of a pipeline now."""
        self._reports.publish_health_of(pipeline)

    def hear_move(self, to: Transition, *, on_trial: bool) -> None:
        """Decide what a new state of a pipeline means for its models. A model on trial is rolled back instead."""
        if self.plan.hear(to):
            self._look_again()
        elif to.state == "failed" and not on_trial and self.plan.is_about_model(to):
            self.back_up(to.pipeline, to.reason)
        elif to.state == "running" and self.plan.runs_main(to) and self.backups.ran(to.pipeline, monotonic()):
            self._ledger.account(to.pipeline).backup = None

    def hear_incident(self, incident: Incident, *, on_trial: bool) -> None:
        """Decide what a crash, or a model that did not take over, means for the models of a pipeline."""
        if self.plan.hear_incident(incident):
            self._look_again()
        if incident.event == "swap_failed":
            self._learning.swap_failed(incident.pipeline, incident.why or incident.reason)
        if incident.event == "swap_failed" and not on_trial:
            self.backups.not_back(incident.pipeline, incident.why or incident.reason, monotonic())

    def back_up(self, pipeline: str, reason: str) -> None:
        """Have the backup model of a pipeline take over, if it has one."""
        if self.plan.has_backup(pipeline):
            self.backups.failed(pipeline, reason, monotonic())

    # --- what updates have done

    def want_selection(self) -> None:
        """Have the pipelines run what updates select, as soon as nothing else is checked."""
        self._is_selected = False

    def set_shadow(self, pipeline: str, shadow: ShadowAssignment | None) -> None:
        """Begin or end a shadow. The pipeline is left alone."""
        self.plan.shadow(pipeline, shadow)
        self._assign()
        if shadow is None:
            clean_shadow(self.config.folders, pipeline)

    def try_out(self, pipeline: str, model: FoundModel) -> Assignment | None:
        """Return the assignment in which a pipeline runs this model, ``None`` if there is none."""
        return self.plan.try_out(pipeline, model)

    def has_model(self, pipeline: str) -> bool:
        """Return whether a pipeline has a model to run."""
        return self.plan.has_model(pipeline)

    def model(self, pipeline: str) -> ModelName | None:
        """Return the model that a pipeline is to run."""
        return self.plan.model(pipeline)

    def has_first(self, pipeline: str) -> bool:
        """Whether a pipeline is to run the first one of its models."""
        return self.plan.has_first(pipeline)

    def select_models(self) -> None:
        """Have what updates select examined, as far as it was not, and run. A reload that goes on comes first."""
        if self._is_selected or self.checks.reloads:
            return
        self._is_selected = True
        known = Known(self.plan.failed_models, [*self.plan.known, *self._updates.examined])
        self.checks.checking = self._fleet.check(self._updates.selected(self.config), known, options=False)

    # --- what is due

    def next_due(self) -> float | None:
        """Return when the governor looks next, on the monotonic clock; ``None`` if it does not."""
        return self._next_look or None

    def govern(self, machine: Host) -> None:
        """Have pipelines step down or up their ladders if it is time to."""
        if not self.plan.deepest:
            self._next_look = 0.0
            return
        if monotonic() < self._next_look:
            return
        self._next_look = monotonic() + self.config.governor.interval
        if reason := self._governor.update(machine.readings(), self.plan.deepest, monotonic()):
            self.plan.step(self._governor.level, reason, self._fleet.in_use())
            self._change()

    def tend_backups(self) -> None:
        """Have pipelines change to their backup models, and back."""
        self.backups.tend(monotonic())
        active = self.backups.active
        if active.keys() == self.plan.backups:
            return
        self.plan.back_up(active, self._fleet.in_use())
        for name, reason in active.items():
            if model := self.plan.desired.pipelines[name].model:
                self._ledger.account(name).backup = BackupModel(model.name, model.version, reason)
        self._change()

    def correct(self) -> None:
        """Have pipelines run with the corrections that are in force now."""
        self.plan.correct(self._fleet.in_use())
        self._change()

    def _correction(self, pipeline: str, model: ModelFile) -> Correction | None:
        return self._learning.correction(pipeline, model.name, model.version)

    # --- one change

    def report_plan(self) -> None:
        """Report pipelines that have no model, and those that do not run the one that they should."""
        for move in self.plan.failed:
            self.move(move)
            self.back_up(move.pipeline, move.reason)
        for news in self.plan.news:
            self._events.report(news.event, news.pipeline, news.reason)

    def _change(self) -> None:
        self._assign()
        self.report_plan()

    def _assign(self) -> None:
        """Have the workers run what should run."""
        cells = self.plan.cells
        owners = {pipeline: name for name, cell in cells.items() for pipeline in cell.pipelines}
        self._ledger.assign(owners, monotonic())
        self._showing.keep(self.config.sources, self._ledger.accounts)
        self._fleet.assign(cells)

    def _follow_plan(self, checking: Checking) -> None:
        """Have the workers run what should run after a check, and look below models that failed meanwhile."""
        self._change()
        if self.plan.failed_models - checking.failed:
            self._look_again()

    def _look_again(self) -> None:
        """Have lower versions looked for of models that failed. A check or a reload that goes on comes first."""
        if self.checks.rests:
            self.checks.checking = self._fleet.check(self.config, Known(self.plan.failed_models), options=False)
