"""A reload: the configuration is read and checked, its reporters are opened, then it is in force or refused."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from limpet import config as configuration
from limpet.errors import ConfigError, ConfigFileError
from limpet.supervision.adoption import Adoption
from limpet.supervision.checking import Known
from limpet.wording import joined

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from limpet.delivery.reporters import Reporters
    from limpet.supervision.checking import Checking
    from limpet.supervision.fleet import Fleet
    from limpet.supervision.learning import Learning
    from limpet.supervision.local_api import LocalApi
    from limpet.supervision.pipeline_reports import Outputs, PipelineReports
    from limpet.supervision.planner import Planner
    from limpet.supervision.updates import Updater

log = logging.getLogger(__name__)


def placed(path: Path, error: ConfigError) -> ConfigFileError:
    """Return a problem with its place in a file. The finder of places is imported only if it is needed."""
    if isinstance(error, ConfigFileError):
        return error
    from limpet.problems.locate import read_and_locate

    return ConfigFileError(read_and_locate(path, error.problems))


class Reloads:
    """Reads the configuration file at ``path`` again. ``wake``: ends the wait of the loop, from any thread."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that a configuration changes
        self,
        path: Path,
        fleet: Fleet,
        updates: Updater,
        outputs: Outputs,
        reports: PipelineReports,
        planner: Planner,
        reporters: Reporters,
        api: LocalApi,
        learning: Learning,
        wake: Callable[[], None],
    ) -> None:
        self._path = path
        self._fleet = fleet
        self._updates = updates
        self._events = outputs.events
        self._auditing = outputs.auditing
        self._reports = reports
        self._planner = planner
        self._checks = planner.checks
        self._reporters = reporters
        self._api = api
        self._learning = learning
        self._wake = wake

    def begin(self) -> None:
        """Read the configuration again, and have it checked. If another check still runs, it does not count."""
        self._checks.checking = None
        try:
            wanted = self._updates.chosen(configuration.read(self._path), self.report_damage)
            if wanted.device != self._planner.config.device:
                raise ConfigError(["device: changes here need a restart of the service"])  # noqa: TRY301
            known = Known(self._planner.plan.refused_models(wanted))
            self._checks.checking = self._fleet.check(wanted, known)
        except Exception as error:  # noqa: BLE001 - a bug there must not end what runs
            self._refuse(error)

    def tend(self) -> None:
        """Go on after a check that is done, and after a change of reporters."""
        checks = self._checks
        if checks.adoption is not None and checks.adoption.done:
            self._finish(checks.adoption)
        if checks.adoption is None and checks.checking is not None and checks.checking.done:
            checking, checks.checking = checks.checking, None
            if checking.options:
                self._adopt_reporters(checking)
            else:
                self._planner.take_models(checking)

    def close(self) -> None:
        """Wait until a change of reporters is over."""
        if self._checks.adoption is not None:
            self._checks.adoption.wait()

    def taken(self) -> None:
        """Report that the configuration is in force, and forget what is not in it any more."""
        self._reports.remove_all_but(self._planner.config.pipelines)
        self._auditing.configured(self._path)
        self._fleet.roots.use(self._planner.config, self)
        self._api.use(self._planner.config)

    def _adopt_reporters(self, checking: Checking) -> None:
        """Change the reporters to those of a configuration that was checked."""
        if checking.problems:
            self._refuse(ConfigError(checking.problems))
        else:
            self._checks.adoption = Adoption(self._reporters, checking, self._wake)

    def _finish(self, adoption: Adoption) -> None:
        """Take a configuration whose reporters are open."""
        self._checks.adoption = None
        if adoption.error is not None:
            self._refuse(adoption.error)
            return
        self._updates.use(adoption.checking.config)
        self._learning.use(adoption.checking.config)
        self._planner.take_config(adoption.checking)
        self.taken()
        log.info("configuration read again")

    def _refuse(self, error: Exception) -> None:
        if isinstance(error, ConfigError):
            reason = joined(placed(self._path, error).problems)
        else:
            log.error("the configuration is not taken", exc_info=error)
            reason = str(error)
        self._events.report("refused", "", f"configuration not taken: {reason}")
        self._auditing.configured(self._path, reason)
        self._planner.keep_config()

    def report_damage(self, reason: str) -> None:
        """Report what was wrong with a file of the state directory."""
        self._events.report("state_damaged", "", reason)

    # --- roots of trust: a new one is a new configuration of what may run

    def root_taken(self, version: int) -> None:
        """Examine all models again, as a new root of trust is in force."""
        self._events.report("root_taken", "", f"root {version} of trust is in force")
        self._auditing.rooted(version)
        self._updates.forget_examined()
        self.begin()

    def root_refused(self, reason: str) -> None:
        """Report that a new root of trust was not taken."""
        self._events.report("root_refused", "", reason)
        self._auditing.rooted(self._fleet.roots.report.root, reason)
