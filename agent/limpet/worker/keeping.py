"""The windows that a worker keeps: chosen by rules and commands, then handed to the supervisor one by one.

A window is copied when it is chosen. Its bytes are made between two blocks of samples, so that results do not
wait. ``limpet.captures.judging`` decides, ``limpet.worker.kept_window`` makes the bytes.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.bucket import Bucket
from limpet.captures import sealing
from limpet.captures.judging import Judge
from limpet.contracts.messages import KeepTaken
from limpet.contracts.outputs import Classification
from limpet.inference import agreement
from limpet.untrusted import printable
from limpet.wire.border import cleaned
from limpet.wire.memory_file import anonymous_file, seal
from limpet.wire.records import Answered, Kept
from limpet.worker import kept_window
from limpet.worker.kept_window import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from limpet.contracts.captures import KeepOptions, Loss
    from limpet.contracts.data import Array, Window
    from limpet.contracts.drift import OpenAlarm
    from limpet.inference.pipeline import Pipeline
    from limpet.inference.plan import PipelinePlan
    from limpet.updates.answers import Answer, Pairs
    from limpet.wire.records import Result
    from limpet.worker.running import RunningPipeline

log = logging.getLogger(__name__)

MOST_WAITING, LARGEST_WAITING = 32, 16 << 20
"""Windows of a pipeline that wait to be handed over, and their bytes."""
MOST_RECENT, LARGEST_RECENT = 256, 4 << 20
"""Windows that are held in case that they are worth keeping later, and their bytes."""
HOUR = 3600.0
RESERVE = 0.1
"""Share of an hour's windows that only a random audit takes, so that it stays a fair sample of all windows."""
OFF = "set `keep = {}` in its table to allow it"


class _Held(msgspec.Struct, eq=False):
    """A window that was copied, and what its pipeline made of it."""

    samples: Any
    result: Any
    answer: Any
    taken: bool = False


class _Chosen(msgspec.Struct, eq=False):
    """A window that is to be kept, and why."""

    held: _Held
    reasons: list[Any]
    detail: str


