"""Models for the gateway's clients: which there are, and a socket to the process that has one.

A model that a pipeline runs is served by that pipeline's worker. Another one of the store has its own process, see
``stored_guests``.

The gateway may have been taken over. So the number of its sockets is limited. What it names is looked up, and is
never used as a path.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING

from limpet.bucket import Bucket
from limpet.supervision.stored_guests import BEING_LOADED, StoredGuests
from limpet.wire.gateway_records import Done, Models, NotFound, Opened, ServedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.config import Config
    from limpet.supervision.fleet import Fleet
    from limpet.supervision.gateway import Reply
    from limpet.supervision.ledger import Account
    from limpet.supervision.stored_guests import Guest
    from limpet.wire.gateway_records import Load, OpenModel, Unload

OPEN_PER_SECOND, OPEN_AT_ONCE = 4.0, 32
"""Sockets that the gateway gets: it needs one for each model, and another when a model changes."""
LOAD_PER_SECOND, LOAD_AT_ONCE = 1.0, 32
"""Models that the gateway may have loaded or unloaded."""
_AT_WORK = ("running", "waiting")
"""States of a pipeline in which its model is loaded."""


class Guests:
    """Answers what the gateway asks about models. ``accounts`` has the pipelines."""

    def __init__(self, fleet: Fleet, accounts: Callable[[], Sequence[Account]]) -> None:
        self._fleet = fleet
        self._accounts = accounts
        self._stored = StoredGuests(fleet)
        self._opens = Bucket(OPEN_PER_SECOND, OPEN_AT_ONCE)
        self._loads = Bucket(LOAD_PER_SECOND, LOAD_AT_ONCE)

    def use(self, config: Config) -> None:
        """Have the models loaded that a configuration names. Those that clients loaded stay if they still may."""
        self._stored.use(config)

    def tend(self, now: float) -> None:
        """Start those again that crashed."""
        self._stored.tend(now)

    def next_due(self) -> float | None:
        """Return when one is to be started, on the monotonic clock."""
        return self._stored.next_due()

    def models(self, number: int) -> Models:
        """Return the models that clients can use, or could load."""
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
        for guest in self._stored:
            name, version = guest.which
            if (name, version) not in found or not found[name, version].ready:
                found[name, version] = ServedModel(name, version, ready=guest.ready, reason=guest.problem)
        for name, version in self._stored.loadable():
            found.setdefault((name, version), ServedModel(name, version, ready=False, reason="it is not loaded"))
        return Models(number, list(found.values()))

    def open(self, request: OpenModel, reply: Reply) -> None:
        """Answer with a socket to the process that has a model, or with the reason why there is none."""
        if self._is_too_much(self._opens):
            reply(Opened(request.number, "models were opened too often; try again later"))
            return
        name, version = request.name, request.version
        pipeline = self._pipeline_with(name, version)
        guest = self._stored.find(name, version)
        if pipeline is not None:
            self._open_pipeline(pipeline, request.number, reply)
        elif guest is None:
            reply(self._absent(request))
        elif guest.problem == BEING_LOADED:
            guest.wait(lambda problem: self._answer_open(guest, request.number, problem, reply))
        else:
            self._answer_open(guest, request.number, guest.problem, reply)

    def _absent(self, request: OpenModel) -> Opened | NotFound:
        """Answer that a model has no process. Another try helps only if a pipeline will have one."""
        name, version = request.name, request.version
        for account in self._accounts():
            if account.last.model == name and version in (None, account.last.version):
                state = f"the pipeline {account.pipeline} is {account.last.state}"
                return Opened(request.number, f"{state}; try again")
        which = _named(name, version)
        return NotFound(request.number, f"no pipeline runs {which}, and it is not loaded. Load it first")

    def load(self, request: Load, reply: Reply) -> None:
        """Load a model of the store into its own process, and answer once it is there."""
        name, version = request.name, request.version
        guest = self._stored.find(name, version)

        def answer(problem: str) -> None:
            reply(Done(request.number, problem))

        if guest is not None and guest.ready:
            answer("")
        elif guest is not None and guest.problem == BEING_LOADED:
            guest.wait(answer)
        elif self._pipeline_with(name, version) is not None:
            answer("")
        elif problem := self._refusal("load"):
            answer(problem)
        elif problem := self._stored.missing(text := _written(name, version)):
            answer(problem)  # It is not remembered: clients may invent names.
        else:
            self._stored.end(text, "it is loaded again")
            self._stored.begin(text, answer)

    def unload(self, request: Unload, reply: Reply) -> None:
        """End the process of a model."""
        name, version = request.name, request.version
        guest = self._stored.find(name, version)
        if guest is None:
            runs = self._pipeline_with(name, version) is not None
            problem = "a pipeline runs it" if runs else f"{_named(name, version)} is not loaded"
        elif not (problem := self._refusal("unload")):
            self._stored.end(guest.text, "it was unloaded")
        reply(Done(request.number, problem))

    def _refusal(self, what: str) -> str:
        """Return why clients may not load or unload a model now, if so."""
        if not self._stored.clients_may_load:
            return f"clients may not {what} models here: [api] has no `load = true`"
        if self._is_too_much(self._loads):
            return "models were loaded and unloaded too often; try again later"
        return ""

    # --- sockets

    def _open_pipeline(self, pipeline: str, number: int, reply: Reply) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                self._fleet.connect_model(pipeline, theirs)
            except KeyError:
                reply(Opened(number, f"the pipeline {pipeline} is being started; try again"))
            else:
                reply(Opened(number), (ours.fileno(),))

    def _answer_open(self, guest: Guest, number: int, problem: str, reply: Reply) -> None:
        if problem or guest.process is None:
            reply(Opened(number, problem or "its process ended; try again"))
            return
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._fleet.guest_processes.connect(guest.process, theirs)
            reply(Opened(number), (ours.fileno(),))

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

    def _is_too_much(self, bucket: Bucket) -> bool:
        if bucket.level(monotonic()) < 1:
            return True
        bucket.spend(1)
        return False


def _written(name: str, version: int | None) -> str:
    return name if version is None else f"{name}@{version}"


def _named(name: str, version: int | None) -> str:
    return name if version is None else f"{name} version {version}"
