"""When the backup model of a pipeline takes over, and when the main one is tried again. Decides, without I/O.

The backup model takes over if the main one fails, cannot be opened, or is too slow. After a pause the main model
is tried again, by a swap: the backup model goes on until the main one has proven itself. Each failure doubles the
pause. Failures are forgotten after the main model has run for ``FORGIVEN`` seconds. So the models change places
more and more rarely.

Times are seconds on any steady clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from limpet.config import Backup, PipelineConfig
from limpet.histogram import difference, quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST_PAUSE = 3600.0
"""Seconds between two attempts, unless ``retry_after`` is more."""
FORGIVEN = 3600.0
SLOW = 0.95
"""Quantile of the latency that is compared with ``slower_than_ms``."""
Phase: TypeAlias = Literal["main", "backup", "returning"]
"""``returning``: the main model is to run again, and has not proven itself yet."""


class _State(msgspec.Struct):
    """One pipeline. ``strikes``: failures of the main model that are not forgotten. ``since``: when it began.

    ``before``: the latencies up to the first window that is looked at now.
    """

    wanted: PipelineConfig
    table: Backup
    phase: Phase = "main"
    reason: str = ""
    strikes: int = 0
    since: float | None = None
    retry_at: float = 0.0
    before: dict[int, int] | None = None


class Backups:
    """The pipelines that have a backup model."""

    def __init__(self, pipelines: Mapping[str, PipelineConfig]) -> None:
        self._states: dict[str, _State] = {}
        self.use(pipelines)

    def use(self, pipelines: Mapping[str, PipelineConfig]) -> None:
        """Take the pipelines of a configuration. The main model of each is tried at once."""
        known = self._states
        self._states = {}
        for name, wanted in pipelines.items():
            if wanted.backup is None:
                continue
            same = known.get(name)
            if same is not None and same.wanted == wanted:
                self._states[name] = same
            else:
                self._states[name] = _State(wanted, wanted.backup)
        self.retry(self._states)

    @property
    def active(self) -> dict[str, str]:
        """The pipelines that are to run their backup model, each with the reason."""
        return {name: one.reason for name, one in self._states.items() if one.phase == "backup"}

    def reason(self, pipeline: str) -> str:
        """Return why a pipeline runs its backup model, also while the main one is tried again. Else empty."""
        one = self._states.get(pipeline)
        return one.reason if one is not None and one.phase != "main" else ""

    @property
    def watched(self) -> bool:
        """Whether there is a pipeline with a backup model."""
        return bool(self._states)

    def not_back(self, pipeline: str, reason: str, now: float) -> None:
        """Take note that a model did not take over. If that was the main one that returns, it waits again."""
        one = self._states.get(pipeline)
        if one is not None and one.phase == "returning":
            self.failed(pipeline, reason, now)

    def failed(self, pipeline: str, reason: str, now: float) -> bool:
        """Take note that the main model does not work. Return whether the backup model is to take over."""
        one = self._states.get(pipeline)
        if one is None or one.phase == "backup":
            return False
        if one.phase == "main" and one.since is not None and now - one.since >= FORGIVEN:
            one.strikes = 0
        pause = min(one.table.retry_after * 2**one.strikes, max(LONGEST_PAUSE, one.table.retry_after))
        one.phase, one.reason, one.strikes = "backup", reason, min(one.strikes + 1, 30)
        one.retry_at, one.since, one.before = now + pause, None, None
        return True

    def ran(self, pipeline: str, now: float) -> bool:
        """Take note that the main model runs. Return whether it has come back in place of the backup model."""
        one = self._states.get(pipeline)
        if one is None or one.phase == "backup" or one.since is not None:
            return False
        back = one.phase == "returning"
        one.phase, one.reason, one.since, one.before = "main", "", now, None
        return back

    def slow(self, pipeline: str, latency: Mapping[int, int]) -> str:
        """Look at all latencies of a pipeline so far, a histogram in ns. Return why the main model is too slow."""
        one = self._states.get(pipeline)
        if one is None or one.table.slower_than_ms is None or one.phase != "main" or one.since is None:
            return ""
        if one.before is None:
            one.before = dict(latency)  # the rest of it is of what ran before
            return ""
        new = difference(latency, one.before)
        if sum(new.values()) < one.table.windows:
            return ""
        one.before = dict(latency)
        found = (quantile(new, SLOW) or 0.0) / 1e6
        if found <= one.table.slower_than_ms:
            return ""
        limit = f"slower_than_ms is {one.table.slower_than_ms:g}"
        return f"it took {found:.3g} ms in 95 % of {sum(new.values())} windows, and {limit}"

    def tend(self, now: float) -> None:
        """Have main models tried again whose pause is over."""
        self.retry([name for name, one in self._states.items() if one.retry_at <= now])

    def retry(self, pipelines: Iterable[str]) -> None:
        """Have the main models of these pipelines tried at once."""
        for name in pipelines:
            one = self._states.get(name)
            if one is not None and one.phase == "backup":
                one.phase = "returning"
