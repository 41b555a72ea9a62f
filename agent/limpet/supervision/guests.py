"""Models for the gateway's clients: which there are, and a socket to the process that has one.

A model that a pipeline runs is served by that pipeline's worker. The gateway may have been taken over. So it gets
only so many sockets, and what it names is looked up, never used as a path.
"""

from __future__ import annotations

import logging
import socket
from time import monotonic
from typing import TYPE_CHECKING

from limpet.bucket import Bucket
from limpet.wire.gateway_records import Models, Opened, OpenModel, ServedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.supervision.fleet import Fleet
    from limpet.supervision.gateway import Reply
    from limpet.supervision.ledger import Account

log = logging.getLogger(__name__)

OPEN_PER_SECOND, OPEN_AT_ONCE = 4.0, 32
"""Sockets that the gateway gets: it needs one for each model, and another when a model changes."""
_AT_WORK = ("running", "waiting")
"""States of a pipeline in which its model is loaded."""


class Guests:
    """Answers what the gateway asks about models. ``accounts`` has the pipelines."""

    def __init__(self, fleet: Fleet, accounts: Callable[[], Sequence[Account]]) -> None:
        self._fleet = fleet
        self._accounts = accounts
        self._bucket = Bucket(OPEN_PER_SECOND, OPEN_AT_ONCE)

    def models(self, number: int) -> Models:
        """Return the models that clients can use."""
        found: dict[tuple[str, int], ServedModel] = {}
        for account in self._accounts():
            last = account.last
            if not last.model:
                continue
            model = found.setdefault(
                (last.model, last.version), ServedModel(last.model, last.version, ready=False)
            )
            model.pipelines.append(account.pipeline)
            if last.state in _AT_WORK:
                model.ready, model.reason = True, ""
            elif not model.ready:
                model.reason = f"the pipeline {account.pipeline} is {last.state}"
        return Models(number, list(found.values()))

    def open(self, request: OpenModel, reply: Reply) -> None:
        """Answer with a socket to the process that has a model, or with the reason why there is none."""
        if self._bucket.level(monotonic()) < 1:
            reply(Opened(request.number, "the gateway opened models too often; try again later"))
            return
        self._bucket.spend(1)
        pipeline = self._pipeline_with(request.name, request.version)
        if pipeline is None:
            reply(Opened(request.number, f"no pipeline runs {_named(request.name, request.version)}"))
            return
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                self._fleet.connect_guest(pipeline, theirs)
            except KeyError:
                reply(Opened(request.number, f"the pipeline {pipeline} is being started; try again"))
            else:
                reply(Opened(request.number), (ours.fileno(),))

    def _pipeline_with(self, name: str, version: int | None) -> str | None:
        """Return a pipeline that runs a model: of several versions, the highest."""
        found = [
            (account.last.version, account.pipeline)
            for account in self._accounts()
            if account.last.state in _AT_WORK
            and account.last.model == name
            and version in (None, account.last.version)
        ]
        return max(found)[1] if found else None


def _named(name: str, version: int | None) -> str:
    return name if version is None else f"{name} version {version}"
