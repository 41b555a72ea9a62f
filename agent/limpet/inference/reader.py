"""Reads a source without end: opens it, and opens it again whenever it went away."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from limpet.backoff import Backoff
from limpet.contracts.data import Samples, SampleSpec, empty_samples
from limpet.errors import SilentError, SourceError
from limpet.sample_watch import SampleWatch
from limpet.wording import updated

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from limpet.contracts.source import Source

BACKOFF = Backoff(first=0.1, longest=5.0)
"""Seconds until a source that is away is opened again."""
SIGN_OF_LIFE = 0.5
GRACE = 1.0
"""Seconds that a source has to say by itself why samples are overdue."""
LONGEST_SILENCE = 16
"""How many times as long a source may be silent after it was opened again and again: it may take long to begin."""

log = logging.getLogger(__name__)


def _lost(dropped: Counter[str]) -> str:
    """Say what a source dropped."""
    return f"dropped {', '.join(f'{n:,} {cause}' for cause, n in sorted(dropped.items()))}" if dropped else ""


class Expected(NamedTuple):
    """What to expect of a source.

    A source without a sample for ``silence`` seconds (``None``: no limit) is away, and is opened again. Each time
    in a row it may be silent for twice as long. 0: no limit, and silence is no fault.

    With a ``spec``, samples of a live source are overdue after a few seconds. If the source has neither a rate nor
    patience, that is so only while it drops samples. ``reported``: whether others report ``away``, so that the log
    need not.
    """

    silence: float | None = None
    spec: SampleSpec | None = None
    reported: bool = False


ANYTHING = Expected()


class Reader:
    """The samples of a source, over all its interruptions; ends when the source ends.

    ``away`` says why there are no samples: the text of the ``SourceError``, the note of an open source, or that
    samples are overdue. It is ``None`` while there are samples. If its spec has ``patience``, a source is back
    with its first sample, otherwise when it is open. ``tried``: the first opening has ended. The reader always
    yields at least once a second, with samples or without. ``remark``: what the source says is wrong with its
    latest samples, else empty. After an interruption the first samples have ``gap``
    set, and their ``index`` goes on where it was. How often the source went away is counted as ``disconnected``.

    ``explain`` says why the sandbox refused what an error is about, empty if it did not. Such a source is away.
    """

    def __init__(
        self,
        plugin: Source,
        config: Any,
        dropped: Counter[str],
        expected: Expected = ANYTHING,
        explain: Callable[[BaseException], str] = lambda _: "",
    ) -> None:
        silence, spec = expected.silence, expected.spec
        self.away: str | None = None
        self.remark = ""
        self.tried = False
        self._explain = explain
        self._level = logging.DEBUG if expected.reported else logging.WARNING
        self._silence = silence or None
        self._may_be_silent = silence == 0
        self._sends = spec is not None and spec.live and (spec.rate or spec.patience) is not None
        self._returns_with_sample = spec is not None and spec.patience is not None
        rate = spec.rate if spec is not None and spec.live else None
        self._watch = None if spec is None else SampleWatch(rate, time.monotonic(), GRACE)
        self._patience = 1
        self._silent = False
        self._plugin = plugin
        self._config = config
        self._dropped = dropped
        self._next = 0
        self._failures = 0
        self._there = False

    def __iter__(self) -> Generator[Samples]:
        """Read until the source ends. Errors but ``SourceError`` and what the sandbox refuses pass through."""
        while True:
            try:
                yield from self._read()
            except SilentError as error:
                if not self._silent or self.away is None:
                    self._silent = True
                    self._note_away(str(error))
                else:
                    self._note_away(self.away)
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
            self.tried = True
            last_sample = time.monotonic()
            first_sample: float | None = None
            if self._watch is not None:
                self._watch.opened(last_sample)
            for samples in blocks:
                samples.index += base
                if len(samples):
                    samples.gap |= gap
                    gap = self._silent = False
                    self.remark = samples.note
                    self._next = samples.index + len(samples)
                    self._patience = 1
                    first_sample = first_sample or time.monotonic()
                    if time.monotonic() - first_sample >= BACKOFF.longest:
                        self._failures = 0  # One that brings a little each time is not back.
                else:
                    self._note_nothing(samples.note, self._dropped - before)
                if len(samples) or not self._returns_with_sample:
                    self._note_back()
                self._there = True
                yield samples
                if len(samples):
                    last_sample = time.monotonic()  # the consumer may take long
                    before = Counter(self._dropped)
                    if self._watch is not None:
                        self._watch.sample(last_sample)
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

    def _note_nothing(self, note: str, dropped: Counter[str]) -> None:
        """Take that there is no sample. ``note`` is the source's, ``dropped`` counts since the last sample."""
        if note and (dropped or not self._may_be_silent):
            self._silent = True
            self._set_away("no samples", note)
        elif self.away is None and self._is_overdue(dropped):
            self._silent = True
            what = f"all are dropped: {', '.join(sorted(dropped))}" if dropped else "the source sends none"
            self._set_away("no samples", f"no usable sample for some seconds; {what}")

    def _is_overdue(self, dropped: Counter[str]) -> bool:
        expected = bool(dropped) or (self._sends and not self._may_be_silent)
        return expected and self._watch is not None and self._watch.overdue(time.monotonic())

    def _note_away(self, reason: str) -> None:
        self.tried = True
        if self._there:
            self._dropped["disconnected"] += 1
            self._there = False
        self._set_away("source away", reason)

    def _set_away(self, what: str, reason: str) -> None:
        """Note why there are no samples. It is logged if it is another reason than before."""
        before, self.away = self.away, updated(self.away or "", reason)
        if self.away != before:
            log.log(self._level, "%s: %s", what, self.away)

    def _note_back(self) -> None:
        if self.away is not None and not self._silent:
            log.log(min(self._level, logging.INFO), "source back; it was away: %s", self.away)
            self.away = None
