"""The shadow of one pipeline: another model that runs the same windows in a separate process.

The pipeline comes first. Nothing here waits for the shadow, and whatever happens to it costs the pipeline no
window. A result that is to be the shadow's waits for a moment, and is the pipeline's own if none comes.
"""

from __future__ import annotations

import logging
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.contracts.delegate import CPU
from limpet.errors import ModelError, UnreadableError
from limpet.inference import agreement
from limpet.updates.answers import MOST_PAIRS, Pair, Pairs
from limpet.wire.border import cleaned
from limpet.wire.records import Dismiss, NeedShadow, ShadowFailed
from limpet.wire.shadow_records import RunWindow
from limpet.worker.executor_numbers import executor_numbers
from limpet.worker.held_results import PATIENCE, HeldResults
from limpet.worker.shadow_link import ShadowLink
from limpet.worker.shadow_turns import Pace, Turns
from limpet.worker.shadow_windows import ShadowWindows

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from limpet.contracts.assignment import PipelineOptions, ShadowAssignment
    from limpet.contracts.data import Samples, SampleSpec, Window
    from limpet.inference.pipeline import Pipeline
    from limpet.wire.records import Result
    from limpet.worker.shadow_link import ShadowRan

log = logging.getLogger(__name__)

PAIRS_AGE = 0.5
"""Seconds between two records of pairs."""

PATIENCE_FACTOR = 3
"""A shadow may take so many times the pipeline's ``opening`` and ``deadline``: it has less of the CPU."""

_encode = msgspec.msgpack.Encoder().encode


class _Ours(msgspec.Struct):
    """A result of the pipeline, and what it took in µs."""

    result: Any
    run_us: float


class Shadow:
    """A shadow, from the request for its process to its end. ``failed``: its process is given up."""

    def __init__(
        self,
        name: str,
        wanted: ShadowAssignment,
        source: SampleSpec,
        options: PipelineOptions,
        send: Callable[[NeedShadow | Dismiss | Pairs | ShadowFailed], None],
    ) -> None:
        self.wanted = wanted
        self.number = next(executor_numbers)
        self.failed = False
        self._name = name
        self._source = source
        self._send = send
        self._link = ShadowLink(PATIENCE_FACTOR * options.opening, PATIENCE_FACTOR * options.deadline)
        self._turns = Turns(wanted.every, wanted.share)
        self._pace = Pace()
        self._held = HeldResults()
        self._beside: Pipeline | None = None
        self._windows: ShadowWindows | None = None
        self._block: dict[int, _Ours] = {}
        self._latest: _Ours | None = None
        self._running: dict[int, _Ours] = {}
        """The pipeline's results of windows that the shadow runs, by the ordinal of its window."""
        self._gap = False
        self._pairs = _PairsToSend(name, wanted)
        send(NeedShadow(self.number, name))

    def connect(self, end: socket.socket) -> None:
        """Take the socket of its process."""
        self._link.connect(end)

    @property
    def holds(self) -> bool:
        """Whether a result waits for it."""
        return bool(self._held)

    def follow(self, pipeline: Pipeline) -> list[Result[Any]]:
        """Cut windows in step with a pipeline, from its next block of samples on. Returns as ``see``."""
        if self._link.opened is None or self._beside is pipeline or self.failed:
            return []
        self._beside, self._windows = pipeline, None
        try:
            self._windows = ShadowWindows(self._link.opened, self._source, pipeline)
        except ModelError as error:
            return self._fail(str(error))
        return []

    def see(self, result: Result[Any], run_us: float) -> list[Result[Any]]:
        """Take a result of the pipeline. Return the results that are to be reported now."""
        windows = self._windows
        if windows is None:
            return self._held.add(result, 0.0)
        windows.ours(result.sample)
        self._latest = self._block[result.sample] = _Ours(result, run_us)
        waits = windows.aligned and self._turns.answers(result.sample)
        return self._held.add(result, monotonic() + PATIENCE if waits else 0.0)

    def feed(self, samples: Samples, *, busy: bool) -> list[Result[Any]]:
        """Have windows of a block run that the pipeline has run. Return the results that are to be reported now.

        ``busy``: no window may be run, as samples wait.
        """
        if self._windows is None:
            return []
        try:
            for window in self._windows.of(samples):
                self._offer(self._windows, window, busy=busy)
        except ModelError as error:
            return self._fail(str(error))
        released = []
        for ordinal in self._block.keys() - self._running.keys():
            released += self._held.answer(ordinal, None)
        self._block.clear()
        return released

    def _offer(self, windows: ShadowWindows, window: Window, *, busy: bool) -> None:
        self._gap |= window.gap
        ours = self._block.get(window.ordinal) if windows.aligned else self._latest
        if ours is None or not self._turns.next(window.ordinal):
            return
        if busy or not self._link.has_room or not self._pace.take(monotonic()):
            self._pairs.skipped += 1
            return
        values = windows.values(window)
        live = self._source.live
        record = RunWindow(
            values.dtype.str,
            values.shape,
            window.monotonic_ns if live else ours.result.monotonic_ns,
            window.wall_ns,
            window.ordinal,
            self._gap,
            None if live else window.monotonic_ns,
            self._source.frames,
        )
        self._gap = False
        self._running[window.ordinal] = ours
        self._link.put(record, values)

    def poll(self) -> list[Result[Any]]:
        """Take what came of the shadow. Return the results that are to be reported now."""
        if self.failed:
            return []
        ready: list[Result[Any]] = []
        try:
            for ran in self._link.poll():
                ready += self._take(ran)
        except ModelError as error:
            return ready + self._fail(str(error))
        self._pairs.send_if_due(self._send)
        return ready + self._held.late(monotonic())

    def release(self) -> list[Result[Any]]:
        """Return the results that wait, as they are."""
        return self._held.release()

    def close(self) -> list[Result[Any]]:
        """End it. Return the results that waited for it."""
        if not self.failed:
            self._pairs.send(self._send)
            self._link.close()
            self._send(Dismiss(self.number))
        self.failed = True
        return self._held.release()

    def _fail(self, reason: str) -> list[Result[Any]]:
        model = self.wanted.model
        log.warning("pipeline %s: its shadow %s %d: %s", self._name, model.name, model.version, reason)
        released = self.close()
        self._send(ShadowFailed(self._name, model.name, model.version, cleaned(reason)))
        return released

    def _take(self, ran: ShadowRan) -> list[Result[Any]]:
        self._pace.spend(ran.cpu)
        ours = self._running.pop(ran.ordinal)
        if ran.error:
            if not self._pairs.errors:
                log.warning("pipeline %s: its shadow: %s", self._name, ran.error)
            self._pairs.errors += 1
            return self._held.answer(ran.ordinal, None)
        if pair := _pair(ours, ran):
            self._pairs.add(ours.result, pair, self._send)
        if not self._turns.answers(ran.ordinal):
            return []
        return self._held.answer(ran.ordinal, self._instead(ours.result, ran))

    def _instead(self, result: Result[Any], ran: ShadowRan) -> Result[Any]:
        """Return the shadow's result for the window of a result of the pipeline."""
        assert self._beside is not None
        model = self.wanted.model
        return msgspec.structs.replace(
            result,
            model=model.name,
            version=model.version,
            delegate=CPU.name,
            degraded=self._beside.plan.delegates[0] != CPU,
            latency_ns=monotonic_ns() - result.monotonic_ns,
            output=ran.output,
        )


