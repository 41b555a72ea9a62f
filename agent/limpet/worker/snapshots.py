"""When a picture of a result is taken: on command, on events, of every so many results; at most one a second.

A picture that a client of the local API looks at goes there alone, and is no snapshot. Only a pipeline whose
options have ``snapshots`` has its last frame kept. ``limpet.worker.snapshot_picture`` draws.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timezone
from time import monotonic
from typing import TYPE_CHECKING, Any

from limpet.contracts.messages import SnapshotTaken
from limpet.errors import UnreadableError
from limpet.untrusted import reading
from limpet.wire.records import Answered, Snapshot

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from limpet.contracts.assignment import SnapshotOptions
    from limpet.contracts.data import Samples
    from limpet.wire.records import Result, SnapshotStep
    from limpet.worker.snapshot_picture import Picture

log = logging.getLogger(__name__)

PAUSE, SHOWN_PAUSE = 1.0, 0.2
"""Seconds from one snapshot of a pipeline to the next, and from one picture that is only shown to the next."""
MOST_WAITING = 16
"""Commands that may wait for a picture."""
OFF = "set `snapshots = {}` in its table to allow them"


@dataclass
class _Shot:
    """What a pipeline saw last: its frame, what it made of it, and the options and counts of the pipeline."""

    frame: Any
    result: Result[Any]
    options: SnapshotOptions
    counts: Counter[SnapshotStep]


@dataclass
class _Pipeline:
    """``wanted``: a picture is to be taken as soon as the pause is over. ``waiting``: commands to be answered.

    ``looking``: questions whose answer is the picture itself.
    """

    last: _Shot | None = None
    wanted: bool = False
    waiting: list[int] = field(default_factory=list)
    looking: list[int] = field(default_factory=list)
    results: int = 0
    not_before: float = 0.0
    shown_not_before: float = 0.0
    failing: bool = False
    """Whether the log says already that pictures cannot be made."""


class Snapshots:
    """The pictures of all pipelines of a worker. ``send`` takes what goes to the supervisor."""

    def __init__(self, send: Callable[[Snapshot | Answered], None]) -> None:
        self._send = send
        self._pipelines: dict[str, _Pipeline] = {}

    def see(
        self,
        options: SnapshotOptions,
        counts: Counter[SnapshotStep],
        block: Samples,
        result: Result[Any],
        *,
        event: bool = False,
    ) -> None:
        """Keep the frame of a result. ``block`` has it. ``event``: something appeared in it, or left.

        The pipeline's pictures are counted in ``counts``.
        """
        pipeline = self._pipelines.setdefault(result.pipeline, _Pipeline())
        pipeline.last = _Shot(block.values[result.sample - block.index], result, options, counts)
        pipeline.results += 1
        if (event and options.events) or (options.every and pipeline.results % options.every == 0):
            if pipeline.wanted:
                counts["skipped"] += 1
            pipeline.wanted = True

    def want(self, number: int, name: str, options: SnapshotOptions | None) -> None:
        """Take a picture of the last result for a command, or of the next one if there is none yet."""
        if self._takes_pictures(number, name, options):
            self._wait(number, self._pipelines.setdefault(name, _Pipeline()).waiting)

    def show(self, number: int, name: str, options: SnapshotOptions | None) -> None:
        """Answer with a picture of the last result, or of the next one if there is none yet. It is no snapshot."""
        if self._takes_pictures(number, name, options):
            self._wait(number, self._pipelines.setdefault(name, _Pipeline()).looking)

    def _takes_pictures(self, number: int, name: str, options: SnapshotOptions | None) -> bool:
        if options is None:
            self._send(Answered(number, f"the pipeline {name!r} takes no pictures: {OFF}"))
        return options is not None

    def _wait(self, number: int, waiting: list[int]) -> None:
        if len(waiting) >= MOST_WAITING:
            self._send(Answered(number, f"{MOST_WAITING} commands wait for a picture already"))
        else:
            waiting.append(number)

    def forget(self, name: str) -> None:
        """Let go of the frame of a pipeline that takes no pictures any more, and answer who waits for one."""
        pipeline = self._pipelines.pop(name, None)
        for number in (*pipeline.waiting, *pipeline.looking) if pipeline else ():
            self._send(Answered(number, "the pipeline was closed meanwhile; send it again"))

    def take(self) -> None:
        """Take the pictures that are due."""
        for pipeline in self._pipelines.values():
            shot, now = pipeline.last, monotonic()
            if shot is None:
                continue
            if (pipeline.wanted or pipeline.waiting) and now >= pipeline.not_before:
                pipeline.not_before = now + PAUSE
                waiting, pipeline.waiting, pipeline.wanted = pipeline.waiting, [], False
                self._take(pipeline, shot, waiting)
            if pipeline.looking and now >= pipeline.shown_not_before:
                pipeline.shown_not_before = now + SHOWN_PAUSE
                looking, pipeline.looking = pipeline.looking, []
                self._show(shot, looking)

    def _show(self, shot: _Shot, looking: list[int]) -> None:
        try:
            answer, problem = _draw(shot).jpeg, ""
        except UnreadableError as error:
            answer, problem = None, str(error)
        for number in looking:
            self._send(Answered(number, problem, answer))

    def _take(self, pipeline: _Pipeline, shot: _Shot, waiting: list[int]) -> None:
        result = shot.result
        try:
            picture = _draw(shot)
        except UnreadableError as error:
            shot.counts["failed"] += 1
            if not pipeline.failing:
                log.warning("pipeline %s: no snapshot: %s", result.pipeline, error)
            pipeline.failing = True
            for number in waiting:
                self._send(Answered(number, str(error)))
            return
        pipeline.failing = False
        shot.counts["taken"] += 1
        jpeg = picture.jpeg
        self._send(Snapshot(result.pipeline, result.monotonic_ns, result.wall_ns, result.sample, jpeg))
        taken = SnapshotTaken(
            time=datetime.fromtimestamp(result.wall_ns / 1e9, timezone.utc),
            sample=result.sample,
            width=picture.width,
            height=picture.height,
            bytes=len(jpeg),
        )
        for number in waiting:
            self._send(Answered(number, result=taken))


def _draw(shot: _Shot) -> Picture:
    with reading("the picture"):
        from limpet.worker import snapshot_picture  # Pillow takes memory: only who takes pictures has it

        return snapshot_picture.draw(shot.frame, shot.result.output, shot.options)
