"""Reads a source for ever: opens it, and opens it again whenever it went away."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Any

from limpet.errors import SourceError
from limpet.types import Samples, empty_samples

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from limpet.plugin import Source

FIRST_WAIT = 0.1
LONGEST_WAIT = 5.0
SIGN_OF_LIFE = 0.5

log = logging.getLogger(__name__)


class Reader:
    """The samples of a source, over all its interruptions; ends when the source ends.

    ``away`` is the text of the ``SourceError`` while the source is away, else ``None``. Whatever happens,
    something is yielded at least once a second, samples or none. After an interruption the first samples have
    ``gap`` set, and their ``index`` goes on where it was. How often the source went away is counted as
    ``disconnected``.
    """

    def __init__(self, plugin: Source, config: Any, dropped: Counter[str]) -> None:
        self.away: str | None = None
        self._plugin = plugin
        self._config = config
        self._dropped = dropped
        self._next = 0
        self._wait = FIRST_WAIT
        self._there = False

    def __iter__(self) -> Iterator[Samples]:
        """Read until the source ends. Anything but ``SourceError`` passes through."""
        while True:
            try:
                yield from self._read()
            except SourceError as error:
                self._note_away(str(error))
            else:
                return
            yield from self._pause()

    def _read(self) -> Iterator[Samples]:
        """Read until the source ends or goes away."""
        base, gap = self._next, self._next > 0
        with self._plugin.open(self._config, self._dropped) as blocks:
            for samples in blocks:
                self._note_back()
                samples.index += base
                if len(samples):
                    samples.gap |= gap
                    gap = False
                    self._next = samples.index + len(samples)
                    self._wait = FIRST_WAIT
                yield samples

    def _pause(self) -> Iterator[Samples]:
        """Wait before the next try, longer each time until samples come."""
        spec = self._plugin.describe(self._config)
        until = time.monotonic() + self._wait * random.uniform(0.5, 1)
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        while True:
            yield empty_samples(spec, self._next)
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, SIGN_OF_LIFE))

    def _note_away(self, reason: str) -> None:
        if self._there:
            self._dropped["disconnected"] += 1
            self._there = False
        if self.away is None:
            log.warning("source away: %s", reason)
        self.away = reason

    def _note_back(self) -> None:
        self._there = True
        if self.away is not None:
            log.info("source back; it was away: %s", self.away)
            self.away = None
