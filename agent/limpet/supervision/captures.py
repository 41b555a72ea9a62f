"""The ring of captures, as the supervisor sees it: what may be kept, whose it is, and what became of it.

The writer's thread has the disk, see ``limpet.captures.writer``. This is the main thread's part.
"""

from __future__ import annotations

import base64
import logging
from collections import deque
from datetime import datetime, timezone
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from limpet.bucket import Bucket
from limpet.captures import consent, sealing
from limpet.captures.ring import folder
from limpet.captures.writer import Found, Labelled, NotStored, Store, Stored, Writer
from limpet.contracts.captures import Capture, CaptureHealth
from limpet.contracts.commands import MOST_KEPT, Feedback
from limpet.device import clock
from limpet.errors import UnreadableError
from limpet.learning.slices import slices
from limpet.supervision.captured_results import CapturedResults
from limpet.wire.records import KeptFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from limpet.captures.writer import Outcome
    from limpet.config import Config
    from limpet.contracts.captures import KeepOptions
    from limpet.contracts.messages import FeedbackTaken, Origin, ResultMessage
    from limpet.supervision.events import Events
    from limpet.supervision.ledger import Account, Ledger
    from limpet.wire.records import Kept

log = logging.getLogger(__name__)

MOST_IDS = 1024
"""Results of a pipeline whose ids are known: a window may be handed over long after its result."""
PATIENCE = 1.0
"""Seconds that a window waits for its result, which may wait for a shadow."""
MOST_UNKNOWN = 16
"""Windows that wait for their results."""
SLACK = 1.1
"""How many times the hourly limit a worker may hand over: its clock and this one differ."""


class _Waiting(msgspec.Struct):
    """A window that waits for its result, and until when."""

    kept: KeptFile
    until: float


class _Limits:
    """How many windows a pipeline may still keep, whatever its worker says."""

    def __init__(self, options: KeepOptions) -> None:
        hourly = options.per_hour * SLACK + 1
        self._hour = Bucket(hourly / 3600, hourly)
        self._commanded = 0

    def command(self, windows: int) -> None:
        """Let so many windows be kept beyond the hourly limit: a command wants them."""
        self._commanded = min(self._commanded + windows, 2 * MOST_KEPT)

    def take(self, record: Kept, now: float) -> bool:
        """Whether one more window may be kept. If so, it is counted."""
        if "command" in record.reasons and self._commanded:
            self._commanded -= 1
            return True
        if self._hour.level(now) < 1:
            return False
        self._hour.spend(1)
        return True


