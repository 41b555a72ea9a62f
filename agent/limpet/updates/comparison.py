"""Figures of a new model beside the old one, for each pipeline that tries one. Decides, without I/O.

A worker sends pairs of answers. The ledger's results and the heartbeats say what the new model does on trial. The
figures are in memory alone: a worker's restart leaves them, and the daemon's begins them again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec import field

from limpet.contracts.messages import FeedbackTaken, Right
from limpet.contracts.updates import Comparison, ModelName
from limpet.histogram import bucket_of, quantile
from limpet.updates.answers import Answer, is_right

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.messages import ResultMessage
    from limpet.updates.answers import Pair, Pairs, Truth

Window: TypeAlias = tuple[int, int]
"""The ordinal and the monotonic time in ns of a window's last sample: no other window of this boot has both."""

MOST_REMEMBERED = 4096
"""Results of a pipeline, and windows that both models ran, for which feedback is still taken."""
PAUSE = 1.0
"""Seconds between two times that the figures of a pipeline are passed on."""
TENTHS = 10


class _Model(msgspec.Struct):
    """What is counted of one of the two models."""

    name: ModelName | None
    right: int = 0
    latency: dict[int, int] = field(default_factory=dict)
    scores: list[int] = field(default_factory=lambda: [0] * TENTHS)

    def take(self, answer: Answer, microseconds: float) -> None:
        bucket = bucket_of(int(microseconds * 1000))
        self.latency[bucket] = self.latency.get(bucket, 0) + 1
        if answer.score is not None:
            self.scores[min(int(answer.score * TENTHS), TENTHS - 1)] += 1

    @property
    def latency_us(self) -> float | None:
        median = quantile(self.latency, 0.5)
        return None if median is None else median / 1000


class _Figures(msgspec.Struct):
    """What is known of one pipeline. ``trial``: the pipeline runs the new model."""

    new: _Model
    old: _Model
    trial: bool
    windows: int = 0
    agreed: float = 0.0
    results: int = 0
    errors: int = 0
    skipped: int = 0
    sequences: OrderedDict[int, Window] = field(default_factory=OrderedDict)
    answers: OrderedDict[Window, tuple[Answer, Answer]] = field(default_factory=OrderedDict)
    """The answers of the new and the old model."""
    judged: OrderedDict[int, tuple[bool, bool]] = field(default_factory=OrderedDict)
    """Which of the new and the old model was right, by the number of the result."""
    changed: bool = False
    due: float = 0.0

    def take(self, pair: Pair, *, reversed_: bool) -> None:
        ours, theirs = (self.new, self.old) if reversed_ else (self.old, self.new)
        ours.take(pair.ours, pair.ours_us)
        theirs.take(pair.theirs, pair.theirs_us)
        if pair.agreement is not None:
            self.windows += 1
            self.agreed += pair.agreement
        both = (pair.ours, pair.theirs) if reversed_ else (pair.theirs, pair.ours)
        _remember(self.answers, (pair.sample, pair.monotonic_ns), both)

    def judge(self, sequence: int, new: bool, old: bool) -> None:  # noqa: FBT001 - a pair
        """Count which model was right. Earlier feedback for the same result counts no more."""
        before = self.judged.pop(sequence, (False, False))
        self.new.right += new - before[0]
        self.old.right += old - before[1]
        self.judged[sequence] = new, old
        self.changed = True

    def comparison(self) -> Comparison:
        return Comparison(
            windows=self.windows,
            results=self.results,
            errors=self.errors,
            skipped=self.skipped,
            agreement=self.agreed / self.windows if self.windows else None,
            feedback=len(self.judged),
            right_new=self.new.right,
            right_old=self.old.right,
            latency_new_us=self.new.latency_us,
            latency_old_us=self.old.latency_us,
            scores_new=list(self.new.scores) if any(self.new.scores) else [],
            scores_old=list(self.old.scores) if any(self.old.scores) else [],
        )


def _remember(into: OrderedDict, key: object, value: object) -> None:  # type: ignore[type-arg]
    into[key] = value
    if len(into) > MOST_REMEMBERED:
        into.popitem(last=False)


