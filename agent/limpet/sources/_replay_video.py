"""Plays a video as a source: at its own speed, or as fast as frames are taken, with the recorded times."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.contracts.data import SampleSpec, empty_samples, frame_samples
from limpet.errors import ConfigError, UnreadableError
from limpet.sources._av_video import Video

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.contracts.data import Samples
    from limpet.contracts.frame import Frame

IDLE = 0.5
"""Seconds after which a video whose next frame is not due shows that it still plays."""
LONGEST = 1e9
"""Seconds that a video may take to play."""

log = logging.getLogger(__name__)


class Schedule(NamedTuple):
    """``pace``: ns that a recorded second lasts. ``rate``: frames a second in place of the recorded times."""

    pace: float
    flat_out: bool
    loop: bool
    rate: float | None


class Player:
    """A video that can be played. ``ConfigError``: it cannot be played so. ``spec``: what its frames are."""

    def __init__(self, path: Path, schedule: Schedule) -> None:
        if not path.exists():
            raise ConfigError([f"path: {path}: there is no such file"])
        if not path.is_file():
            raise ConfigError([f"path: {path}: is not a regular file"])
        try:
            self._video = Video(path)
        except (UnreadableError, OSError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise ConfigError([f"path: {path}: {reason}"]) from error
        self._schedule = schedule
        facts = self._video.facts
        rate = schedule.rate or facts.rate or None
        if rate is None and not schedule.flat_out:
            way_out = 'give its frames a second, or speed = "flat-out"'
            raise ConfigError([f"rate: missing; {path} does not say when its frames were taken: {way_out}"])
        if facts.seconds * schedule.pace > LONGEST * 1e9:
            raise ConfigError([f"path: {path} says that it lasts {facts.seconds:.3g} s: it is damaged"])
        live = not schedule.flat_out
        self.spec = SampleSpec(
            (facts.size.height, facts.size.width, 3),
            np.dtype(np.uint8),
            rate=rate,
            live=live,
            timed=rate is not None,
            queue=1 if live else 4,
            frames=True,
        )

    def play(self, dropped: Counter[str]) -> Iterator[Samples]:
        """Yield the frames when they are due; flat out, the first time through ends now."""
        first, begin = 0, time.monotonic_ns()
        if self._schedule.flat_out:
            begin -= int(self._video.facts.seconds * 1e9)
        while True:
            before = dropped.copy()
            lap = _Lap(self.spec, self._schedule, begin, first)
            for timed in self._video.frames(dropped):
                yield from lap.wait(timed.seconds, timed.number)
                yield lap.sample(timed.frame, timed.number)
                del timed
            self._log_damage(dropped - before)
            if not lap.count:
                raise ConfigError([f"path: {self._video.path}: none of its frames can be decoded"])
            if not self._schedule.loop:
                return
            begin, first = lap.end_ns, first + lap.count

    def _log_damage(self, damage: Counter[str]) -> None:
        path = self._video.path
        if damage["corrupt"]:
            log.warning("%s: frames that cannot be decoded: %d", path, damage["corrupt"])
        if damage["cut_short"]:
            log.warning("%s: it is cut short; frames that are missing: %d", path, damage["cut_short"])


class _Lap:
    """Once through a video that began at ``begin_ns``, with frames before it."""

    def __init__(self, spec: SampleSpec, schedule: Schedule, begin_ns: int, first: int) -> None:
        self._spec, self._schedule = spec, schedule
        self._first = self._next = first
        self._begin_ns = self.end_ns = self._due_ns = begin_ns
        self.count = 0

    def wait(self, seconds: float | None, number: int) -> Iterator[Samples]:
        """Wait until a frame is due; yield signs of life meanwhile."""
        schedule = self._schedule
        rate = self._spec.rate
        if schedule.rate or seconds is None:
            seconds = None if rate is None else number / rate
        if seconds is None:
            self._due_ns = self.end_ns = time.monotonic_ns()
            return
        pace = 1e9 if schedule.flat_out else schedule.pace
        self._due_ns = max(self._due_ns, self._begin_ns + int(seconds * pace))
        self.end_ns = self._due_ns + int(pace / (rate or 1.0))
        if schedule.flat_out:
            return
        while (left := self._due_ns - time.monotonic_ns()) > 0:
            if left > IDLE * 1e9:
                yield empty_samples(self._spec, self._next)
            time.sleep(min(left / 1e9, IDLE))

    def sample(self, frame: Frame, number: int) -> Samples:
        """Return a frame as a block."""
        index = self._first + number
        gap = index != self._next or (number == 0 and self._first > 0)
        self._next, self.count = index + 1, number + 1
        wall = time.time_ns() - time.monotonic_ns()
        return frame_samples(frame, self._due_ns, self._due_ns + wall, index, gap=gap)
