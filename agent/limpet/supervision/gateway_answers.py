"""What the supervisor answers the gateway."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from limpet.device.clock import Start
from limpet.wire.border import cleaned
from limpet.wire.gateway_records import (
    Figures,
    GetFigures,
    GetModels,
    GetPicture,
    GetRecent,
    GetTraces,
    Load,
    NotFound,
    Obey,
    OpenModel,
    Picture,
    Recent,
    Replied,
    Traces,
    Unload,
    Watch,
    Watching,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts import messages
    from limpet.contracts.messages import DeviceHealth, ModelReported, PipelineHealth
    from limpet.contracts.reporter import Command
    from limpet.supervision.gateway import Reply
    from limpet.supervision.guests import Guests
    from limpet.supervision.ledger import Account
    from limpet.supervision.pictures import Pictures
    from limpet.supervision.recent_results import RecentResults
    from limpet.supervision.tracing import Tracing
    from limpet.wire.gateway_records import CpuTime, Request

REPORTER = "api"
"""The name under which the audit journal has commands that came over the local API."""


class Known(NamedTuple):
    """What the supervisor knows."""

    device: Callable[[], DeviceHealth]
    pipelines: Callable[[], list[PipelineHealth]]
    models: Callable[[], list[ModelReported]]
    accounts: Callable[[], list[Account]]
    guests: Guests
    cpu: Callable[[], CpuTime | None]
    tracing: Tracing


class Services(NamedTuple):
    """What the supervisor does for clients.

    ``watch`` shows everything on a socket, or returns why not. ``obey`` takes a command of a reporter.
    """

    watch: Callable[[socket.socket], str]
    obey: Callable[[str, Command], None]
    recent: RecentResults
    pictures: Pictures


class _Command:
    """A command of a client."""

    def __init__(self, obey: Obey, reply: Reply) -> None:
        self.name = obey.name
        self.payload = obey.payload
        self.answers = cleaned(obey.sender)
        self._number = obey.number
        self._reply = reply

    def reply(self, reply: messages.Reply) -> None:
        self._reply(Replied(self._number, msgspec.json.encode(reply)))


class GatewayAnswers:
    """Answers requests of the gateway."""

    def __init__(self, known: Known, services: Services) -> None:
        self._known = known
        self._services = services
        self._start = Start()

    def answer(self, request: Request, reply: Reply) -> None:
        """Answer a request, now or later."""
        if isinstance(request, GetFigures):
            reply(self._figures(request.number))
        elif isinstance(request, GetTraces):
            reply(Traces(request.number, *self._known.tracing.take()))
        elif isinstance(request, GetModels):
            reply(self._known.guests.models(request.number))
        elif isinstance(request, OpenModel):
            self._known.guests.open(request, reply)
        elif isinstance(request, Load):
            self._known.guests.load(request, reply)
        elif isinstance(request, Unload):
            self._known.guests.unload(request, reply)
        elif isinstance(request, Obey):
            self._services.obey(REPORTER, _Command(request, reply))
        else:
            self._show(request, reply)

    def _figures(self, number: int) -> Figures:
        known = self._known
        latency: dict[str, dict[str, dict[int, int]]] = {
            account.pipeline: {stage: dict(buckets) for stage, buckets in account.latency.items()}
            for account in known.accounts()
        }
        return Figures(
            number, known.device(), known.pipelines(), known.models(), latency, self._start.unix(), known.cpu()
        )

    def _show(self, request: Watch | GetRecent | GetPicture, reply: Reply) -> None:
        if isinstance(request, Watch):
            self._watch(request.number, reply)
        elif isinstance(request, GetRecent):
            self._recent(request, reply)
        else:
            self._picture(request, reply)

    def _watch(self, number: int, reply: Reply) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # no file descriptor is left
            reply(Watching(number, f"the daemon could not open a stream: {error.strerror}"))
            return
        with theirs:
            if problem := self._services.watch(ours):
                ours.close()
                reply(Watching(number, problem))
            else:
                reply(Watching(number), (theirs.fileno(),))

    def _has(self, pipeline: str, number: int, reply: Reply) -> bool:
        there = any(account.pipeline == pipeline for account in self._known.accounts())
        if not there:
            reply(NotFound(number, f"there is no pipeline {pipeline!r}"))
        return there

    def _recent(self, request: GetRecent, reply: Reply) -> None:
        if self._has(request.pipeline, request.number, reply):
            reply(Recent(request.number, self._services.recent.last(request.pipeline, request.most)))

    def _picture(self, request: GetPicture, reply: Reply) -> None:
        def answer(jpeg: bytes, problem: str) -> None:
            reply(Picture(request.number, jpeg, problem))

        if not self._has(request.pipeline, request.number, reply):
            return
        try:
            self._services.pictures.want(request.pipeline, answer)
        except KeyError:
            answer(b"", f"the pipeline {request.pipeline!r} does not run")
