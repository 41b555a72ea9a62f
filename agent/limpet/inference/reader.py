"""Reads a source for ever: opens it, and opens it again whenever it went away."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from limpet.backoff import Backoff
from limpet.contracts.data import Samples, empty_samples
from limpet.errors import SilentError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from limpet.contracts.source import Source

BACKOFF = Backoff(first=0.1, longest=5.0)
"""Seconds until a source that is away is opened again."""
SIGN_OF_LIFE = 0.5
LONGEST_SILENCE = 16
"""How many times as long a source may be silent after it was opened again and again: it may take long to begin."""

log = logging.getLogger(__name__)


def _lost(dropped: Counter[str]) -> str:
    """Say what a source dropped."""
    return f"dropped {', '.join(f'{n:,} {cause}' for cause, n in sorted(dropped.items()))}" if dropped else ""


class Reader:
    """The samples of a source, over all its interruptions; ends when the source ends.

    ``away`` says why there are no samples while the source is away, else ``None``: the text of the
    ``SourceError``, or the note of a source that is open. Whatever happens, something is yielded at least once a
    second, samples or none. After an interruption the first samples have ``gap`` set, and their ``index`` goes on
    where it was. How often the source went away is counted as ``disconnected``.

    A source without a sample for ``silence`` seconds (0 or ``None``: for ever) is away, and is opened again. Each
    time in a row it may be silent for twice as long.

    ``explain`` says why the sandbox refused what an error is about, empty if it did not. Such a source is away.
    """

    def __init__(
        self,
        plugin: Source,
        config: Any,
        dropped: Counter[str],
        silence: float | None = None,
        explain: Callable[[BaseException], str] = lambda _: "",
    ) -> None:
        self.away: str | None = None
        self._explain = explain
        self._silence = silence or None
        self._patience = 1
        self._silent = False
        self._plugin = plugin
        self._config = config
        self._dropped = dropped
        self._next = 0
        self._failures = 0
        self._there = False

    def __iter__(self) -> Iterator[Samples]:
        """Read until the source ends. Errors but ``SourceError`` and what the sandbox refuses pass through."""
        while True:
            try:
                yield from self._read()
            except SilentError as error:
                self._silent = True
                self._note_away(str(error))
            except SourceError as error:
                self._silent = False
                self._note_away("; ".join(filter(None, [str(error), self._explain(error)])))
            except OSError as error:
                if not (refusal := self._explain(error)):
                    raise
                self._silent = False
                self._note_away(f"{error}; {refusal}")
            else:
                return
            yield from self._pause()

    def _read(self) -> Iterator[Samples]:
        """Read until the source ends or goes away."""
        base, gap = self._next, self._next > 0
        before = Counter(self._dropped)
        with self._plugin.open(self._config, self._dropped) as blocks:
            last_sample = time.monotonic()
            for samples in blocks:
                samples.index += base
                if len(samples):
                    samples.gap |= gap
                    gap = self._silent = False
                    self._next = samples.index + len(samples)
                    self._failures, self._patience = 0, 1
                elif samples.note:
                    self._note_silent(samples.note)
                self._note_back()
                yield samples
                if len(samples):
                    last_sample = time.monotonic()  # the consumer may take long
                    before = Counter(self._dropped)
                else:
                    self._refuse_silence(last_sample, samples.note or _lost(self._dropped - before))

    def _refuse_silence(self, last_sample: float, note: str) -> None:
        """Raise ``SilentError`` if there was no sample for too long."""
        if self._silence is None or time.monotonic() - last_sample <= self._silence * self._patience:
            return
        self._patience = min(2 * self._patience, LONGEST_SILENCE)
        raise SilentError(f"no sample for {self._silence:g} s{f': {note}' if note else ''}")

    def _pause(self) -> Iterator[Samples]:
        """Wait before the next try, longer each time until samples come."""
        spec = self._plugin.describe(self._config)
        self._failures += 1
        until = time.monotonic() + BACKOFF.pause(self._failures)
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

    def _note_silent(self, reason: str) -> None:
        """Take why a source that is open has no samples. It says so again and again."""
        self._silent = True
        if self.away is None:
            log.warning("no samples: %s", reason)
            self.away = reason

    def _note_back(self) -> None:
        self._there = True
        if self.away is not None and not self._silent:
            log.info("source back; it was away: %s", self.away)
            self.away = None
