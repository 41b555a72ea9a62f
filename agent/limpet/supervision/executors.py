"""The executors of one worker and its shadows, as the supervisor sees them. Decides, without I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from limpet.bucket import Bucket
from limpet.contracts.assignment import ModelFile
from limpet.contracts.delegate import CPU
from limpet.errors import UnreadableError
from limpet.wire.records import NeedShadow

if TYPE_CHECKING:
    from limpet.contracts.assignment import PipelineAssignment
    from limpet.wire.records import Need

MOST_IN_USE = 2
"""Executors that a revision of a pipeline uses at once: the one in use, and a better one that opens."""
SHADOW = -1
"""Stands for a revision: a shadow belongs to none."""
MOST_OF_A_PIPELINE = 4
"""Executors of a pipeline, those that were killed and have not ended among them."""
PER_SECOND, AT_ONCE = 1.0, 8.0
"""Executors that one worker may request per second on average, and at once for each of its pipelines."""


class Executor(msgspec.Struct):
    """One executor. ``fork`` is the number of its fork, ``number`` is the worker's own for it.

    ``shadow``: the model that it runs if it is a shadow.
    """

    fork: int
    number: int
    pipeline: str
    revision: int
    pid: int | None = None
    dismissed: bool = False
    shadow: ModelFile | None = None

    @property
    def is_shadow(self) -> bool:
        """Whether it runs beside a pipeline, and not for it."""
        return self.revision == SHADOW


class Executors:
    """The executors of one worker. No other worker can name, hold or dismiss them."""

    def __init__(self) -> None:
        self._all: dict[int, Executor] = {}
        self._bucket: Bucket | None = None

    def refusal(self, need: Need, pipeline: PipelineAssignment | None, pipelines: int, now: float) -> str:
        """Return why a worker cannot have an executor, if it cannot. ``UnreadableError`` if it should not ask.

        ``pipeline``: what the pipeline runs in the revision that the worker names, ``None`` if there is none.
        ``pipelines``: how many the worker has.
        """
        if refusal := self._refuse(need, need.revision, MOST_IN_USE, pipelines, now):
            return refusal
        if pipeline is None or need.delegate not in pipeline.options.delegates or need.delegate == CPU.name:
            return f"the configuration has no delegate {need.delegate!r} for it"
        return ""

    def refusal_of_shadow(self, need: NeedShadow, pipelines: int, now: float) -> str:
        """Return why a worker cannot have a shadow now, if it cannot. ``UnreadableError`` if it should not ask."""
        return self._refuse(need, SHADOW, 1, pipelines, now)

    def _refuse(self, need: Need | NeedShadow, revision: int, most: int, pipelines: int, now: float) -> str:
        if self._bucket is None:
            self._bucket = Bucket(PER_SECOND, AT_ONCE * max(pipelines, 1))
        if self._bucket.level(now) < 1:
            raise UnreadableError("it requested executors too often")
        self._bucket.spend(1)
        if any(one.number == need.number and not one.dismissed for one in self._all.values()):
            raise UnreadableError(f"it requested the executor {need.number} twice")
        used = Counter((one.pipeline, one.revision) for one in self._all.values() if not one.dismissed)
        shadow = revision == SHADOW
        if used[need.pipeline, revision] >= most:
            what = "shadow" if shadow else "executors"
            raise UnreadableError(f"it requested more than {most} {what} of {need.pipeline!r}")
        alike = [one for one in self._all.values() if one.pipeline == need.pipeline and one.is_shadow == shadow]
        if len(alike) >= MOST_OF_A_PIPELINE:
            return "those before it have not ended yet"
        return ""

    def add(self, fork: int, need: Need | NeedShadow, shadow: ModelFile | None = None) -> None:
        """Take note of an executor that the fork server is to fork. ``shadow``: its model, if it is one."""
        revision = SHADOW if isinstance(need, NeedShadow) else need.revision
        self._all[fork] = Executor(fork, need.number, need.pipeline, revision, shadow=shadow)

    def forked(self, fork: int, pid: int) -> int | None:
        """Take note of its process; return the process id if it is to be killed at once."""
        self._all[fork].pid = pid
        return pid if self._all[fork].dismissed else None

    def dismiss(self, number: int | None = None) -> list[int]:
        """Dismiss one executor, or all. Return the process ids to kill."""
        gone = [one for one in self._all.values() if number in (None, one.number) and not one.dismissed]
        for one in gone:
            one.dismissed = True
        return [one.pid for one in gone if one.pid is not None]

    def forget(self, fork: int) -> None:
        """Take note that an executor was never forked."""
        self._all.pop(fork, None)

    def ended(self, pid: int) -> Executor | None:
        """Take note of the end of a process; return the executor that it was, if it was one of these."""
        for fork, one in self._all.items():
            if one.pid == pid:
                return self._all.pop(fork)
        return None

    def not_forked_yet(self) -> set[int]:
        """Return the numbers of the forks that the fork server has not answered yet."""
        return {fork for fork, one in self._all.items() if one.pid is None}

    def __contains__(self, fork: object) -> bool:
        return fork in self._all

    def pids(self) -> dict[str, int]:
        """Return the process ids by a name for people."""
        return {f"{one.pipeline}/{one.fork}": one.pid for one in self._all.values() if one.pid is not None}

    def clear(self) -> None:
        """Forget all: the fork server is gone, and they with it."""
        self._all.clear()
