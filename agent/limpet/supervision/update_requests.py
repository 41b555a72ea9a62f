"""Requests for models: over the network from reporters, and from files that a person on this device wrote.

The supervisor does not parse a request. A reader in a sandbox does, and checks its signature.
"""

from __future__ import annotations

import logging
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from msgspec.structs import replace

from limpet.bucket import Bucket
from limpet.contracts.updates import LARGEST_DESIRED
from limpet.device import state_files
from limpet.sha256 import sha256
from limpet.trust.settings import trust_of
from limpet.updates.local_orders import LARGEST, LocalOrder
from limpet.updates.stimuli import Cleared, Ordered, Refused, Wanted
from limpet.wire.border import cleaned
from limpet.wire.fork_records import ReadRequest, RequestRead

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.config import Config
    from limpet.contracts.deliveries import Delivery
    from limpet.supervision.helpers import Cancel, Helpers
    from limpet.supervision.update_files import UpdateFiles
    from limpet.updates.state import Updates
    from limpet.updates.stimuli import Stimulus

    Feed = Callable[[str, Stimulus], bool]
    """Takes what happened to a pipeline. Returns whether what follows is on the disk."""
    Obey = Callable[[str, str, str, Stimulus], bool]
    """Takes a pipeline, a local order, who gave it, and what it means. Returns the same as ``Feed``."""

log = logging.getLogger(__name__)

READING = 20.0
"""Seconds for a reader to read a request."""
MOST_READINGS = 3
"""Readers for one request, if a signal kills them."""
AT_ONCE, PER_SECOND = 30.0, 0.2
"""Requests over the network for one pipeline: so many at once, and on average. Each costs a process."""


