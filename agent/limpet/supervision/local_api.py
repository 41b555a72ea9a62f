"""The supervisor's side of the local API: the gateway's process, models of clients, and what they look at."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from limpet.device import log_socket
from limpet.supervision.gateway import Gateway, Surroundings
from limpet.supervision.gateway_answers import GatewayAnswers, Known, Services
from limpet.supervision.guests import Guests
from limpet.supervision.health import HealthReader, now
from limpet.supervision.log_lines import LogLines
from limpet.supervision.pictures import Pictures
from limpet.supervision.recent_results import RecentResults
from limpet.supervision.tracing import Tracing
from limpet.wire.gateway_records import CpuTime

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable
    from pathlib import Path

    from limpet.config import Config
    from limpet.contracts.messages import DeviceHealth
    from limpet.contracts.reporter import Command
    from limpet.device.host import Host
    from limpet.supervision.fleet import Fleet
    from limpet.supervision.ledger import Account
    from limpet.supervision.pipeline_reports import Outputs, PipelineReports
    from limpet.supervision.showing import Showing


class Parts(NamedTuple):
    """The supervisor's parts that the local API needs.

    ``obey`` takes a command of a reporter. ``device`` measures the health of the device.
    """

    outputs: Outputs
    reports: PipelineReports
    fleet: Fleet
    machine: Host
    showing: Showing
    selector: selectors.BaseSelector
    obey: Callable[[str, Command], None]
    device: Callable[[], DeviceHealth]


class LocalApi:
    """It does nothing without ``[api]``. ``path``: where the Unix socket is to be."""

    def __init__(self, parts: Parts, path: Path) -> None:
        self._parts = parts
        self._health = HealthReader(parts.outputs.origin)
        self.recent = RecentResults()
        self.pictures = Pictures(parts.fleet.ask)
        self.tracing = Tracing()
        self._guests = Guests(parts.fleet, self._accounts)
        self.gateway = self._make_gateway(path)
        self._log_lines = LogLines(
            parts.outputs.origin,
            log_socket.reader(),
            self._process_names,
            parts.showing.monitor.log,
            parts.selector,
        )

    def _make_gateway(self, path: Path) -> Gateway:
        parts = self._parts
        services = Services(parts.showing.serve, parts.obey, self.recent, self.pictures)
        known = Known(
            device=parts.device,
            pipelines=lambda: [self._health.pipeline(one, now()) for one in self._accounts()],
            models=lambda: [parts.reports.model(one.pipeline) for one in self._accounts()],
            accounts=self._accounts,
            guests=self._guests,
            cpu=self._cpu_time,
            tracing=self.tracing,
        )
        around = Surroundings(
            origin=parts.outputs.origin,
            path=path,
            answers=GatewayAnswers(known, services),
            recent=self.recent,
            report=lambda event, reason: parts.outputs.events.report(event, "", reason),
            selector=parts.selector,
        )
        return Gateway(around)

    def _accounts(self) -> list[Account]:
        return list(self._parts.outputs.ledger.current)

    def _cpu_time(self) -> CpuTime | None:
        spent = self._parts.machine.cpu_seconds()
        return CpuTime(*spent) if spent else None

    def _process_names(self) -> dict[int, str]:
        pids = {**self._parts.fleet.pids(), **self.gateway.pids, "supervisor": os.getpid()}
        return {pid: name for name, pid in pids.items()}

    def use(self, config: Config) -> None:
        """Serve what a configuration wants."""
        self._guests.use(config)
        self.gateway.use(config.api, config.device.commands, config.pipelines)

    def tend(self) -> None:
        """Do what is due."""
        self._log_lines.want(wanted=self._parts.showing.monitor.watched or self.recent.wanted)
        self._log_lines.tend()
        self.gateway.tend()
        self._guests.tend(monotonic())
        self.pictures.tend()

    def next_due(self) -> float | None:
        """Return when ``tend`` should be called next, on the monotonic clock."""
        parts = (self.gateway, self._guests, self.pictures, self._log_lines)
        return min((due for part in parts if (due := part.next_due()) is not None), default=None)

    def close(self) -> None:
        """End the gateway, and show no more lines of the log."""
        self.gateway.close()
        self._log_lines.close()