class Captures:
    """The captures of all pipelines. ``wake`` has the main thread call ``tend``.

    ``feedback`` counts what a person said about a capture, as the command does.
    """

    def __init__(  # noqa: PLR0913 - what captures are about, and who hears of them
        self,
        origin: Origin,
        state: Path,
        ledger: Ledger,
        events: Events,
        wake: Callable[[], None],
        *,
        feedback: Callable[[Feedback], FeedbackTaken],
    ) -> None:
        self._feedback = feedback
        self._origin = origin
        self._ledger = ledger
        self._events = events
        self._writer = Writer(folder(state), wake)
        self.results = CapturedResults(state, self._writer.number_of)
        self._options: dict[str, KeepOptions] = {}
        self._limits: dict[str, _Limits] = {}
        self._ids: dict[str, deque[tuple[int, int, str]]] = {}
        self._unknown: deque[_Waiting] = deque()
        self._config: Config | None = None

    def tend(self, config: Config) -> None:
        """Follow the configuration, hand over windows whose result is known by now, and take what was written."""
        if config is not self._config:
            self._config = config
            self._use({name: one.keep for name, one in config.pipelines.items() if one.keep is not None})
        while self._unknown and self._unknown[0].until <= monotonic():
            self._store(self._unknown.popleft().kept, "")
        for outcome in self._writer.take():
            self._note(outcome)

    def _use(self, options: dict[str, KeepOptions]) -> None:
        if options == self._options:
            return
        kept = {name: self._limits[name] for name, one in options.items() if self._options.get(name) == one}
        for name in self._options.keys() - options.keys():
            self._ledger.account(name).captures = None
        self._options = options
        self._limits = {name: kept.get(name) or _Limits(one) for name, one in options.items()}
        self._ids = {name: self._ids.get(name, deque(maxlen=MOST_IDS)) for name in options}
        self._writer.use({name: one.bytes for name, one in options.items()})

    def command(self, pipeline: str, windows: int) -> None:
        """Take note that the command ``keep`` goes to the worker of a pipeline."""
        if pipeline in self._limits:
            self._limits[pipeline].command(windows)

    @property
    def at_work(self) -> bool:
        """Whether any pipeline keeps windows."""
        return bool(self._options)

    def accepted(self, results: Iterable[ResultMessage]) -> None:
        """Take note of the ids of results: windows of them may be kept."""
        for result in results:
            if (ids := self._ids.get(result.pipeline)) is not None:
                ids.append((result.sample, result.monotonic_ns, result.id))
        if self._unknown:
            self._look_for_ids()

    def _look_for_ids(self) -> None:
        waiting, self._unknown = self._unknown, deque()
        for one in waiting:
            if found := self._id_of(one.kept.record):
                self._store(one.kept, found)
            else:
                self._unknown.append(one)

    def _id_of(self, record: Kept) -> str:
        wanted = record.sample, record.monotonic_ns
        known = self._ids.get(record.pipeline, ())
        return next((id_ for sample, at, id_ in reversed(known) if (sample, at) == wanted), "")

    def hear(self, cell: str, kept: KeptFile) -> None:
        """Take a window of a cell. ``UnreadableError`` if the pipeline is not the cell's."""
        record = kept.record
        options = self._options.get(record.pipeline)
        try:
            self._ledger.check_owner(cell, record.pipeline, monotonic())
        except UnreadableError:
            kept.file.close()
            raise
        if options is None:
            kept.file.close()
        elif not _may_keep(options, record):
            self._drop(kept, "consent")
        elif not self._limits[record.pipeline].take(record, monotonic()):
            self._drop(kept, "hour")
        elif (found := self._id_of(record)) or len(self._unknown) >= MOST_UNKNOWN:
            self._store(kept, found)
        else:
            self._unknown.append(_Waiting(kept, monotonic() + PATIENCE))

    def _store(self, kept: KeptFile, result: str) -> None:
        record = kept.record
        capture = capture_of(record, self._origin.device, result)
        wanted = self._config.pipelines.get(record.pipeline) if self._config else None
        if wanted is not None:
            named = slices(wanted.groups, capture.time.astimezone())
            capture.groups = dict(name.split("=", 1) for name in named)
        job = Store(capture, kept.file, record.size)
        if not self._writer.store(job):
            self._drop(kept, "busy")

    def _drop(self, kept: KeptFile, cause: str) -> None:
        kept.file.close()
        self._lose(kept.pipeline, cause)

    def _lose(self, pipeline: str, cause: str) -> None:
        self._ledger.account(pipeline).lost[cause] += 1

    def _note(self, outcome: Outcome) -> None:
        """Count what the writer did."""
        if isinstance(outcome, Labelled):
            self._count_truth(outcome)
            return
        pipeline = outcome.capture.pipeline if isinstance(outcome, Stored) else outcome.pipeline
        options, account = self._options.get(pipeline), self._ledger.account(pipeline)
        if options is None:
            return
        health = account.captures or CaptureHealth(count=0, bytes=0, most_bytes=options.bytes, kept={}, lost={})
        account.captures = health
        if isinstance(outcome, Found):
            self._found(outcome, health)
        elif isinstance(outcome, Stored):
            reason = outcome.capture.reasons[0]
            health.kept[reason] = health.kept.get(reason, 0) + 1
            health.problem = ""
        else:
            self._lose(pipeline, outcome.cause)
            self._report_problem(account, outcome, health)

    def _count_truth(self, labelled: Labelled) -> None:
        """Count what a person said about a capture as feedback."""
        capture, truth = labelled.capture, labelled.truth
        feedback = Feedback(
            id=capture.id, truth=truth.truth, tolerance=truth.tolerance, groups=dict(capture.groups)
        )
        try:
            taken = self._feedback(feedback)
            known, reason = taken.known, taken.reason
        except ValueError as error:
            known, reason = False, str(error)
        if reason:
            what = "counts" if known else "does not count"
            log.warning("capture %s: its truth %s: %s", capture.name, what, reason)
        self._writer.counted(labelled, known=known)

    def _found(self, found: Found, health: CaptureHealth) -> None:
        health.count, health.bytes, health.most_bytes = found.count, found.bytes, found.most_bytes
        health.evicted, health.labelled, health.uploaded = found.evicted, found.labelled, found.uploaded
        health.damaged += len(found.damaged)
        for problem in found.damaged:
            log.warning("pipeline %s: captures: %s", found.pipeline, problem)

    def _report_problem(self, account: Account, lost: NotStored, health: CaptureHealth) -> None:
        """Report once why windows are not kept, until one is."""
        if not health.problem:
            event = "captures_full" if lost.cause == "full" else "captures_failed"
            self._events.report(event, account.pipeline, lost.reason)
        health.problem = lost.reason

    def close(self) -> None:
        """Write what waits."""
        while self._unknown:
            self._store(self._unknown.popleft().kept, "")
        self._writer.close()


def _may_keep(options: KeepOptions, record: Kept) -> bool:
    """Whether a window may be kept, whatever its worker decided: which may have other options, or be hostile."""
    if consent.refuses(options, record.answer) or record.key != _key_id(options.encrypt_for):
        return False
    return consent.may_keep(options, datetime.fromtimestamp(record.wall_ns / 1e9).astimezone())


def _key_id(key: str) -> str:
    """Return the id of a public key, empty if there is none."""
    return sealing.key_id(base64.b64decode(key)) if key else ""


def capture_of(record: Kept, device: str, result: str) -> Capture:
    """Return the header of a capture. It gets its number when it is written. ``result``: the result's id."""
    seconds = record.wall_ns / 1e9
    return Capture(
        number=1,
        device=device,
        pipeline=record.pipeline,
        id=result,
        time=datetime.fromtimestamp(seconds, timezone.utc),
        clock=clock.mark_at(seconds),
        sample=record.sample,
        model=record.model,
        version=record.version,
        reasons=record.reasons,
        detail=record.detail,
        answer=record.answer,
        score=record.score,
        output=record.output,
        window=record.window,
        encrypted_for=record.key,
    )
