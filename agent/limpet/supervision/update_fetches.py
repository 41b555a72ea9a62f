"""Downloads of bundles: from the file beside a local request, or by a deployer in its own process.

What came of each is a stimulus for ``limpet.updates.machine``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from limpet.supervision.update_files import why_not
from limpet.updates.stimuli import Fetched, NotFetched
from limpet.wire.border import cleaned
from limpet.wire.deploy_records import Deploy, Ended, Lacking, Links, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.config import Config
    from limpet.contracts.updates import DesiredModel
    from limpet.delivery.deliveries import DeliveryInbox
    from limpet.supervision.fleet import Fleet
    from limpet.supervision.update_files import UpdateFiles
    from limpet.tables import UpdatesTable
    from limpet.updates.state import Deployed, Update
    from limpet.updates.stimuli import Stimulus
    from limpet.wire.deploy_records import FromDeployer

LEAST_USE = 0.05
"""Share of the bytes from the network that must be new ones of the bundle. An attempt with less has failed."""
LONGEST_FETCH = 6 * 3600.0
"""Seconds for one attempt to fetch a bundle. The next one goes on where it ended."""


@dataclass(slots=True)
class _Fetching:
    """A download that goes on. ``present`` at its start, and now; ``received`` of that over the network."""

    length: int
    began_with: int
    present: int
    received: int = 0


class Fetches:
    """The downloads of all pipelines.

    ``answer`` takes what came of one, ``received`` counts bytes from the network, and ``progressed`` takes the
    name of a pipeline whose download got further.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a download works with, and whom it tells
        self,
        files: UpdateFiles,
        fleet: Fleet,
        inbox: DeliveryInbox,
        answer: Callable[[str, Stimulus], object],
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

    def progress(self, pipeline: str) -> float | None:
        """Return the share of a download that is there, ``None`` if nothing is fetched."""
        one = self._fetching.get(pipeline)
        return min(one.present / one.length, 1.0) if one else None

    def stop(self, pipeline: str) -> None:
        """End the download of a pipeline. Nothing more is heard of it."""
        self._fleet.deployers.stop(pipeline)
        if self._fetching.pop(pipeline, None):
            self._want_chunks()

    def start(
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
            self._answer(name, NotFetched(why_not(error), final=False))

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
        if ended is not None:
            self._count(one, ended.received)
        gained = self._files.present(name) - one.began_with
        # A server that sends much and gives little would otherwise be tried without end.
        progress = gained > 0 and gained >= LEAST_USE * one.received
        if ended is None:
            self._answer(name, NotFetched(f"The deployer ended: {reason}.", final=False, progress=progress))
            return
        self._received(0)  # What was spent is written now.
        if ended.outcome == "fetched":
            self._answer(name, Fetched())
        else:
            self._answer(name, NotFetched(cleaned(ended.reason), final=ended.final, progress=progress))

    def _want_chunks(self) -> None:
        self._inbox.want_chunks(self._fleet.deployers.wanted_chunks())


def _links(table: UpdatesTable) -> Links:
    return Links(
        allow=tuple(table.allow),
        ca_file=table.ca_file,
        certificate=table.certificate,
        key=table.key,
        proxy=table.proxy,
        bytes_per_second=table.bytes_per_second or 0.0,
    )