class Comparisons:
    """The figures of all pipelines that try a new model.

    ``device`` and ``boot`` are those in the ids of results. Times are seconds on any steady clock.
    """

    def __init__(self, device: str, boot: str) -> None:
        self._device = device
        self._boot = boot
        self._all: dict[str, _Figures] = {}

    @property
    def at_work(self) -> bool:
        """Whether any pipeline is compared: otherwise the other methods need not be called."""
        return bool(self._all)

    def begin(self, pipeline: str, new: ModelName, *, trial: bool) -> None:
        """Begin to count for a shadow, or for a trial. What was counted before is forgotten.

        If this very comparison goes on already, as after a reload, nothing changes.
        """
        known = self._all.get(pipeline)
        if known is None or (known.new.name, known.trial) != (new, trial):
            self._all[pipeline] = _Figures(_Model(new), _Model(None), trial)

    def end(self, pipeline: str) -> None:
        """Forget the figures of a pipeline."""
        self._all.pop(pipeline, None)

    def figures(self, pipeline: str) -> Comparison | None:
        """Return what is known, ``None`` if nothing is compared."""
        known = self._all.get(pipeline)
        return known.comparison() if known else None

    def news(self, now: float) -> list[tuple[str, Comparison]]:
        """Return figures that changed since they were returned here last. They come once in ``PAUSE``."""
        found = []
        for pipeline, one in self._all.items():
            if one.changed and one.due <= now:
                one.changed, one.due = False, now + PAUSE
                found.append((pipeline, one.comparison()))
        return found

    def next_due(self) -> float | None:
        """Return when ``news`` has something next, ``None`` if nothing changed."""
        return min((one.due for one in self._all.values() if one.changed), default=None)

    def take_pairs(self, record: Pairs) -> None:
        """Count windows that a pipeline's model and its shadow ran.

        Pairs without the new model are late ones of another comparison, and do not count.
        """
        known = self._all.get(record.pipeline)
        ours, theirs = ModelName(record.model, record.version), ModelName(record.shadow, record.shadow_version)
        if known is None or known.new.name not in (ours, theirs):
            return
        on_trial = known.new.name == ours
        for pair in record.items:
            known.take(pair, reversed_=on_trial)
        if not known.trial and not on_trial:
            known.results += len(record.items)
            known.errors += record.errors
        known.skipped += record.skipped
        known.changed = True

    def take_results(self, messages: Sequence[ResultMessage]) -> None:
        """Take note of results that were accepted: feedback names them by their id."""
        for message in messages:
            if (known := self._all.get(message.pipeline)) is None:
                continue
            _remember(known.sequences, message.sequence, (message.sample, message.monotonic_ns))
            if known.trial and known.new.name == ModelName(message.model, message.version):
                known.results += 1
                known.changed = True

    def take_errors(self, pipeline: str, errors: int) -> None:
        """Count windows on which the pipeline's own model failed. They count on trial alone."""
        known = self._all.get(pipeline)
        if known is not None and known.trial and errors:
            known.errors += errors
            known.changed = True

    def feedback(self, result: str, truth: Truth, tolerance: float | None) -> FeedbackTaken:
        """Take the truth about the window of a result, and return which model was right; or why that is unknown.

        ``ValueError`` if such a truth cannot be compared with the answers of these models.
        """
        if isinstance(truth, float) and tolerance is None:
            raise ValueError("feedback.tolerance: missing; a number needs it: how far it may be off")
        device, pipeline, boot, number = (*result.split("/"), "", "", "", "")[:4]
        known = self._all.get(pipeline)
        if device != self._device or result.count("/") != 3 or not number.isdecimal():
            return _unknown(f"no result of this device, {self._device!r}, has such an id")
        if boot != self._boot:
            return _unknown("the result is from before the daemon's last start; feedback is for newer ones")
        if known is None:
            return _unknown(
                f"pipeline {pipeline!r} compares no new model now; feedback is for a shadow or a trial"
            )
        sequence = int(number[:20])
        window = known.sequences.get(sequence)
        if window is None:
            return _unknown(f"the result is older than the comparison, or than the last {MOST_REMEMBERED} results")
        answers = known.answers.get(window)
        if answers is None:
            return _unknown("the two models did not both run this window, or not yet; try again in some seconds")
        new, old = (is_right(answer, truth, tolerance or 0.0) for answer in answers)
        if new is None or old is None:
            raise ValueError("feedback.truth: a number and a label cannot be compared; see `output` of the result")
        known.judge(sequence, new, old)
        return FeedbackTaken(known=True, right=Right(old=old, new=new))


def _unknown(reason: str) -> FeedbackTaken:
    return FeedbackTaken(known=False, reason=reason)