class Keeper:
    """Keeps windows of one pipeline. ``see`` is an observer of it, see ``Pipeline.observe``."""

    def __init__(self, plan: PipelinePlan, options: KeepOptions, lost: Counter[Loss]) -> None:
        self.options = options
        self.waiting: deque[_Chosen] = deque()
        self._plan = plan
        self._windows = plan.transforms.windows
        self._lost = lost
        self._judge = Judge(options)
        self._reads_scores = bool(options.margin) and plan.decoder.abilities.output is Classification
        self._hour = Bucket(options.per_hour / HOUR, options.per_hour)
        self._recent: deque[_Held] = deque(maxlen=MOST_RECENT)
        self._recent_bytes = 0
        self._waiting_bytes = 0
        self._key = sealing.PublicKey(options.encrypt_for) if options.encrypt_for else None
        self._number: int | None = None
        self._wanted = self._taken = 0
        self._failing = False
        self._alarms: frozenset[str] = frozenset()
        self.shadowed = False
        """Whether a shadow runs the same windows, and may disagree."""

    def observe(self, pipeline: Pipeline) -> None:
        """Look at the windows of a pipeline from now on."""
        if self._reads_scores:
            pipeline.want_scores()
        pipeline.observe(self.see)

    # --- what makes windows worth keeping

    def command(self, number: int, windows: int) -> str:
        """Keep the next windows, and answer the command when they are handed over. Return why not, if so."""
        if self._number is not None:
            return "another command waits for its windows"
        self._number, self._wanted, self._taken = number, windows, 0
        self._judge.command(windows)
        return ""

    def follow(self, alarms: Mapping[str, OpenAlarm]) -> None:
        """Keep the next windows if there is a new alarm. ``alarms``: those that hold, by the monitor's kind."""
        for kind, alarm in alarms.items():
            if kind not in self._alarms:
                moved = ", ".join(one.name for one in alarm.moved[:3])
                self._judge.drift(f"{kind}: {alarm.fault or moved}")
        self._alarms = frozenset(alarms)

    def compare(self, pairs: Pairs) -> None:
        """Keep windows about which the shadow has another opinion. Of pictures, the next one is kept instead."""
        for pair in pairs.items:
            if pair.agreement is None or pair.agreement >= self.options.agreement:
                continue
            detail = f"agreement {pair.agreement:.3g} with {pairs.shadow} {pairs.shadow_version}"
            held = next((one for one in self._recent if one.result.sample == pair.sample), None)
            if held is None:
                self._judge.disagreed(detail)
            elif not held.taken and self._judge.may_keep(held.answer) and self._has_room("disagreement"):
                self._choose(held, ["disagreement"], detail)

    def see(self, window: Window, result: Result[Any]) -> None:
        """Look at a window and its result. It raises nothing."""
        try:
            self._see(window, result)
        except Exception:
            if not self._failing:
                log.exception("pipeline %s: a window could not be judged", self._plan.name)
            self._failing = True
            self._lost["failed"] += 1

    def _see(self, window: Window, result: Result[Any]) -> None:
        answer = agreement.answer(result.output)
        event = bool(window.events) and any(event.type != "update" for event in window.events)
        scores = window.scores.tolist() if self._reads_scores and window.scores is not None else None
        verdict = self._judge.see(result.output, answer, event=event, scores=scores)
        samples = window.samples
        if samples is None:
            return
        held: _Held | None = None
        if (self.options.before or self.shadowed) and not self._windows.frames:
            held = self._hold(samples, result, answer)
        if verdict.earlier:
            self._keep_earlier(held)
        if not verdict.reasons:
            return
        if verdict.refused:
            self._lost["consent"] += 1
        elif self._has_room(verdict.reasons[0]):
            held = held or _Held(kept_window.copied(samples, frames=self._windows.frames), result, answer)
            self._choose(held, verdict.reasons, verdict.detail)

    def _has_room(self, reason: str) -> bool:
        """Whether the limits of an hour and of memory allow one more window. If not, it is counted as lost."""
        if len(self.waiting) >= MOST_WAITING or self._waiting_bytes > LARGEST_WAITING:
            self._lost["busy"] += 1
            return False
        reserve = 0.0 if reason == "audit" else RESERVE * self.options.per_hour
        if reason == "command":
            return True
        if self._hour.level(monotonic()) < 1 + reserve:
            self._lost["hour"] += 1
            return False
        self._hour.spend(1)
        return True

    def _choose(self, held: _Held, reasons: list[Any], detail: str) -> None:
        held.taken = True
        self._waiting_bytes += held.samples.nbytes
        self.waiting.append(_Chosen(held, reasons, detail))

    def _hold(self, samples: Array, result: Result[Any], answer: Answer) -> _Held:
        """Copy a window that may be worth keeping later. The oldest ones are let go."""
        held = _Held(kept_window.copied(samples, frames=False), result, answer)
        if len(self._recent) == MOST_RECENT:
            self._recent_bytes -= self._recent[0].samples.nbytes
        self._recent.append(held)
        self._recent_bytes += held.samples.nbytes
        while self._recent_bytes > LARGEST_RECENT and len(self._recent) > 1:
            self._recent_bytes -= self._recent.popleft().samples.nbytes
        return held

    def _keep_earlier(self, now: _Held | None) -> None:
        """Keep the windows before an event."""
        earlier = [one for one in self._recent if one is not now][-self.options.before :]
        for one in earlier:
            if not one.taken and self._judge.may_keep(one.answer) and self._has_room("event"):
                self._choose(one, ["event"], "before an event")

    # --- handing over

    def take(self, send: Callable[[Kept, bytes], None], answer: Callable[[Answered], None]) -> None:
        """Hand over one window that waits."""
        if not self.waiting:
            return
        chosen = self.waiting.popleft()
        self._waiting_bytes -= chosen.held.samples.nbytes
        problem = self._hand_over(chosen, send)
        if self._number is None or "command" not in chosen.reasons:
            return
        self._taken += not problem
        if problem or self._taken == self._wanted:
            answer(Answered(self._number, problem, None if problem else KeepTaken(windows=self._taken)))
            self._number = None
            self._judge.command(0)

    def close(self, answer: Callable[[Answered], None]) -> None:
        """Answer a command that waits, as the pipeline is closed."""
        if self._number is not None:
            answer(Answered(self._number, "the pipeline was closed meanwhile; send it again"))
            self._number = None

    def _hand_over(self, chosen: _Chosen, send: Callable[[Kept, bytes], None]) -> str:
        """Send a window. Return why it could not be sent, empty if it was."""
        result = chosen.held.result
        try:
            window, body = kept_window.body(
                chosen.held.samples, result.output, self._plan.spec, self._windows, self.options
            )
            wanted = self._plan.window
            window.by_time = wanted.seconds is not None and wanted.size is None
            if self._key is not None:
                bound = sealing.bound_to(result.pipeline, result.sample, result.model, result.version, window)
                body = self._key.encrypt(body, bound)
        except Exception as error:
            large = isinstance(error, TooLargeError)
            self._lost["large" if large else "failed"] += 1
            if not self._failing:
                log.warning(
                    "pipeline %s: a window could not be kept: %s", self._plan.name, error, exc_info=not large
                )
            self._failing = True
            return cleaned(str(error))
        short: Answer = chosen.held.answer
        send(
            Kept(
                pipeline=result.pipeline,
                monotonic_ns=result.monotonic_ns,
                wall_ns=result.wall_ns,
                sample=result.sample,
                model=result.model,
                version=result.version,
                reasons=chosen.reasons,
                detail=cleaned(printable(chosen.detail)),
                answer=short.value,
                score=short.score,
                output=agreement.kind_of(result.output),
                window=window,
                size=len(body),
                key="" if self._key is None else self._key.id,
            ),
            body,
        )
        return ""


