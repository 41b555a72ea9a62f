"""Real deployers, forked by a real fork server, and what the supervisor hears of them."""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING

from limpet.fork.launch import ForkServerProcess
from limpet.supervision.fleet import Fleet
from limpet.wire.deploy_records import Ended, Lacking, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.wire.deploy_records import Deploy, FromDeployer


class Heard:
    """What is heard of one deployer. ``last``: how it ended, or why it did without saying so."""

    def __init__(self) -> None:
        self.records: list[FromDeployer] = []
        self.last: Ended | str | None = None

    def __call__(self, record: FromDeployer | None, reason: str) -> None:
        assert self.last is None, "its last record came before"
        if record is None:
            self.last = reason
        elif isinstance(record, Ended):
            self.last = record
        else:
            self.records.append(record)

    @property
    def lacking(self) -> list[Lacking]:
        return [record for record in self.records if isinstance(record, Lacking)]

    @property
    def progress(self) -> list[Progress]:
        return [record for record in self.records if isinstance(record, Progress)]

    @property
    def fetched(self) -> bool:
        return isinstance(self.last, Ended) and self.last.outcome == "fetched"


class Site:
    """A fleet without workers."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.fleet = Fleet(self._selector, ForkServerProcess(), lambda *_: None, rest_after=1e6)
        self.deployers = self.fleet.deployers

    def start(self, task: Deploy) -> Heard:
        heard = Heard()
        self.deployers.start(task, heard)
        return heard

    def run(self, task: Deploy) -> Heard:
        """Start a deployer and wait for its end."""
        heard = self.start(task)
        self.until(lambda: heard.last is not None)
        return heard

    def until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Turn until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it does not happen"
            self.turn(0.02)

    def turn(self, wait: float = 0.0) -> None:
        for key, _ in self._selector.select(wait):
            key.data()
        self.fleet.tend()

    def close(self) -> None:
        self.fleet.close()
        self._selector.close()
