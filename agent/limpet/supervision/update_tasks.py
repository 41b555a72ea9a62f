"""What is done about updates: processes are started and ended, and files are put into their places.

Each answer is a stimulus for ``limpet.updates.machine``. No bundle is opened here: an examiner in a sandbox does
that.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from limpet.contracts.assignment import FoundModel
from limpet.errors import ConfigError
from limpet.models import sealed
from limpet.supervision.checking import EXAMINING
from limpet.trust.settings import accept, trust_of
from limpet.updates.state import Deployed
from limpet.updates.stimuli import (
    Fetched,
    NotAdmitted,
    NotFetched,
    NotPlaced,
    NotVerified,
    Placed,
    Verified,
)
from limpet.wire.border import cleaned
from limpet.wire.deploy_records import Deploy, Ended, Lacking, Links, Progress
from limpet.wire.fork_records import Examine, Examined, Seal, Sealed
from limpet.wording import joined

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from limpet.config import Config, UpdatesTable
    from limpet.contracts.assignment import Assignment
    from limpet.contracts.updates import DesiredModel
    from limpet.delivery.deliveries import DeliveryInbox
    from limpet.supervision.fleet import Fleet
    from limpet.supervision.helpers import Cancel
    from limpet.supervision.update_files import UpdateFiles
    from limpet.trust.settings import Trust
    from limpet.updates.state import Update
    from limpet.updates.stimuli import Stimulus
    from limpet.wire.deploy_records import FromDeployer

log = logging.getLogger(__name__)

SEALING = 90.0
"""Seconds for encrypting a bundle."""
LONGEST_FETCH = 6 * 3600.0
"""Seconds for one attempt to fetch a bundle. The next one goes on where it ended."""


@dataclass(slots=True)
class _Fetching:
    """A download that goes on. ``present`` at its start, and now; ``received`` of that over the network."""

    length: int
    began_with: int
    present: int
    received: int = 0
    asked: set[str] = field(default_factory=set)


class Finding(NamedTuple):
    """What an examination found: the model, or why there is none. ``final``: that will not change."""

    model: FoundModel | None
    reason: str = ""
    final: bool = True


class UpdateTasks:
    """The work of all pipelines. ``answer`` takes what came of it; ``received`` counts bytes from the network."""

    def __init__(  # noqa: PLR0913, PLR0917 - what an update works with
        self,
        files: UpdateFiles,
        fleet: Fleet,
        inbox: DeliveryInbox,
        answer: Callable[[str, Stimulus], None],
        received: Callable[[int], None],
        progressed: Callable[[str], None],
    ) -> None:
        self._files = files
        self._fleet = fleet
        self._inbox = inbox
        self._answer = answer
        self._received = received
        self._progressed = progressed
        self._fetching: dict[str, _Fetching] = {}
        self._examining: dict[str, Cancel] = {}
        self.examined: dict[Path, FoundModel] = {}
        """Bundles in their final place that were examined since the daemon started, and are intact."""

    def progress(self, pipeline: str) -> float | None:
        """Return the share of a download that is there, ``None`` if nothing is fetched."""
        one = self._fetching.get(pipeline)
        return min(one.present / one.length, 1.0) if one else None

    # --- fetch

    def fetch(
        self,
        config: Config,
        update: Update,
        request: DesiredModel,
        bases: list[Deployed],
        most_bytes: int | None,
    ) -> None:
        """Fetch a bundle: from the file beside a local request, or by a deployer.

        ``most_bytes``: so many may come over the network now, ``None`` for what the request needs.
        """
        name = update.pipeline
        try:
            if update.local and (self._files.take_local(name) or self._files.whole(name) is not None):
                self._answer(name, Fetched())
            elif not request.sources:
                why = "The file of the request is gone." if update.local else "The request names no source."
                self._answer(name, NotFetched(why, final=True))
            elif config.updates is None:
                reason = "This device fetches no models: its configuration has no table [updates]."
                self._answer(name, NotFetched(reason, final=True))
            else:
                self._deploy(config.updates, name, request, bases, most_bytes)
        except OSError as error:
            self._answer(name, NotFetched(_why(error), final=False))

    def _deploy(
        self,
        table: UpdatesTable,
        name: str,
        request: DesiredModel,
        bases: list[Deployed],
        most_bytes: int | None,
    ) -> None:
        needed = 2 * request.length + sum(source.length for source in request.sources)
        folder = self._files.resume_download(name)
        present = self._files.present(name)
        self._fetching[name] = _Fetching(request.length, present, present)
        deploy = Deploy(
            pipeline=name,
            request=request,
            folder=folder,
            bases=self._files.by_file_hash(bases),
            links=_links(table),
            seconds=LONGEST_FETCH,
            most_bytes=needed if most_bytes is None else min(needed, most_bytes),
        )
        self._fleet.deployers.start(deploy, partial(self._hear, name))

    def _hear(self, name: str, record: FromDeployer | None, reason: str) -> None:
        """Take what a deployer reports. It is believed about its own progress alone."""
        one = self._fetching.get(name)
        if one is None:
            return
        if isinstance(record, Lacking):
            one.asked.add(record.sha256)
            self._want_chunks()
            self._inbox.ask(record.sha256, record.ranges, needs_list=record.needs_list)
        elif isinstance(record, Progress):
            self._count(one, record.received)
            one.present = record.present
            self._progressed(name)
        else:
            del self._fetching[name]
            self._want_chunks()
            self._end_fetch(name, one, record, reason)

    def _count(self, one: _Fetching, received: int) -> None:
        self._received(max(received - one.received, 0))
        one.received = max(received, one.received)

    def _end_fetch(self, name: str, one: _Fetching, ended: Ended | None, reason: str) -> None:
        progress = self._files.present(name) > one.began_with
        if ended is None:
            self._answer(name, NotFetched(f"The deployer ended: {reason}.", final=False, progress=progress))
            return
        self._count(one, ended.received)
        self._received(0)  # What was spent is written now.
        if ended.outcome == "fetched":
            self._answer(name, Fetched())
        else:
            self._answer(name, NotFetched(cleaned(ended.reason), final=ended.final, progress=progress))

    def _want_chunks(self) -> None:
        self._inbox.want_chunks(self._fleet.deployers.wanted_chunks())

    # --- verify

    def verify(self, config: Config, name: str, request: DesiredModel) -> None:
        """Have what was fetched examined in a sandbox. Its deployer is gone by now."""
        try:
            path = self._files.whole(name)
            size = path.lstat().st_size if path else 0
        except OSError as error:
            self._answer(name, NotVerified(_why(error), final=False))
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
        self._examining[name] = self._fleet.helpers.start(name, task, Examined, EXAMINING, answer)

    def _take_verified(
        self, config: Config, name: str, trust: Trust | None, examined: Examined | None, reason: str
    ) -> None:
        self._examining.pop(name, None)
        if examined is None:
            self._answer(name, NotVerified(f"The process that examines it failed: {reason}.", final=False))
        elif examined.problem:
            self._answer(name, NotVerified(cleaned(examined.problem)))
        elif not examined.file_sha256 or not examined.length:
            self._answer(name, NotVerified("The process that examines it did not hash it.", final=False))
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

    # --- place, admit

    def place(self, config: Config, name: str, bundle: Deployed) -> None:
        """Put a download into its final place, encrypted if the configuration has a key."""
        try:
            key = sealed.key_of(config, bundle)
            if not key or self._files.is_placed(name, sealed.sealed_size(bundle.length), bundle):
                self._files.place(name, bundle)
            else:
                self._seal(name, bundle, key)
                return
        except OSError as error:
            self._answer(name, NotPlaced(_why(error)))
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
        self._examining[name] = self._fleet.helpers.start(name, task, Sealed, SEALING, take)

    def _take_sealed(self, name: str, bundle: Deployed, answer: Sealed | None, reason: str) -> None:
        self._examining.pop(name, None)
        problem = cleaned(answer.problem) if answer else f"The process that encrypts it failed: {reason}."
        if problem:
            self._answer(name, NotPlaced(problem))
            return
        try:
            self._files.place_sealed(name, bundle)
        except OSError as error:
            self._answer(name, NotPlaced(_why(error)))
        else:
            self._answer(name, Placed())

    def admit(
        self, config: Config, name: str, bundle: Deployed, try_out: Callable[[str, FoundModel], Assignment | None]
    ) -> None:
        """Try a bundle in a separate process. After a restart of the daemon it is examined again before.

        ``try_out`` returns the assignment in which a pipeline runs a model.
        """
        self.examined_bundle(config, name, bundle, partial(self._admit, name, try_out))

    def _admit(
        self,
        name: str,
        try_out: Callable[[str, FoundModel], Assignment | None],
        finding: Finding,
    ) -> None:
        found = finding.model
        if found is None:
            self._answer(name, NotAdmitted(finding.reason, final=finding.final))
        elif (assignment := try_out(name, found)) is None:
            why = "The pipeline follows one that has no model. Install a model for that one first."
            self._answer(name, NotAdmitted(why))
        else:
            self._fleet.admissions.start(
                assignment, name, found.file, lambda outcome, _: self._answer(name, outcome)
            )

    def examined_bundle(
        self, config: Config, name: str, bundle: Deployed, then: Callable[[Finding], None]
    ) -> None:
        """Call ``then`` with what is known of a deployed bundle.

        It is examined, unless that was done since the daemon started.
        """
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
            then(Finding(None, f"The process that examines it failed: {reason}.", final=False))
        elif examined.problem or examined.sha256 != bundle.sha256:
            then(Finding(None, cleaned(examined.problem) or "It is not the model that was verified."))
        else:
            self._remember(config, bundle, examined)
            then(Finding(self.examined[self._files.path(bundle)]))

    # --- end

    def stop(self, name: str) -> None:
        """End the work for a pipeline. Nothing more is heard of it."""
        self._fleet.deployers.stop(name)
        self._fleet.admissions.stop(name)
        if self._fetching.pop(name, None):
            self._want_chunks()
        self._cancel(name)

    def _cancel(self, name: str) -> None:
        if cancel := self._examining.pop(name, None):
            cancel()

    def forget(self, kept: set[Path]) -> None:
        """Forget what was examined of bundles that are deleted."""
        self.examined = {path: found for path, found in self.examined.items() if path in kept}


def _key(config: Config, bundle: Deployed) -> bytes:
    """Return the key of a bundle's file. Without one, opening an encrypted file says why that fails."""
    try:
        return sealed.key_of(config, bundle)
    except ConfigError:
        return b""


def _links(table: UpdatesTable) -> Links:
    return Links(
        allow=tuple(table.allow),
        ca_file=table.ca_file,
        certificate=table.certificate,
        key=table.key,
        proxy=table.proxy,
        bytes_per_second=table.bytes_per_second or 0.0,
    )


def _why(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}."
