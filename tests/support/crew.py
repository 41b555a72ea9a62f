"""A fleet with real workers and a fork server, and what it reports."""

from __future__ import annotations

import contextlib
import selectors
import time
from typing import TYPE_CHECKING

from limpet.config import build
from limpet.deployment.assignments import assignments
from limpet.deployment.desired import desired
from limpet.supervision.fleet import Fleet
from limpet.supervision.rests import REST_AFTER
from limpet.wire.records import Incident, Transition
from support import models

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.config import Config
    from limpet.fork.launch import ForkServerProcess
    from limpet.supervision.checking import Checking
    from limpet.wire.records import ToSupervisor


def configured(folder: Path) -> Config:
    models.dense(folder / "dense.tflite", inputs=3, outputs=3)
    (folder / "recording.csv").write_text("a,b,c\n" + "1,2,3\n" * 50)
    pipeline = {"model": "dense.tflite", "decoder": {"kind": "regress"}}
    source = {"kind": "replay", "path": str(folder / "recording.csv"), "rate": 50, "loop": True}
    return build(
        {
            "device": {"id": "d", "state": str(folder / "state")},
            "sources": {"one": source, "two": source},
            "pipelines": {"a": {"source": "one", **pipeline}, "b": {"source": "two", **pipeline}},
            "jsonl": {},
        },
        folder,
    )


class Crew:
    """A fleet, and what it said."""

    def __init__(self, started: ForkServerProcess, rest_after: float = REST_AFTER) -> None:
        self.said: list[ToSupervisor] = []
        self._selector = selectors.DefaultSelector()
        self.fleet = Fleet(self._selector, started, lambda _cell, record: self.said.append(record), rest_after)

    def prepare(self, wanted: Config) -> Checking:
        """Check a configuration. The fork server then has the modules that its workers need."""
        checking = self.fleet.check(wanted)
        self.turn_until(lambda: checking.done)
        assert checking.problems == []
        return checking

    def run(self, wanted: Config) -> None:
        """Check a configuration, assign it, and wait until its pipelines ``a`` and ``b`` run."""
        checking = self.prepare(wanted)
        self.fleet.assign(assignments(desired(wanted, checking.found)))
        self.turn_until(lambda: "running" in self.states("a") and "running" in self.states("b"))

    def states(self, pipeline: str) -> list[str]:
        return [move.state for move in self.said if isinstance(move, Transition) and move.pipeline == pipeline]

    def crashes(self, pipeline: str) -> list[str]:
        return [one.reason for one in self.said if isinstance(one, Incident) and one.pipeline == pipeline]

    def turn_until(self, condition: object) -> None:
        assert callable(condition)
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.said
            self.fleet.tend()
            for key, _ in self._selector.select(0.05):
                key.data()

    def close(self) -> None:
        with contextlib.suppress(KeyError):
            self.fleet.close()
        self._selector.close()
