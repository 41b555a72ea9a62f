"""The ledger: accepts what workers made, and counts it. Decides, without I/O.

Once a result gets its number here, it belongs to the supervisor. It is appended to the bus, and consumers get it
even if its worker ends. The same number twice is the same result, so they can drop what comes twice.

All counters only rise. A reader that wants what happened since it last looked takes the difference itself, see
``limpet.supervision.health``, so that one reader takes nothing from another.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from limpet.bucket import Bucket
from limpet.contracts.accuracy import AccuracyHealth
from limpet.contracts.adaptation import AdaptationsHealth
from limpet.contracts.captures import CaptureHealth
from limpet.contracts.messages import ResultMessage, SnapshotMessage
from limpet.contracts.savings import Saver, SavingCounts, added
from limpet.contracts.uncertainty import Uncertainties
from limpet.device import clock
from limpet.errors import UnreadableError
from limpet.histogram import merge
from limpet.supervision.monitor_accounts import MonitorAccount
from limpet.supervision.traffic import LEAVING
from limpet.wire.border import folded
from limpet.wire.records import SnapshotStep, TimedStep, Transition
from limpet.wording import joined, same_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from limpet.contracts.messages import Message, Origin
    from limpet.wire.records import Figures, Heartbeat, Result, Snapshot

SNAPSHOTS_PER_SECOND, SNAPSHOTS_AT_ONCE = 1.0, 2
"""Snapshots of a pipeline that are passed on. A worker takes fewer; the others are counted as skipped."""
LARGEST_COUNT = (1 << 53) - 1
"""Readers of JSON have integers up to here exactly, and msgspec writes none above 2^64."""


class BackupModel(NamedTuple):
    """The model that runs in place of the main one, and why."""

    model: str
    version: int
    reason: str


class Account(msgspec.Struct):
    """One pipeline since the supervisor started: its state, and its counts.

    ``results`` is the number of the last result. ``failovers`` counts how often it left an accelerator for
    something worse. ``looked_at`` counts windows that were compared with the range of
    the model's quantized input, and ``clipped`` those that exceeded it. ``dropped`` has samples by cause.
    ``latency`` has a histogram in ns for each stage, see ``limpet.histogram``. The ids of results begin with
    ``prefix``.
    """

    pipeline: str
    prefix: str
    last: Transition
    assigned: bool = False
    """Whether the pipeline was assigned to a cell, and nothing was reported of it yet."""
    removed: bool = False
    """Whether the pipeline is not configured any more. If it comes back, its results are numbered on."""
    results: int = 0
    errors: int = 0
    restarts: int = 0
    failovers: int = 0
    looked_at: int = 0
    clipped: int = 0
    events_left_out: int = 0
    dropped: Counter[str] = msgspec.field(default_factory=Counter)
    latency: dict[TimedStep, dict[int, int]] = msgspec.field(default_factory=dict)
    backup: BackupModel | None = None
    """What it runs, or ran last, in place of its main model. Then it is degraded."""
    accuracy: AccuracyHealth | None = None
    adaptations: AdaptationsHealth | None = None
    """What ``limpet.supervision.learning`` knows of its model."""
    snapshots: Counter[SnapshotStep] = msgspec.field(default_factory=Counter)
    savings: dict[Saver, SavingCounts] = msgspec.field(default_factory=dict)
    """What each of them saved."""
    uncertainty: Uncertainties = msgspec.field(default_factory=Uncertainties)
    monitors: MonitorAccount = msgspec.field(default_factory=MonitorAccount)
    captures: CaptureHealth | None = None
    """What is in its ring of captures, ``None`` if it keeps none."""
    lost: Counter[str] = msgspec.field(default_factory=Counter)
    """Windows that were not kept, by cause."""
    snapshot_limit: Bucket = msgspec.field(default_factory=lambda: Bucket(SNAPSHOTS_PER_SECOND, SNAPSHOTS_AT_ONCE))

    def add(self, figures: Figures, dropped: Mapping[str, int]) -> None:
        """Add what a heartbeat brought; ``dropped`` are samples of its source, by cause.

        Causes beyond ``MOST_CAUSES`` count as "other".
        """
        new = Counter(folded(dropped, self.dropped))
        new["gap"] += figures.discarded
        for cause, count in new.items():
            if count:
                self.dropped[cause] = min(self.dropped[cause] + count, LARGEST_COUNT)
        self.errors = min(self.errors + figures.errors, LARGEST_COUNT)
        self.looked_at = min(self.looked_at + figures.looked_at, LARGEST_COUNT)
        self.clipped = min(self.clipped + figures.clipped, LARGEST_COUNT)
        for step, count in figures.snapshots.items():
            self.snapshots[step] = min(self.snapshots[step] + count, LARGEST_COUNT)
        for saver, counts in figures.savings.items():
            self.savings[saver] = added(self.savings.get(saver, SavingCounts()), counts)
        if figures.uncertainty is not None:
            self._add_uncertainty(figures.uncertainty)
        for cause, count in figures.lost.items():
            self.lost[cause] = min(self.lost[cause] + count, LARGEST_COUNT)
        for stage, buckets in figures.latency.items():
            merge(self.latency.setdefault(stage, {}), buckets)

    def _add_uncertainty(self, new: Uncertainties) -> None:
        total = self.uncertainty
        total.windows = min(total.windows + new.windows, LARGEST_COUNT)
        total.runs = min(total.runs + new.runs, LARGEST_COUNT)
        total.abstained = min(total.abstained + new.abstained, LARGEST_COUNT)
        for size, count in new.sets.items():
            total.sets[size] = min(total.sets.get(size, 0) + count, LARGEST_COUNT)

    def is_backup(self, model: str, version: int) -> bool:
        """Whether a model is the one that runs in place of the main one."""
        return self.backup is not None and (model, version) == (self.backup.model, self.backup.version)

    def move(self, to: Transition) -> list[tuple[str, str]]:
        """Take note of a transition. Return the events that it is, each with its reason."""
        before, self.last = self.last, to
        if self.backup is not None and self.is_backup(to.model, to.version):
            to.degraded = True
            to.reason = joined([*filter(None, [to.reason]), f"backup model: {self.backup.reason}"])
        if not to.model:
            to.model, to.version, to.delegate = before.model, before.version, before.delegate
            to.delegate_share, to.degraded = before.delegate_share, before.degraded
            to.placement, to.sandbox = before.placement, before.sandbox
        events: list[tuple[str, str]] = []
        waits_for_else = to.state == "waiting" and not same_reason(to.reason, before.reason)
        if to.state != before.state or self.assigned or waits_for_else:
            events.append((to.state, to.reason))
        self.assigned = False
        worse = to.degraded and to.reason and (to.delegate, to.reason) != (before.delegate, before.reason)
        if to.state == "running" and (to.degraded != before.degraded or worse):
            why = f"; {to.reason}" if to.reason else ""
            events.append(("degraded" if to.degraded else "recovered", f"runs on {to.delegate}{why}"))
        if before.state in {"running", "waiting"} and before.placement is not None and _is_worse(before, to):
            self.failovers = min(self.failovers + 1, LARGEST_COUNT)
        return events


def _is_worse(before: Transition, to: Transition) -> bool:
    """Whether a pipeline has left its delegate for one that it would rather not be on."""
    return to.degraded and to.delegate != before.delegate


class Ledger:
    """The accounts of all pipelines, and which cell may add to each. ``publish`` puts messages on the bus.

    Times are seconds on any steady clock.
    """

    def __init__(self, origin: Origin, publish: Callable[[Sequence[Message]], None]) -> None:
        self._origin = origin
        self._publish = publish
        self._accounts: dict[str, Account] = {}
        self._owners: dict[str, str] = {}
        self._former: dict[tuple[str, str], float] = {}
        """Until when a cell may hand over results of a pipeline that it does not own any more."""

    @property
    def accounts(self) -> Mapping[str, Account]:
        """The accounts by pipeline, those of earlier configurations among them."""
        return self._accounts

    @property
    def current(self) -> list[Account]:
        """The accounts of the pipelines that are configured, or still report that they stop."""
        return [account for account in self._accounts.values() if not account.removed]

    def account(self, pipeline: str) -> Account:
        """Return the account of a pipeline, opened at its first use."""
        if pipeline not in self._accounts:
            prefix = f"{self._origin.device}/{pipeline}/{self._origin.boot}/"
            self._accounts[pipeline] = Account(pipeline, prefix, Transition(pipeline, "stopped"))
        return self._accounts[pipeline]

    def assign(self, owners: Mapping[str, str], now: float) -> None:
        """Take note of which cell runs each pipeline. The cell before has ``LEAVING`` seconds to finish."""
        self._former = {who: until for who, until in self._former.items() if until > now}
        for pipeline, cell in self._owners.items():
            if owners.get(pipeline) != cell:
                self._former[cell, pipeline] = now + LEAVING
        self._owners = dict(owners)
        removed = {name for name, account in self._accounts.items() if account.removed}
        for pipeline in owners.keys() - (self._accounts.keys() - removed):
            account = self.account(pipeline)
            account.last, account.assigned, account.removed = Transition(pipeline, "starting"), True, False

    def has_moved(self, cell: str, pipeline: str) -> bool:
        """Whether another cell runs a pipeline now: its state is not this cell's to report any more."""
        return self._owners.get(pipeline, cell) != cell

    def accept(self, cell: str, results: Sequence[Result[Any]], now: float) -> list[ResultMessage]:
        """Give results their numbers, append them to the bus, and return them.

        ``UnreadableError`` if one is of a pipeline that the cell does not own; then none is accepted.
        """
        for pipeline in {result.pipeline for result in results}:
            self.check_owner(cell, pipeline, now)
        numbered = [self._numbered(result) for result in results]
        self._publish(numbered)
        return numbered

    def add(self, cell: str, heartbeat: Heartbeat, now: float) -> None:
        """Count what happened in pipelines of a cell. ``UnreadableError`` if it does not own one."""
        for pipeline in heartbeat.pipelines:
            self.check_owner(cell, pipeline, now)
        for pipeline, figures in heartbeat.pipelines.items():
            self.account(pipeline).add(figures, heartbeat.dropped)

    def accept_snapshot(self, cell: str, snapshot: Snapshot, now: float) -> None:
        """Append a snapshot to the bus, unless too many come. ``UnreadableError`` if the cell does not own it."""
        self.check_owner(cell, snapshot.pipeline, now)
        account = self.account(snapshot.pipeline)
        if account.removed:
            return
        if account.snapshot_limit.level(now) < 1:
            account.snapshots["skipped"] += 1
            return
        account.snapshot_limit.spend(1)
        self._publish([self._picture(snapshot)])

    def _picture(self, snapshot: Snapshot) -> SnapshotMessage:
        return SnapshotMessage(
            device=self._origin.device,
            pipeline=snapshot.pipeline,
            time=datetime.fromtimestamp(snapshot.wall_ns / 1e9, timezone.utc),
            sample=snapshot.sample,
            jpeg=snapshot.jpeg,
        )

    def check_owner(self, cell: str, pipeline: str, now: float) -> None:
        """See that a cell may add to the account of a pipeline. ``UnreadableError`` if not."""
        if self._owners.get(pipeline) != cell and self._former.get((cell, pipeline), now) <= now:
            raise UnreadableError(f"it sent results or counts of {pipeline!r}, which is no pipeline of {cell!r}")

    def _numbered(self, result: Result[Any]) -> ResultMessage:
        account, origin = self.account(result.pipeline), self._origin
        account.results += 1
        seconds = result.wall_ns / 1e9
        return ResultMessage(
            id=f"{account.prefix}{account.results}",
            device=origin.device,
            pipeline=result.pipeline,
            boot=origin.boot,
            sequence=account.results,
            time=datetime.fromtimestamp(seconds, timezone.utc),
            monotonic_ns=result.monotonic_ns,
            sample=result.sample,
            model=result.model,
            version=result.version,
            delegate=result.delegate,
            degraded=result.degraded or account.is_backup(result.model, result.version),
            latency_us=result.latency_ns / 1000,
            output=result.output,
            clock=clock.mark_at(seconds),
        )
