"""What is reported of the whole device: its health, whether its reporters are connected, its audit journal."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING

from limpet.supervision.health import DeviceReader

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.audit.journal import Journal
    from limpet.contracts.messages import DeviceHealth
    from limpet.delivery.reporters import Reporters
    from limpet.device.host import Host
    from limpet.supervision.fleet import Fleet
    from limpet.supervision.gateway import Gateway
    from limpet.supervision.pipeline_reports import Outputs

_CONNECTION_LOOK = 1.0
"""Seconds between two looks at whether the reporters are connected."""


class DeviceReports:
    """Reports the device. ``state`` is the state directory."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that health is made of
        self,
        outputs: Outputs,
        journal: Journal,
        fleet: Fleet,
        machine: Host,
        state: Path,
        gateway: Gateway,
    ) -> None:
        self._outputs = outputs
        self._journal = journal
        self._fleet = fleet
        self._gateway = gateway
        self._machine = machine
        self._reader = DeviceReader(outputs.origin, machine, state)
        self._figures = DeviceReader(outputs.origin, machine.beside(), state)
        self._pss_mb: float | None = None
        self._next_connection_look = 0.0
        self._reported_connected = False
        """Whether the reporters were connected when health was last published."""

    def health(self, reporters: Reporters) -> DeviceHealth:
        """Return the health of the device as it is now."""
        self._pss_mb = self._machine.pss_mb([os.getpid(), *self._pids()])
        return self._read(self._reader, reporters)

    def figures(self, reporters: Reporters) -> DeviceHealth:
        """Return the health of the device for a program that wants it often.

        ``pss_mb`` is as in the last message, as it takes a millisecond or more for each process. ``cpu_share`` is
        since the last call.
        """
        return self._read(self._figures, reporters)

    def _read(self, reader: DeviceReader, reporters: Reporters) -> DeviceHealth:
        out = self._outputs
        health = reader.device(out.ledger, self._pss_mb, reporters.health())
        health.audit = out.auditing.health()
        health.api = self._gateway.health()
        health.trust = self._fleet.roots.report
        return health

    def publish_health(self, reporters: Reporters) -> DeviceHealth:
        """Publish the health of the device, and return it."""
        out = self._outputs
        self._reported_connected = reporters.connected()
        out.auditing.trusts(self._fleet.roots.report)
        self.tend()
        health = self.health(reporters)
        out.bus.append(health)
        self._journal.published()
        out.roster.health_published(connected=reporters.connected())
        return health

    def _pids(self) -> list[int]:
        return [*self._fleet.pids().values(), *self._gateway.pids.values()]

    def is_connection_news(self, reporters: Reporters) -> bool:
        """Return whether brokers came or went since health was published. It is looked up once a second."""
        if monotonic() < self._next_connection_look:
            return False
        self._next_connection_look = monotonic() + _CONNECTION_LOOK
        return reporters.connected() != self._reported_connected

    def tend(self) -> None:
        """Have the disk keep what was written into the audit journal, and report what is wrong with it."""
        for event, reason in self._journal.tend():
            self._outputs.events.report(event, "", reason)