class _PairsToSend:
    """Pairs on their way to the supervisor, many to a record. ``errors`` and ``skipped`` count since the last."""

    def __init__(self, name: str, wanted: ShadowAssignment) -> None:
        self.errors = 0
        self.skipped = 0
        self._name = name
        self._theirs = wanted.model.name, wanted.model.version
        self._ours = "", 0
        self._items: list[Pair] = []
        self._due = 0.0

    def add(self, result: Result[Any], pair: Pair, send: Callable[[Pairs], None]) -> None:
        """Take a pair. Send those before if there are many, or if the pipeline runs another model now."""
        if self._items and (len(self._items) >= MOST_PAIRS or self._ours != (result.model, result.version)):
            self.send(send)
        self._ours = result.model, result.version
        self._items.append(pair)

    def send_if_due(self, send: Callable[[Pairs], None]) -> None:
        """Send what there is, unless the record before has only just gone."""
        if self._ours[0] and (self._items or self.errors or self.skipped) and monotonic() >= self._due:
            self.send(send)

    def send(self, send: Callable[[Pairs], None]) -> None:
        """Send what there is."""
        if self._ours[0] and (self._items or self.errors or self.skipped):
            send(Pairs(self._name, *self._ours, *self._theirs, self._items, self.errors, self.skipped))
        self._items, self.errors, self.skipped = [], 0, 0
        self._due = monotonic() + PAIRS_AGE


def _pair(ours: _Ours, ran: ShadowRan) -> Pair | None:
    """Return what two models answered, ``None`` if the pipeline's output cannot be read as its type says."""
    result = ours.result
    try:
        output = agreement.read(agreement.kind_of(result.output), _encode(result.output))
    except (UnreadableError, TypeError, ValueError, OverflowError):  # A decoder of another package made it.
        return None
    return Pair(
        result.sample,
        result.monotonic_ns,
        agreement.answer(output),
        agreement.answer(ran.output),
        agreement.agreement(output, ran.output),
        ours.run_us,
        ran.run * 1e6,
    )
