"""What the supervisor answers the gateway."""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING, NamedTuple

from limpet.wire.gateway_records import Done, Figures, GetFigures, GetModels, OpenModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.messages import DeviceHealth, ModelReported, PipelineHealth
    from limpet.supervision.gateway import Reply
    from limpet.supervision.guests import Guests
    from limpet.supervision.ledger import Account
    from limpet.wire.gateway_records import CpuTime, Request


class Known(NamedTuple):
    """What the supervisor knows."""

    device: Callable[[], DeviceHealth]
    pipelines: Callable[[], list[PipelineHealth]]
    models: Callable[[], list[ModelReported]]
    accounts: Callable[[], list[Account]]
    guests: Guests
    cpu: Callable[[], CpuTime | None]


class GatewayAnswers:
    """Answers requests of the gateway."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._began = monotonic()

    def answer(self, request: Request, reply: Reply) -> None:
        """Answer a request, now or later."""
        if isinstance(request, GetFigures):
            reply(self._figures(request.number))
        elif isinstance(request, GetModels):
            reply(self._known.guests.models(request.number))
        elif isinstance(request, OpenModel):
            self._known.guests.open(request, reply)
        else:
            reply(Done(request.number, "not there yet"))

    def _figures(self, number: int) -> Figures:
        known = self._known
        latency: dict[str, dict[str, dict[int, int]]] = {
            account.pipeline: {stage: dict(buckets) for stage, buckets in account.latency.items()}
            for account in known.accounts()
        }
        started = round(time() - (monotonic() - self._began), 2)
        return Figures(number, known.device(), known.pipelines(), known.models(), latency, started, known.cpu())
