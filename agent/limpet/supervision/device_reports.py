"""What is reported of the whole device: its health, whether its reporters are connected, its audit journal."""

from __future__ import annotations

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
    from limpet.supervision.pipeline_reports import Outputs

_CONNECTION_LOOK = 1.0
"""Seconds between two looks at whether the reporters are connected."""


class DeviceReports:
    """Reports the device. ``state`` is the state directory."""

    def __init__(self, outputs: Outputs, journal: Journal, fleet: Fleet, machine: Host, state: Path) -> None:
        self._outputs = outputs
        self._journal = journal
        self._fleet = fleet
        self._reader = DeviceReader(outputs.origin, machine, state)
        self._next_connection_look = 0.0
        self._reported_connected = False
        """Whether the reporters were connected when health was last published."""

    def publish_health(self, reporters: Reporters) -> DeviceHealth:
        """Publish the health of the device, and return it."""
        out, trust = self._outputs, self._fleet.roots.report
        self._reported_connected = reporters.connected()
        out.auditing.trusts(trust)
        self.tend()
        health = self._reader.device(out.ledger, self._fleet.pids().values(), reporters.health())
        health.audit = out.auditing.health()
        health.trust = trust
        out.bus.append(health)
        self._journal.published()
        out.roster.health_published(connected=reporters.connected())
        return health

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