class Keeping:
    """The keepers of all pipelines of a worker. ``send`` takes a record with the descriptors that go along."""

    def __init__(self, send: Callable[[Kept, tuple[int, ...]], None], answer: Callable[[Answered], None]) -> None:
        self._send = send
        self._answer = answer
        self._keepers: dict[str, Keeper] = {}

    def watch(self, running: RunningPipeline) -> None:
        """Look at the windows of a pipeline that begins to run, if its options have ``keep``."""
        options = running.options.keep
        if options is None:
            return
        keeper = Keeper(running.pipeline.plan, options, running.lost)
        self._close(running.name)
        self._keepers[running.name] = keeper
        keeper.observe(running.pipeline)

    def forget(self, name: str) -> None:
        """Let go of the windows of a pipeline that is closed, or keeps none any more."""
        self._close(name)

    def _close(self, name: str) -> None:
        if (before := self._keepers.pop(name, None)) is not None:
            while before.waiting:
                before.take(self._hand_over, self._answer)
            before.close(self._answer)

    def command(self, number: int, name: str, windows: int) -> None:
        """Keep the next windows of a pipeline, and answer then."""
        keeper = self._keepers.get(name)
        if keeper is None:
            self._answer(Answered(number, f"the pipeline {name!r} keeps no windows: {OFF}"))
        elif problem := keeper.command(number, windows):
            self._answer(Answered(number, problem))

    def follow(self, name: str, alarms: Mapping[str, OpenAlarm]) -> None:
        """Take note of the alarms that hold in a pipeline. After a new one, windows are worth keeping."""
        if (keeper := self._keepers.get(name)) is not None:
            keeper.follow(alarms)

    def compare(self, pairs: Pairs) -> None:
        """Look at what a pipeline and its shadow answered."""
        if (keeper := self._keepers.get(pairs.pipeline)) is not None:
            keeper.shadowed = True
            keeper.compare(pairs)

    def take(self) -> None:
        """Hand over at most one window of each pipeline."""
        for keeper in self._keepers.values():
            keeper.take(self._hand_over, self._answer)

    def _hand_over(self, record: Kept, body: bytes) -> None:
        with anonymous_file() as file:
            file.write(body)
            file.flush()
            seal(file)
            self._send(record, (file.fileno(),))
