"""A worker process: one source and the pipelines on it.

A reader thread fills the mailbox; the main thread does everything else. A worker parses untrusted bytes, so it
holds no secret and no network: all that leaves it are records on its channel to the supervisor.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from contextlib import contextmanager
from select import select
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np

from limpet.config import Config, PipelineConfig
from limpet.errors import LimpetError, ModelError, UnreadableError
from limpet.inference import needs
from limpet.inference.admission import judge, load
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline, plan_source, source_plugin
from limpet.isolation import sandbox
from limpet.untrusted import reading
from limpet.wire.border import cleaned, cleaned_placed, folded
from limpet.wire.channel import LENGTH, Channel
from limpet.wire.records import (
    LARGEST_OUTPUT,
    Answered,
    Ask,
    Assign,
    Figures,
    Heartbeat,
    Lent,
    Notice,
    Result,
    Results,
    RunWindows,
    Serve,
    ToWorker,
    Transition,
    WorkerEvent,
)
from limpet.worker import no_result
from limpet.worker.answers import Guests, answer
from limpet.worker.delegation import Delegation
from limpet.worker.intake import Gaps, Intake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from limpet.config import DelegateTable
    from limpet.contracts.data import Samples
    from limpet.contracts.messages import State
    from limpet.contracts.runtime import Model
    from limpet.inference.admission import Load
    from limpet.inference.plan import PipelinePlan, SourcePlan
    from limpet.isolation.needs import Needs

log = logging.getLogger(__name__)

BATCH = 64
"""Results in one record."""
BATCH_AGE = 0.02
"""Seconds from one record that is not full to the next: a result after a quiet time crosses the border at once."""
IDLE = 0.1
"""Seconds to wait for samples before looking after other things."""
HEARTBEAT = 1.0
"""Seconds between heartbeats, a quarter of the deadline where that is less."""
SETTLING = 0.002
"""Seconds between two looks at whether delegates have opened, at the start."""
GAP_NOTICES = 10.0
"""Seconds between two notices of gaps in the samples."""
MOST_FDS = 64
"""File descriptors that may wait: ends of sockets of executors, and windows from outside."""
ERRORS_IN_A_ROW = 10
"""Failed invokes after which a pipeline is failed."""

Supervisor: TypeAlias = Channel[ToWorker]


def run(end: socket.socket, task: Serve) -> None:  # noqa: ARG001 - what it runs comes on the socket
    """Serve the supervisor at the other end of the socket until it says stop or goes away."""
    # What a sensor sends may overflow; decoders say what infinity and NaN mean.
    np.seterr(all="ignore")
    supervisor: Supervisor = Channel(end, ToWorker, fds=MOST_FDS)
    try:
        first, *others = _first_records(supervisor)
        if not isinstance(first, Assign):
            return
        config = first.config
        (name,) = config.sources
        try:
            allowed = needs.of_worker(config, source_plugin(config, name))
            in_force = sandbox.enter(allowed)
            # From here on bytes are parsed that somebody else wrote, those of a recording first.
            with reading(f"sources.{name}"):
                source = plan_source(config, name)
        except LimpetError as error:
            for pipeline in config.pipelines:
                supervisor.send(Transition(pipeline, "failed", cleaned(str(error))))
            return
        worker = Worker(supervisor, source, allowed, in_force)
        worker.assign(config)
        worker.serve(others)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        log.debug("the supervisor is gone")


def _first_records(supervisor: Supervisor) -> list[ToWorker]:
    """Wait for what this worker is to run; commands for it may come along."""
    while not (records := list(supervisor.receive())):
        pass
    return records


class Dispatch:
    """Results on their way to the supervisor, many to a record."""

    def __init__(self, supervisor: Supervisor, too_large: Callable[[Result, int], None]) -> None:
        self._supervisor = supervisor
        self._too_large = too_large
        self._items: list[Result] = []
        self._due = 0.0

    def add(self, result: Result) -> None:
        """Take a result; send those at hand once there are enough."""
        self._items.append(result)
        if len(self._items) >= BATCH:
            self.send()

    @property
    def waiting(self) -> bool:
        """Whether there are results that were not sent yet."""
        return bool(self._items)

    def send_due(self) -> None:
        """Send what is at hand, unless the record before has only just gone."""
        if self._items and monotonic() >= self._due:
            self.send()

    def send(self) -> None:
        """Send all that is at hand."""
        if self._items:
            items, self._items = self._items, []
            self._send(items)
            self._due = monotonic() + BATCH_AGE

    def _send(self, items: list[Result]) -> None:
        """Send results, in as many records as they need. One that is too large for any is left out."""
        data = self._supervisor.encode(Results(items))
        if len(data) <= LARGEST_OUTPUT:
            self._supervisor.send_encoded(data)
        elif len(items) > 1:
            self._send(items[: len(items) // 2])
            self._send(items[len(items) // 2 :])
        elif (size := self._size(items[0])) <= LARGEST_OUTPUT:
            self._supervisor.send_encoded(data)
        else:
            self._too_large(items[0], size)

    def _size(self, item: Result) -> int:
        """Return how many bytes the output of a result has as the supervisor receives it."""
        return len(self._supervisor.encode(item.output)) - LENGTH.size


class Run(msgspec.Struct):
    """A pipeline at work."""

    pipeline: Pipeline
    config: PipelineConfig
    errors: int = 0
    errors_in_a_row: int = 0
    samples: int = 0
    results: int = 0
    failures: int = 0
    said: bool = False
    passed_over: bool = False
    too_large: bool = False

    @property
    def delegation(self) -> Delegation | None:
        """Who looks after its accelerators, if it is to have any."""
        model = self.pipeline.model
        return model if isinstance(model, Delegation) else None

    def count(self, error: ModelError) -> None:
        """Count a window without a result. Raise ``error`` where that makes too many in a row."""
        self.errors += 1
        self.failures += 1
        self.errors_in_a_row += 1
        if self.errors_in_a_row == 1:
            log.warning("pipeline %s: %s", self.pipeline.plan.name, error)
        if self.errors_in_a_row >= ERRORS_IN_A_ROW:
            raise error

    def end(self) -> str:
        """Return what to say when the source has ended: why there was no result, if there was none."""
        if self.results:
            return "its source came to an end"
        pipeline = self.pipeline
        why = no_result.reason(pipeline.plan, self.samples, pipeline.in_no_window, self.failures)
        log.warning("pipeline %s: its source came to an end after %s", pipeline.plan.name, why)
        return f"its source came to an end after {why}"


class Worker:
    """The pipelines of one source, and what they have to say."""

    def __init__(self, supervisor: Supervisor, source: SourcePlan, allowed: Needs, in_force: list[str]) -> None:
        self._allowed = allowed
        self._in_force = in_force
        self._supervisor = supervisor
        self._source = source
        self._intake = Intake(source)
        self._dispatch = Dispatch(supervisor, self._leave_out)
        self._runs: dict[str, Run] = {}
        self._gaps = Gaps()
        self._away: str | None = None
        self._counted: Counter[str] = Counter()
        self._next_beat = 0.0
        self._deadline = 10.0
        self._delegates: dict[str, DelegateTable] = {}
        self._guests = Guests(self._send_answer)

    def assign(self, config: Config) -> None:
        """Close the pipelines that changed or are gone, open those that are new or changed."""
        for name in list(self._runs):
            if name not in config.pipelines:
                self._close(name, "stopped", "no longer configured")
            elif config.pipelines[name] != self._runs[name].config or config.delegates != self._delegates:
                self._release(name)
        for name, wanted in config.pipelines.items():
            if name not in self._runs:
                self._open(config, name, wanted)
        self._delegates = config.delegates
        self._deadline = min((run.config.deadline for run in self._runs.values()), default=self._deadline)

    def serve(self, said: Sequence[ToWorker] = ()) -> None:
        """Turn samples into results until told to stop, the source ends or no pipeline is left.

        ``said`` is what the supervisor has said already.
        """
        try:
            while self._runs and all(map(self._obey, (*said, *self._hear()))):
                said = ()
                self._look_at_source()
                self._look_at_delegates()
                if not self._settled():
                    sleep(SETTLING)
                    self._beat()
                    continue
                self._guests.turn(busy=len(self._intake.mailbox) > 0)
                quiet = BATCH_AGE if self._dispatch.waiting else IDLE
                samples = self._intake.mailbox.get(0.0 if self._guests else quiet)
                if samples is not None:
                    self._gaps.see(samples)
                    self._feed(samples)
                self._dispatch.send_due()
                self._beat()
            final: State = "stopped"
        except EOFError:
            if self._intake.crash:
                raise self._intake.crash from None
            final = "finished"
        for name in list(self._runs):
            self._close(name, final, self._runs[name].end() if final == "finished" else "")

    def _hear(self) -> list[ToWorker]:
        return list(self._supervisor.receive()) if select([self._supervisor], [], [], 0)[0] else []

    def _obey(self, record: ToWorker) -> bool:
        """Do what the supervisor says; return False if that is to stop."""
        if isinstance(record, Assign):
            if not self._allowed.covers(needs.of_worker(record.config, self._source.plugin)):
                return False  # what was given up cannot be had again: a new worker is started
            self.assign(record.config)
        elif isinstance(record, Ask):
            self._answer(record)
        elif isinstance(record, Lent):
            self._lend(record.number, self._supervisor.received_fds.pop(0))
        else:
            return False
        return True

    def _answer(self, ask: Ask) -> None:
        pipelines = {name: run.pipeline for name, run in self._runs.items()}
        if isinstance(ask.what, RunWindows):
            file = self._supervisor.received_fds.pop(0)
            self._guests.take(ask.number, pipelines.get(ask.what.pipeline), file)
        else:
            answer(ask, pipelines, self._send_answer)

    def _send_answer(self, answered: Answered) -> None:
        answered.error = cleaned(answered.error)
        self._supervisor.send(answered)

    def _leave_out(self, result: Result, size: int) -> None:
        """Count a result whose output no record can hold."""
        text = f"an output has {size} bytes; the limit is {LARGEST_OUTPUT}. The result is not reported"
        if result.pipeline in self._runs:
            run = self._runs[result.pipeline]
            run.errors += 1
            if run.too_large:
                return
            run.too_large = True
        log.error("pipeline %s: %s", result.pipeline, text)

    def _open(self, config: Config, name: str, wanted: PipelineConfig) -> None:
        self._supervisor.send(Transition(name, "starting"))
        try:
            # A model comes from elsewhere: whatever goes wrong with it fails its pipeline alone.
            with reading(f"the model of pipeline {name}"):
                plan = plan_pipeline(config, name, self._source.spec)
                pipeline = Pipeline(plan, self._with_executors(config) if plan.accelerators else load)
        except UnreadableError as error:
            log.error("pipeline %s: %s", name, error, exc_info=error.__cause__)  # noqa: TRY400 - of the cause
            self._supervisor.send(Transition(name, "failed", cleaned(str(error))))
        except LimpetError as error:
            self._supervisor.send(Transition(name, "failed", cleaned(str(error))))
        else:
            self._runs[name] = Run(pipeline, wanted)
            for warning in plan.warnings:
                self._notify(name, "warning", warning)
            self._look_at_delegates()

    def _with_executors(self, config: Config) -> Load:
        @contextmanager
        def load(plan: PipelinePlan, shapes: Sequence[tuple[int, ...]] | None) -> Iterator[Model]:
            with judge(plan, shapes) as cpu:
                delegation = Delegation(plan, cpu, config.pipelines[plan.name], self._supervisor.send)
                try:
                    yield delegation
                finally:
                    delegation.close()

        return load

    def _lend(self, number: int, fd: int) -> None:
        end = socket.socket(fileno=fd)
        if not any(run.delegation and run.delegation.lend(number, end) for run in self._runs.values()):
            end.close()

    def _look_at_delegates(self) -> None:
        """Tell of pipelines that have just started, and of those that came to another delegate."""
        for name, run in self._runs.items():
            delegation = run.delegation
            changed = delegation is not None and delegation.turn()
            if delegation is not None and not delegation.settled:
                continue
            if changed or not run.said:
                run.said = True
                self._say_how_it_is(name)

    def _settled(self) -> bool:
        return all(run.said for run in self._runs.values())

    def _say_how_it_is(self, name: str) -> None:
        run = self._runs[name]
        delegation, rate = run.delegation, run.pipeline.rate
        reasons = [delegation.reason if delegation else "", rate.reason if rate else ""]
        if self._away is not None:
            self._say(name, "waiting", self._away)
        else:
            ready = delegation is None or delegation.ready
            self._say(name, "running" if ready else "waiting", "; ".join(filter(None, reasons)))

    def _notify(self, name: str, event: WorkerEvent, reason: str) -> None:
        log.warning("pipeline %s: %s", name, reason)
        self._supervisor.send(Notice(name, event, cleaned(reason)))

    def _close(self, name: str, state: State, reason: str) -> None:
        self._dispatch.send()
        self._beat(now=True)
        self._say(name, state, reason)
        self._release(name)

    def _release(self, name: str) -> None:
        self._runs.pop(name).pipeline.close()

    def _say(self, name: str, state: State, reason: str = "") -> None:
        pipeline = self._runs[name].pipeline
        manifest, model = pipeline.plan.bundle.manifest, pipeline.model
        self._supervisor.send(
            Transition(
                name,
                state,
                cleaned(reason),
                manifest.name,
                manifest.version,
                model.delegate,
                model.delegate_share,
                pipeline.degraded,
                cleaned_placed(model.placed) if isinstance(model, Delegation) and model.placed else None,
                self._in_force,
            )
        )

    def _look_at_source(self) -> None:
        away = self._intake.reader.away
        if away != self._away:
            self._away = away
            for name in self._runs:
                self._say_how_it_is(name)

    def _feed(self, samples: Samples) -> None:
        for name in list(self._runs):
            run = self._runs[name]
            if run.delegation is not None and not run.delegation.ready:
                run.passed_over = True
                continue
            block = msgspec.structs.replace(samples, gap=True) if run.passed_over else samples
            run.passed_over = False
            run.samples += len(block)
            self._look_at_rate(name, block)
            try:
                for result in run.pipeline.feed(block, run.count):
                    run.errors_in_a_row = 0
                    run.results += 1
                    self._dispatch.add(result)
                    self._beat()
            except ModelError as error:
                self._close(name, "failed", str(error))

    def _look_at_rate(self, name: str, samples: Samples) -> None:
        watched = self._runs[name].pipeline.rate
        if watched is not None and watched.see(samples):
            self._notify(name, "rate", watched.reason or "samples come at the model's rate again")
            self._say_how_it_is(name)

    def _beat(self, *, now: bool = False) -> None:
        """Send a heartbeat if one is due, unless the source hangs: then silence has this worker restarted."""
        time = monotonic()
        if (time < self._next_beat and not now) or self._intake.hangs(self._deadline):
            return
        self._next_beat = time + min(HEARTBEAT, self._deadline / 4)
        figures = {}
        for name, run in self._runs.items():
            pipeline = run.pipeline
            figures[name] = Figures(
                run.errors, pipeline.discarded(), *pipeline.clipping.take(), pipeline.latency.take()
            )
            run.errors = 0
            if news := pipeline.clipping.news():
                self._notify(name, "clipped", news)
        self._supervisor.send(Heartbeat(figures, self._newly_dropped()))
        if self._gaps.count and time >= self._gaps.next_notice:
            self._notice_gaps(time)

    def _newly_dropped(self) -> dict[str, int]:
        total = Counter(dict(self._intake.dropped))
        total["queue"] = self._intake.mailbox.dropped
        new = total - self._counted
        self._counted = total
        return folded(new)

    def _notice_gaps(self, time: float) -> None:
        reason = (
            f"{self._gaps.count} gaps in the samples of {self._source.name}, {self._gaps.missing} known missing"
        )
        for name in self._runs:
            self._supervisor.send(Notice(name, "gap", cleaned(reason)))
        self._gaps = Gaps(next_notice=time + GAP_NOTICES, expected=self._gaps.expected)
