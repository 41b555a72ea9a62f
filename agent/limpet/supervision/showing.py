"""What those who watch the daemon see beside the bus: health that is a second old, and values of sources."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from limpet.contracts.messages import InputMessage
from limpet.delivery.monitor import Monitor
from limpet.delivery.monitor_socket import MonitorSocket
from limpet.supervision.health import HealthReader, now

if TYPE_CHECKING:
    import selectors
    import socket
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from limpet.contracts.messages import Origin
    from limpet.delivery.bus import Bus
    from limpet.supervision.ledger import Account
    from limpet.wire.records import Heartbeat

INTERVAL = 1.0
"""Seconds between two looks at the pipelines' health while someone watches."""


class Showing:
    """``monitor`` is what they read. They connect to the socket at ``path``."""

    def __init__(self, origin: Origin, bus: Bus, path: Path, selector: selectors.BaseSelector) -> None:
        self.monitor = Monitor(bus)
        self._origin = origin
        self._socket = MonitorSocket(path, self.monitor, origin, selector)
        self._health = HealthReader(origin)
        self._next = 0.0

    def open(self) -> None:
        """Begin to accept those who watch."""
        self._socket.open()

    def serve(self, connection: socket.socket) -> str:
        """Show all to a program of the daemon on this socket. Return why not, if so."""
        return self._socket.serve(connection)

    def tend(self, accounts: Iterable[Account]) -> None:
        """Show how the pipelines are, once a second."""
        self._socket.tend()
        if self.monitor.watched and monotonic() >= self._next:
            self._next = monotonic() + INTERVAL
            for account in accounts:
                self.monitor.show(self._health.pipeline(account, now()))

    def show_inputs(self, cell: str, heartbeat: Heartbeat) -> None:
        """Show what the source of a cell gives. The values go to no reporter."""
        if (inputs := heartbeat.inputs) is None:
            return
        self.monitor.show(
            InputMessage(
                device=self._origin.device,
                source=cell,  # a worker has one source, after which its cell is named
                pipelines=list(heartbeat.pipelines),
                time=now(),
                rate=inputs.rate,
                shape=inputs.shape,
                channels=inputs.channels,
                values=inputs.rows,
            )
        )

    def keep(self, sources: Collection[str], pipelines: Collection[str]) -> None:
        """Forget what was shown of sources and pipelines that are gone."""
        self.monitor.keep(sources, pipelines)

    def close(self) -> None:
        """Send the last messages to the watchers, and accept no new watcher."""
        self._socket.close()
