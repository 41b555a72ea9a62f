"""What is done about updates: processes are started and ended, and files are put into their places.

Each answer is a stimulus for ``limpet.updates.machine``. No bundle is opened here: an examiner in a sandbox does
that.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from limpet.contracts.assignment import FoundModel, ShadowAssignment
from limpet.errors import ConfigError
from limpet.models import sealed
from limpet.supervision import auditing
from limpet.supervision.checking import EXAMINING
from limpet.supervision.update_files import why_not
from limpet.trust.settings import accept, trust_of
from limpet.updates.instructions import (
    Admit,
    CleanUp,
    Fetch,
    Instruction,
    Note,
    Place,
    Select,
    Shadow,
    Stop,
    Verify,
)
from limpet.updates.state import Deployed
from limpet.updates.stimuli import (
    NotAdmitted,
    NotPlaced,
    NotTakenOver,
    NotVerified,
    Placed,
    Verified,
)
from limpet.wire.border import cleaned
from limpet.wire.fork_records import Examine, Examined, Seal, Sealed
from limpet.wording import joined

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from limpet.audit.journal import Journal
    from limpet.config import Config
    from limpet.contracts.updates import DesiredModel
    from limpet.supervision.fleet import Fleet
    from limpet.supervision.helpers import Cancel
    from limpet.supervision.update_calls import Calls
    from limpet.supervision.update_fetches import Fetches
    from limpet.supervision.update_files import UpdateFiles
    from limpet.supervision.update_store import UpdateStore
    from limpet.trust.settings import Trust
    from limpet.updates.state import Update
    from limpet.updates.stimuli import Admitted, Stimulus
    from limpet.wire.fork_records import Verdict

log = logging.getLogger(__name__)

SEALING = 90.0
"""Seconds for encrypting a bundle."""


class Finding(NamedTuple):
    """What an examination found: the model, or why there is none. ``final``: that will not change."""

    model: FoundModel | None
    reason: str = ""
    final: bool = True


class UpdateTasks:
    """The work of all pipelines. ``answer`` takes what came of it. ``fetches`` has the downloads."""

    def __init__(  # noqa: PLR0913, PLR0917 - what an update works with
        self,
        store: UpdateStore,
        files: UpdateFiles,
        fleet: Fleet,
        journal: Journal,
        fetches: Fetches,
        calls: Calls,
        answer: Callable[[str, Stimulus], object],
    ) -> None:
        self.fetches = fetches
        self._store = store
        self._files = files
        self._fleet = fleet
        self._journal = journal
        self._calls = calls
        self._answer = answer
        self._examining: dict[str, Cancel] = {}
        self.examined: dict[Path, FoundModel] = {}
        """Bundles in their final place that were examined since the daemon started, and are intact."""

    def follow(self, config: Config, name: str, instruction: Instruction) -> None:
        """Carry out an instruction for a pipeline."""
        update = self._store.update(name)
        match instruction:
            case Fetch(request, most_bytes):
                self.fetches.start(config, update, request, list(self._store.updates.deployed), most_bytes)
            case Verify(request):
                self._verify(config, name, request)
            case Place(bundle):
                self._place(config, name, bundle)
            case Admit(candidate):
                self._find(config, name, candidate, partial(self._admit, name))
            case Shadow():
                self._begin_or_end_shadow(config, name, instruction)
            case _:
                self._follow_at_once(update, instruction)

    def _follow_at_once(self, update: Update, instruction: Instruction) -> None:
        """Carry out an instruction that has no answer."""
        match instruction:
            case Select():
                self._calls.select()
            case Stop():
                self.stop(update.pipeline)
            case CleanUp():
                self.clean_up(update.pipeline)
            case Note(event, text):
                self._note(update, event, text)

    # --- verify

    def _verify(self, config: Config, name: str, request: DesiredModel) -> None:
        """Have what was fetched examined in a sandbox. Its deployer is gone by now."""
        try:
            path = self._files.whole(name)
            size = path.lstat().st_size if path else 0
        except OSError as error:
            self._answer(name, NotVerified(why_not(error), final=False))
            return
        if path is None:
            self._answer(name, NotVerified("The download is gone.", final=False))
        elif size != request.length:
            self._answer(name, NotVerified(f"The file has {size} bytes, not {request.length}."))
        else:
            trust = trust_of(config)
            task = Examine(path, True, trust, tuple(config.pipelines[name].delegates), True)
            self._examine(name, task, partial(self._take_verified, config, name, trust))

    def _examine(self, name: str, task: Examine, answer: Callable[[Examined | None, str], None]) -> None:
        self._cancel(name)
        self._examining[name] = self._fleet.helpers.start(name, task, Examined, EXAMINING, answer, again=2)

    def _take_verified(
        self, config: Config, name: str, trust: Trust | None, examined: Examined | None, reason: str
    ) -> None:
        self._examining.pop(name, None)
        if examined is None:
            self._answer(name, NotVerified(f"The process that examines the file failed: {reason}.", final=False))
        elif examined.problem:
            self._answer(name, NotVerified(cleaned(examined.problem)))
        elif not examined.file_sha256 or not examined.length:
            self._answer(name, NotVerified("The process that examines the file did not hash it.", final=False))
        else:
            bundle = Deployed(
                model=examined.name,
                version=examined.version,
                sha256=examined.sha256,
                file_sha256=examined.file_sha256,
                length=examined.length,
                signed_by=examined.signed_by,
            )
            self._remember(config, bundle, examined)
            self._accept(examined, trust)
            self._answer(name, Verified(bundle))

    def _accept(self, examined: Examined, trust: Trust | None) -> None:
        """Remember that a model was accepted in date: it still runs after its signature or the root expires."""
        if trust is not None and examined.in_date:
            try:
                accept(trust.chain, [examined.sha256])
            except OSError as error:
                log.warning("trust: %s: %s; after an expiry, this model does not run", trust.chain, error.strerror)

    def _remember(self, config: Config, bundle: Deployed, examined: Examined) -> None:
        path = self._files.path(bundle)
        self.examined[path] = FoundModel(
            path,
            examined.name,
            examined.version,
            examined.sha256,
            runtime=examined.runtime,
            decoder=examined.decoder,
            key=_key(config, bundle),
        )

    # --- place, admit, shadow

    def _place(self, config: Config, name: str, bundle: Deployed) -> None:
        """Put a download into its final place, encrypted if the configuration has a key."""
        try:
            key = sealed.key_of(config, bundle)
            if not key or self._files.is_placed(name, sealed.sealed_size(bundle.length), bundle):
                self._files.place(name, bundle)
            else:
                self._seal(name, bundle, key)
                return
        except OSError as error:
            self._answer(name, NotPlaced(why_not(error)))
        except ConfigError as error:
            self._answer(name, NotPlaced(joined(error.problems)))
        else:
            self._answer(name, Placed())

    def _seal(self, name: str, bundle: Deployed, key: bytes) -> None:
        source = self._files.whole(name)
        if source is None:
            raise FileNotFoundError(2, "the download is gone")
        task = Seal(source, self._files.make_unplaced(bundle), bundle.length, bundle.file_sha256, key)
        self._cancel(name)
        take = partial(self._take_sealed, name, bundle)
        self._examining[name] = self._fleet.helpers.start(name, task, Sealed, SEALING, take, again=2)

    def _take_sealed(self, name: str, bundle: Deployed, answer: Sealed | None, reason: str) -> None:
        self._examining.pop(name, None)
        problem = cleaned(answer.problem) if answer else f"The process that encrypts the file failed: {reason}."
        if problem:
            self._answer(name, NotPlaced(problem))
            return
        try:
            self._files.place_sealed(name, bundle)
        except OSError as error:
            self._answer(name, NotPlaced(why_not(error)))
        else:
            self._answer(name, Placed())

    def _admit(self, name: str, finding: Finding) -> None:
        """Try a model in a separate process."""
        found = finding.model
        if found is None:
            self._answer(name, NotAdmitted(finding.reason, final=finding.final))
        elif (assignment := self._calls.try_out(name, found)) is None:
            why = "The pipeline follows one that has no model. Install a model for that one first."
            self._answer(name, NotAdmitted(why))
        else:
            self._fleet.admissions.start(assignment, name, found.file, partial(self._tried, name))

    def _tried(self, name: str, outcome: Admitted | NotAdmitted, _verdict: Verdict | None) -> None:
        self._answer(name, outcome)

    def _begin_or_end_shadow(self, config: Config, name: str, shadow: Shadow) -> None:
        if shadow.model is None:
            self._calls.shadow(name, None)
        else:
            self._find(config, name, shadow.model, partial(self._shadow, name, shadow))

    def _shadow(self, name: str, shadow: Shadow, finding: Finding) -> None:
        if (found := finding.model) is not None:
            self._calls.shadow(name, ShadowAssignment(found.file, shadow.every, shadow.share))
        elif self._store.update(name).candidate == shadow.model:  # An old model that is damaged proves nothing.
            self._answer(name, NotTakenOver(finding.reason))

    def _find(self, config: Config, name: str, bundle: Deployed, then: Callable[[Finding], None]) -> None:
        """Call ``then`` with what is known of a deployed bundle. It is examined once in a run of the daemon."""
        path = self._files.path(bundle)
        if path in self.examined:
            then(Finding(self.examined[path]))
            return
        task = Examine(
            path,
            trust=trust_of(config),
            delegates=tuple(config.pipelines[name].delegates),
            key=_key(config, bundle),
        )
        self._examine(name, task, partial(self._take_examined, config, name, bundle, then))

    def _take_examined(  # noqa: PLR0913, PLR0917 - what is known when it ends
        self,
        config: Config,
        name: str,
        bundle: Deployed,
        then: Callable[[Finding], None],
        examined: Examined | None,
        reason: str,
    ) -> None:
        self._examining.pop(name, None)
        if examined is None:
            then(Finding(None, f"The process that examines the file failed: {reason}.", final=False))
        elif examined.problem or examined.sha256 != bundle.sha256:
            then(Finding(None, cleaned(examined.problem) or "It is not the model that was verified."))
        else:
            self._remember(config, bundle, examined)
            then(Finding(self.examined[self._files.path(bundle)]))

    # --- end

    def stop(self, name: str) -> None:
        """End the work for a pipeline. Nothing more is heard of it."""
        self.fetches.stop(name)
        self._fleet.admissions.stop(name)
        self._cancel(name)

    def _cancel(self, name: str) -> None:
        if cancel := self._examining.pop(name, None):
            cancel()

    def _note(self, update: Update, event: str, text: str) -> None:
        self._calls.report(event, update.pipeline, text)
        what, who = auditing.of_update(update, event, text)
        self._journal.record(event, what, pipeline=update.pipeline, who=who)

    def clean_up(self, name: str) -> None:
        """Delete the download of a pipeline, and the bundles that no pipeline needs."""
        try:
            self._files.delete_download(name)
        except OSError as error:
            log.warning("the download of pipeline %s is not deleted: %s", name, error.strerror)
        self.prune()

    def prune(self) -> None:
        """Delete the bundles that no pipeline needs."""
        needed = self._store.updates.deployed
        self._files.prune(needed)
        kept = {self._files.path(one) for one in needed}
        self.examined = {path: found for path, found in self.examined.items() if path in kept}

    def forget_examined(self) -> None:
        """Have all deployed bundles examined again, as other keys are trusted now."""
        self.examined = {}


def _key(config: Config, bundle: Deployed) -> bytes:
    """Return the key of a bundle's file. Without one, opening an encrypted file says why that fails."""
    try:
        return sealed.key_of(config, bundle)
    except ConfigError:
        return b""
