"""A check of a configuration: what is wrong with its options, and which models there are to run.

Options are for plugins to understand, and plugins may read files. Models are files that someone else wrote. So
the supervisor reads neither: each question goes to its own process, in a sandbox.
"""

from __future__ import annotations

import logging
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from limpet.contracts.assignment import FoundModel
from limpet.deployment.assignments import to_check
from limpet.deployment.candidates import candidates_of
from limpet.deployment.survey import Survey
from limpet.trust.settings import accept, trust_of
from limpet.wire.border import cleaned
from limpet.wire.fork_records import Check, Checked, Examine, Examined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from limpet.config import Config, PipelineConfig
    from limpet.supervision.helpers import Helpers
    from limpet.trust.settings import Trust

log = logging.getLogger(__name__)

CHECKING = 5.0
"""Seconds for the check of all options."""
EXAMINING = 30.0
"""Seconds for one model file."""
SURVEYING = 120.0
"""Seconds for all model files. Files that were not examined by then are not run."""


class Known(NamedTuple):
    """What is known of models before a check.

    ``failed``: the SHA-256 of models that did not work. Others are looked for behind them. ``examined``: models
    that were examined, and are not again.
    """

    failed: frozenset[str] = frozenset()
    examined: Sequence[FoundModel] = ()


NOTHING_KNOWN = Known()


class Checking:
    """One check. It is over once it is ``done``; then ``problems`` and ``found`` have the answers."""

    def __init__(
        self,
        helpers: Helpers,
        config: Config,
        known: Known = NOTHING_KNOWN,
        *,
        options: bool = True,
        wrong: Mapping[str, PipelineConfig] | None = None,
    ) -> None:
        """Begin. Answers come while the selector of ``helpers`` is served.

        ``options``: whether the options are checked. They are not if the configuration is at work already.
        ``wrong``: see ``deployment.assignments.to_check``.
        """
        self.config = config
        self.failed = known.failed
        self.options = options
        self.problems: list[str] = []
        self._helpers = helpers
        self.options_checked = not options
        self._until = monotonic() + SURVEYING
        self._survey = Survey(_candidates(config), known.failed)
        self._trust = trust_of(config)
        for one in known.examined:
            self._survey.take(one)
            self._remember(one)
        self._examine()  # This takes longer than the check of the options.
        if options:
            helpers.start("check", Check(*to_check(config, wrong or {})), Checked, CHECKING, self._take_options)

    @property
    def done(self) -> bool:
        """Whether all answers are there."""
        return self.options_checked and self._survey.done

    @property
    def found(self) -> dict[str, list[FoundModel]]:
        """The models, as ``limpet.deployment.desired`` takes them."""
        return self._survey.found

    def _examine(self) -> None:
        if monotonic() > self._until:
            self._survey.give_up(f"not examined: the models took longer than {SURVEYING:.0f} s")
        for path in self._survey.due():
            answer = partial(self._take_model, path)
            task = Examine(path, trust=self._trust, key=self._survey.key(path))
            self._helpers.start(path.name, task, Examined, EXAMINING, answer, again=1)

    def _take_options(self, checked: Checked | None, reason: str) -> None:
        """If the process failed, nothing is known to be wrong."""
        self.options_checked = True
        if checked is None:
            log.warning("the options are not checked: %s", reason)
        else:
            self.problems = [cleaned(problem) for problem in checked.problems]

    def _take_model(self, path: Path, examined: Examined | None, reason: str) -> None:
        found = found_of(path, examined, reason)
        self._remember(found)
        self._survey.take(found)
        self._examine()

    def _remember(self, found: FoundModel) -> None:
        remember(self._trust, found)


def found_of(path: Path, examined: Examined | None, reason: str) -> FoundModel:
    """Return what an examination found in a file. ``reason``: why it found nothing."""
    if examined is None:
        return FoundModel(path, "", 0, problem=f"{path}: the process that examines it failed: {reason}")
    return FoundModel(
        path,
        examined.name,
        examined.version,
        examined.sha256,
        cleaned(examined.problem),
        runtime=examined.runtime,
        decoder=examined.decoder,
        signed_by=examined.signed_by,
        in_date=examined.in_date,
        untrusted=examined.untrusted,
    )


def remember(trust: Trust | None, found: FoundModel) -> None:
    """Remember a model that was accepted in date: it still runs after its signature or the root expires."""
    if trust is None or not found.in_date or found.problem or found.sha256 in trust.accepted:
        return
    try:
        accept(trust.chain, [found.sha256])
    except OSError as error:
        log.warning("trust: %s: %s; after an expiry, models do not run", trust.chain, error.strerror)


def _candidates(config: Config) -> dict[str, list[FoundModel]]:
    """Return the files that a configuration may mean. What is wrong may have any file name of the store in it."""
    return {
        model: [structs.replace(one, problem=cleaned(one.problem)) for one in found]
        for model, found in candidates_of(config).items()
    }