class UpdateRequests:
    """Takes requests, has them read, and passes them on.

    ``report`` takes an event, a pipeline and a reason. ``needs_bundle``: whether the bundle beside a request is
    still to be taken.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        files: UpdateFiles,
        helpers: Helpers,
        feed: Feed,
        obey: Obey,
        report: Callable[[str, str, str], None],
        needs_bundle: Callable[[str], bool],
    ) -> None:
        self._files = files
        self._helpers = helpers
        self._feed = feed
        self._obey_local = obey
        self._report = report
        self._needs_bundle = needs_bundle
        self._reading: dict[str, Cancel] = {}
        self._paces: dict[str, Bucket] = {}
        self._held: dict[tuple[str, str], Delivery] = {}
        """The newest request of each pipeline and reporter that came too soon after many others."""

    def take(self, delivery: Delivery, config: Config, known: Updates) -> None:
        """Take a desired state as it came over the network. If too many come, the newest one waits."""
        name = delivery.name
        if name not in config.pipelines or config.updates is None:
            return
        pace = self._paces.setdefault(name, Bucket(PER_SECOND, AT_ONCE))
        before = self._held.pop((name, delivery.reporter), None)
        if pace.level(monotonic()) < 1:
            copy = before is not None and before.payload == delivery.payload and delivery.retained
            self._held[name, delivery.reporter] = before if before is not None and copy else delivery
            return
        pace.spend(1)
        self._take(delivery, config, known)

    def next_due(self) -> float | None:
        """Return when a request that waits is taken, on the monotonic clock; ``None`` if none waits."""
        return min((self._paces[name].full_at(1.0) for name, _ in self._held), default=None)

    def tend(self, config: Config, known: Updates) -> None:
        """Take the requests whose time has come."""
        now = monotonic()
        for name, reporter in list(self._held):
            if self._paces[name].full_at(1.0) <= now:
                self.take(self._held.pop((name, reporter)), config, known)

    def _take(self, delivery: Delivery, config: Config, known: Updates) -> None:
        """Take a request. A copy of the last one that was heard is no news."""
        name, payload = delivery.name, delivery.payload
        if not payload and config.trust is not None and config.trust.signed_requests:
            reason = "The request is not withdrawn: a withdrawal has no signature. Publish a signed request."
            self._report("update_refused", name, reason)
        elif not payload:
            self._withdraw(name)
            self._feed(name, Cleared(delivery.reporter))
        elif len(payload) > LARGEST_DESIRED:
            reason = f"The request has {len(payload)} bytes. The limit is {LARGEST_DESIRED}."
            self._feed(name, Refused(reason))
        elif not (delivery.retained and _is_heard(delivery, known)):
            answer = partial(self._answer, name, payload, delivery)
            self._read(config, known, name, payload, local=False, answer=answer)

    def take_local(self, config: Config, known: Updates) -> None:
        """Take the requests in the state directory. Each is deleted once what follows from it is on the disk."""
        for name, path in self._files.requests():
            if name not in config.pipelines:
                self._refuse_local(name, f"{path}: there is no pipeline {name!r} in the configuration")
                continue
            try:
                order = state_files.read(path, LocalOrder, LARGEST, partial(self._damaged, name), "it is not done")
            except OSError as error:
                self._report("update_refused", name, f"{path}: {error.strerror}")
                continue
            if order is not None:
                self._obey(config, known, name, order)

    def _obey(self, config: Config, known: Updates, name: str, order: LocalOrder) -> None:
        by = order.by or "a person on this device"
        if order.order != "update":
            self._taken(name, self._obey_local(name, order.order, by, Ordered(order.order, by)))
            return
        payload = bytes(order.desired)
        answer = partial(self._answer_local, name, payload, by)
        self._read(config, known, name, payload, local=True, answer=answer)

    def _read(  # noqa: PLR0913 - what a reader is started with
        self,
        config: Config,
        known: Updates,
        name: str,
        payload: bytes,
        *,
        local: bool,
        answer: Callable[[RequestRead | None, str], None],
    ) -> None:
        """Have a request read. One that is still being read for this pipeline does not count any more."""
        self._withdraw(name)
        task = ReadRequest(config.device.id, name, payload, local, trust_of(config), known.latest)
        self._reading[name] = self._helpers.start(
            name, task, RequestRead, READING, answer, again=MOST_READINGS - 1
        )

    def _withdraw(self, name: str) -> None:
        if cancel := self._reading.pop(name, None):
            cancel()

    def _answer(
        self, name: str, payload: bytes, delivery: Delivery, read: RequestRead | None, reason: str
    ) -> None:
        self._reading.pop(name, None)
        self._feed(name, _stimulus(payload, read, reason, delivery))

    def _answer_local(self, name: str, payload: bytes, by: str, read: RequestRead | None, reason: str) -> None:
        self._reading.pop(name, None)
        if read is None:  # Nothing is known of the request. It is read again at the next start.
            self._report("update_refused", name, f"The process that reads the request failed: {reason}.")
        else:
            meant = _stimulus(payload, read, reason)
            self._taken(name, self._obey_local(name, "update", by, meant))

    def _taken(self, name: str, on_disk: bool) -> None:  # noqa: FBT001 - a callback's answer
        """Delete a request of this device, if what follows from it is on the disk."""
        if on_disk:
            try:
                self._files.delete_request(name)
                if not self._needs_bundle(name):
                    self._files.delete_local_bundle(name)
            except OSError as error:
                log.warning("the request of pipeline %s is not deleted: %s", name, error.strerror)

    def _damaged(self, name: str, reason: str) -> None:
        self._refuse_local(name, reason)

    def _refuse_local(self, name: str, reason: str) -> None:
        self._report("update_refused", "", reason)
        self._taken(name, on_disk=True)


def _stimulus(payload: bytes, read: RequestRead | None, reason: str, delivery: Delivery | None = None) -> Stimulus:
    """Return what happened. ``delivery`` is ``None`` for a request of this device."""
    if read is None:
        return Refused(f"The process that reads the request failed: {reason}.")
    if read.request is None:
        return Refused(cleaned(read.reason), read.request_id)
    wanted = Wanted(desired=payload, request=read.request, local=delivery is None, signed=read.signed)
    if delivery is None:
        return wanted
    return replace(wanted, retained=delivery.retained, reporter=delivery.reporter)


def _is_heard(delivery: Delivery, known: Updates) -> bool:
    update = known.pipelines.get(delivery.name)
    if update is None or not (heard := update.heard.get(delivery.reporter)):
        return False
    digest = sha256(len(delivery.payload))
    digest.update(delivery.payload)
    return digest.hexdigest() == heard
