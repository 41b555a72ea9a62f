"""The broker, a client and the daemon, from the daemon's start to its end."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from limpet.demo.client import Subscriber
from limpet.demo.daemon import Daemon, embedded_broker, write_configuration
from limpet.errors import LimpetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from limpet.demo.arrivals import Arrivals
    from limpet.demo.client import Received
    from limpet.demo.daemon import Chain

STARTING = 30.0
"""Seconds until the pipeline must run."""
QUIET = 5.0
"""Seconds without anything new until the missing results count as lost."""
TICK = 0.05
"""Seconds that the client waits for a message at most."""


@dataclass
class Session:
    """A daemon that runs, and the client that hears it.

    ``take`` gets each message, and ``show`` is called after those that came together.
    """

    configuration: Path
    url: str
    client: Subscriber
    daemon: Daemon
    arrivals: Arrivals
    take: Callable[[Received], object]
    show: Callable[[], None]

    def wait_for_pipeline(self) -> None:
        """Wait until the pipeline runs. ``LimpetError`` if it fails, or takes too long."""
        until = monotonic() + STARTING
        while not ((model := self.arrivals.model) and model.state == "running"):
            self.pump()
            self.daemon.require()
            if (model := self.arrivals.model) and model.state == "failed":
                raise LimpetError(f"the pipeline failed: {model.reason}")
            if monotonic() > until:
                raise LimpetError(
                    f"no message from the pipeline within {STARTING:.0f} s; the daemon's log is {self.daemon.log}"
                )

    def play(self, position: Callable[[], int], end: Callable[[], bool]) -> None:
        """Take messages until the end, or until ``position`` has not changed for a while."""
        moved, before = monotonic(), -1
        while not end() and monotonic() < moved + QUIET:
            self.pump()
            self.daemon.require()
            if (now := position()) != before:
                moved, before = monotonic(), now

    def stop(self) -> None:
        """Stop the daemon, and read the messages that it sends at its end."""
        self.daemon.stop()
        until = monotonic() + QUIET
        while not self.arrivals.offline and monotonic() < until:
            self.pump()

    def pump(self) -> None:
        """Take what has come."""
        for message in self.client.messages(TICK):
            self.take(message)
        self.show()


@contextmanager
def session(
    broker: str | None, chain: Chain, arrivals: Arrivals, take: Callable[[Received], object]
) -> Iterator[Session]:
    """Start a broker unless there is one, a client and the daemon; end them all."""
    folder = Path(tempfile.mkdtemp(prefix="limpet-demo-"))
    device = f"demo-{secrets.token_hex(3)}"
    with ExitStack() as stack:
        url = broker or stack.enter_context(embedded_broker(folder))
        path = write_configuration(folder, device, url, chain)
        client = stack.enter_context(Subscriber(url, device))
        daemon = stack.enter_context(Daemon(path, folder / "daemon.log"))
        yield Session(path, url, client, daemon, arrivals, take, lambda: None)
