"""The host of monitors: it hands them the windows of one pipeline in blocks, within a share of its time.

Per window, some numbers are copied. Features, sketches and monitors follow per block. If a block would exceed the
share, windows are skipped until the pipeline has worked for long enough. A monitor that fails is left out.
"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from time import monotonic_ns, perf_counter_ns
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from limpet.contracts.drift import (
    CLASS_SKETCH,
    MOST_BINS,
    MOST_MONITORS,
    MOST_MOVED,
    SCORE_SKETCH,
    Fault,
    MonitorFigures,
    MonitorState,
    Moved,
    OpenAlarm,
)
from limpet.contracts.monitor import Observed
from limpet.errors import LimpetError
from limpet.inference.gathering import Embeddings, Gathering
from limpet.inference.resolving import Resolver
from limpet.inference.window_features import features_of
from limpet.models import reference as references
from limpet.wire.border import cleaned
from limpet.wording import bug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from limpet.contracts.data import Array, FloatArray, Window
    from limpet.contracts.monitor import Alarm, Monitor
    from limpet.contracts.reference import FeatureReference, Reference
    from limpet.inference.gathering import Gathered
    from limpet.inference.pipeline import Pipeline
    from limpet.inference.plan import MonitorPlan, PipelinePlan
    from limpet.inference.resolving import Configured
    from limpet.inference.window_features import WindowFeatures
    from limpet.wire.records import Result

LONGEST_WAIT = 10_000_000_000
"""Nanoseconds after which a block is handed on that is not full, if there is time for two."""
SKETCH_PAUSE = 10_000_000_000
"""Nanoseconds between two reports of sketches."""
SHARE, PICTURE_SHARE = 0.05, 0.01
"""Share of the pipeline's time that monitors may take, and where windows are pictures, if nothing else is set."""
EDGES = 11
"""Quantiles of the reference that are the limits of a sketch's bins."""
MOST_CREDIT = 100_000_000
"""Nanoseconds of the monitors' share that are kept for later, at most."""
LONGEST = 500
"""Characters of a reason."""
_LARGEST_LEVEL = 1e6


class Monitoring:
    """The monitors of one pipeline. It observes the pipeline from the moment it is made.

    ``problem``: why there are no monitors, empty if there are some. ``notices``: what a person should know, until
    it is taken.
    """

    def __init__(self, pipeline: Pipeline, plan: MonitorPlan, path: Path) -> None:
        """Read the reference from ``path``, and open the monitors that it has thresholds for."""
        self._pipeline = pipeline
        self._plan = plan
        self._share = plan.share or SHARE
        self._monitors: dict[str, Monitor] = {}
        self._states: dict[str, MonitorState] = {}
        self._alarms: dict[str, Alarm] = {}
        self._notices: list[str] = []
        self.problem = ""
        try:
            reference = references.read(path, pipeline.plan.bundle.manifest.name)
            self._prepare(reference)
        except Exception as error:  # noqa: BLE001 - a stranger's file: the pipeline runs without monitors
            self.problem = _why(error)
            self._notices.append(f"monitors do not run: {self.problem}")
            return
        for configured in _configured(reference, plan, self._leave_out):
            self._open(configured, reference)
        for feature in reference.features:  # Monitors may keep them. As objects of Python, numbers take 32 bytes.
            feature.quantiles = feature.quantiles[:1]
        pipeline.observe(self.see)

    def _prepare(self, reference: Reference) -> None:
        labels = reference.classes.labels if reference.classes else []
        self._gathering = Gathering(self._pipeline, labels)
        if self._plan.share is None and self._gathering.features.reads == "inputs":
            self._share = PICTURE_SHARE
        self._columns = _columns(reference.features, self._gathering.features)
        self._embeddings: Embeddings | None = None
        if (embedding := reference.embedding) is not None:
            self._embeddings = Embeddings(
                reference.features,
                self._gathering.embeds,
                whole=self._gathering.whole,
                seed=embedding.seed,
            )
            if self._embeddings.of != embedding.of:
                raise ValueError(
                    f"its embedding has {embedding.of} numbers; this model gives {self._embeddings.of}"
                )
        self._sketches = Sketches(reference, len(labels))
        self._windows = self._skipped = self._spent = 0
        self._credit = 0.0
        self._reserve = 0
        """What the last block took in ns. The next one begins when there is as much time for it."""
        self._block_ns = 0
        """What the block that is gathered took so far."""
        self._marked = self._reported = self._pipeline.graph.busy_ns
        self._frames = self._pipeline.plan.spec.frames
        self._first_ns = self._last_ns = 0
        self._gap = True
        self._next_sketches = 0

    def _open(self, configured: Configured, reference: Reference) -> None:
        kind = configured.kind
        savings = self._pipeline.plan.savings
        if savings is not None and savings.mixes and set(configured.abilities.needs) != {"features"}:
            self._leave_out(kind, "it looks at results, and a cascade or early exit changes which there are")
            return
        try:
            monitor = configured.module.open(configured.config, reference, reference.thresholds[kind])
        except Exception as error:  # noqa: BLE001 - a plugin, and thresholds that are not to be trusted
            self._leave_out(kind, _why(error))
        else:
            self._monitors[kind] = monitor
            self._states[kind] = MonitorState()

    def _leave_out(self, kind: str, why: str) -> None:
        """Go on without a monitor."""
        self._monitors.pop(kind, None)
        self._alarms.pop(kind, None)
        reason = cleaned(why, LONGEST)
        self._states[kind] = MonitorState(problem=reason)
        self._notices.append(f"the monitor {kind} does not run: {reason}")

    def adopt(self, old: Monitoring) -> None:
        """Go on with the monitors of another pipeline that ends, if both have the same model and options."""
        mine, its = self._pipeline.plan, old._pipeline.plan
        same = bool(mine.identity) and (mine.identity, mine.monitors) == (its.identity, its.monitors)
        if same and self._monitors.keys() == old._monitors.keys() and not (self.problem or old.problem):
            self._monitors, self._states, self._alarms = old._monitors, old._states, old._alarms
            self._sketches.add(old._sketches)

    # --- windows

    def see(self, window: Window, result: Result[Any]) -> None:
        """Take a window and its result. It raises nothing."""
        gathering = self._gathering
        gap = window.gap and not self._frames
        if gathering.full or (gap and len(gathering)):
            self._look()
        began = perf_counter_ns()
        if not len(gathering):  # A block that has begun has no holes.
            if self._credit < self._reserve and not self._has_time_for(1):
                self._skipped += 1
                self._gap = True
                return
            self._block_ns = 0
        self._gap |= gap
        try:
            gathering.see(window, result)
        except Exception as error:  # noqa: BLE001 - an observer raises nothing
            self._stop(error)
            return
        self._last_ns = window.taken_ns
        if len(gathering) == 1:
            self._first_ns = monotonic_ns()
        self._spend(perf_counter_ns() - began)

    def tend(self, now: int) -> None:
        """Hand on a full block, or windows that have waited for long.

        Most of the cost is that of a block. So a block that is not full waits on, unless the next one can begin at
        once. ``now``: ns of the monotonic clock. Call it when no result waits.
        """
        if self.problem or not len(self._gathering):
            return
        if self._gathering.full or (now - self._first_ns > LONGEST_WAIT and self._has_time_for(2)):
            self._look()

    def finish(self) -> None:
        """Look at the windows that wait, and have the next figures report the sketches: they are the last ones."""
        if not self.problem:
            if len(self._gathering):
                self._look()
            self._next_sketches = 0

    def _has_time_for(self, blocks: int) -> bool:
        """Whether the pipeline has worked for long enough that its monitors may look at so many blocks."""
        busy = self._pipeline.graph.busy_ns
        self._credit = min(self._credit + self._share * (busy - self._marked), MOST_CREDIT)
        self._marked = busy
        return self._credit >= blocks * self._reserve

    def _spend(self, ns: int) -> None:
        self._spent += ns
        self._block_ns += ns
        self._credit -= ns

    def _look(self) -> None:
        """Have all monitors look at the windows that wait."""
        began = perf_counter_ns()
        try:
            taken = self._gathering.take()
            self._windows += len(taken.times_ns)
            observed = self._observed(taken)
            self._sketches.count(observed)
        except Exception as error:  # noqa: BLE001 - an observer raises nothing
            self._stop(error)
            return
        for kind, monitor in list(self._monitors.items()):
            try:
                self._take(kind, monitor.see(observed), monitor.level)
            except Exception as error:  # noqa: BLE001 - a plugin: it fails alone
                self._leave_out(kind, bug(error))
        self._gap = False
        self._spend(perf_counter_ns() - began)
        self._reserve = min(self._block_ns, MOST_CREDIT // 2)

    def _observed(self, taken: Gathered) -> Observed:
        embeddings = None
        features: FloatArray = taken.features if self._columns is None else taken.features[:, self._columns]
        if self._embeddings is not None:
            embeddings = self._embeddings(features, taken.outputs)
        return Observed(features, taken.scores, taken.classes, embeddings, taken.times_ns, self._gap)

    def _take(self, kind: str, alarm: Alarm | None, level: float) -> None:
        if alarm is None:
            self._alarms.pop(kind, None)
        else:
            self._alarms[kind] = alarm
        self._states[kind] = MonitorState(level=_bounded(level, _LARGEST_LEVEL))

    def _stop(self, error: Exception) -> None:
        """Go on without monitors. They raise nothing into the pipeline."""
        self.problem = f"the windows could not be looked at: {bug(error)}"
        self._notices.append(f"monitors do not run any more: {self.problem}")
        self._monitors.clear()
        self._states.clear()
        self._alarms.clear()
        self._pipeline.stop_observing(self.see)

    # --- what is reported

    @property
    def alarms(self) -> dict[str, OpenAlarm]:
        """The alarms that hold, by the kind of the monitor."""
        now = monotonic_ns() if self._pipeline.plan.spec.live else self._last_ns
        return {kind: _open_alarm(alarm, now) for kind, alarm in self._alarms.items()}

    def notices(self) -> list[str]:
        """Return what a person should know, once."""
        notices, self._notices = self._notices, []
        return notices

    def figures(self) -> MonitorFigures:
        """Return what happened since the last call, and how the monitors stand."""
        if self.problem:
            return MonitorFigures(problem=cleaned(self.problem, LONGEST), monitors=dict(self._states))
        alarms, now, busy = self.alarms, monotonic_ns(), self._pipeline.graph.busy_ns
        states = dict(self._states)
        for kind, alarm in alarms.items():
            states[kind] = MonitorState(level=states[kind].level, alarm=alarm)
        sketches: dict[str, list[int]] = {}
        if now >= self._next_sketches and (sketches := self._sketches.take()):
            self._next_sketches = now + SKETCH_PAUSE
        figures = MonitorFigures(
            windows=self._windows,
            skipped=self._skipped,
            busy_us=(busy - self._reported) // 1000,
            spent_us=self._spent // 1000,
            monitors=states,
            sketches=sketches,
        )
        self._windows = self._skipped = 0
        self._spent %= 1000
        self._reported = busy - (busy - self._reported) % 1000
        return figures


def watch(pipeline: Pipeline) -> Monitoring | None:
    """Have monitors observe a pipeline; ``None`` if its plan has none."""
    plan, path = pipeline.plan.monitors, pipeline.plan.bundle.reference
    return None if plan is None or path is None else Monitoring(pipeline, plan, path)


class Sketches:
    """Counts windows by the bin of the reference's quantiles that each feature, the score and the class are in.

    A bin reaches from one of ``edges_of`` up to below the next one. The first is below all of them.
    """

    def __init__(self, reference: Reference, classes: int) -> None:
        rows = [*reference.features, *([reference.score] if reference.score else [])]
        self._names = [one.name for one in reference.features] + [SCORE_SKETCH] * (reference.score is not None)
        edges = [edges_of(one) for one in rows]
        self._sizes = [len(one) + 1 for one in edges]
        most = max(map(len, edges), default=0)
        self._edges = np.full((len(rows), most), np.inf, np.float32)
        for row, one in zip(self._edges, edges, strict=True):
            row[: len(one)] = one
        self._counts = np.zeros((len(rows), most + 1), np.int64)
        self._scored = reference.score is not None
        self._classes = np.zeros(classes + 1 if 0 < classes < MOST_BINS else 0, np.int64)

    def count(self, observed: Observed) -> None:
        """Count a block."""
        values: Array = observed.features
        if self._scored:
            values = np.concatenate([values, observed.scores[:, np.newaxis]], axis=1)
        if values.size:
            bins = (values[:, :, np.newaxis] >= self._edges).sum(axis=2)
            known = ~np.isnan(values)
            width = self._counts.shape[1]
            cells = (bins + np.arange(len(self._names)) * width)[known]
            self._counts += np.bincount(cells, minlength=self._counts.size).reshape(self._counts.shape)
        if self._classes.size:
            last = self._classes.size - 1
            places = np.where((observed.classes >= 0) & (observed.classes < last), observed.classes, last)
            self._classes += np.bincount(places, minlength=self._classes.size)

    def add(self, other: Sketches) -> None:
        """Add what another one counted of the same reference, and has not reported yet."""
        self._counts += other._counts
        self._classes += other._classes

    def take(self) -> dict[str, list[int]]:
        """Return the counts since the last call, by name. Those of the classes end with windows without one."""
        named = zip(self._names, self._counts, self._sizes, strict=True)
        taken = {name: counts[:size].tolist() for name, counts, size in named if counts.any()}
        if self._classes.any():
            taken[CLASS_SKETCH] = self._classes.tolist()
        self._counts[:] = 0
        self._classes[:] = 0
        return taken


def edges_of(reference: FeatureReference) -> list[float]:
    """Return the limits of the bins of a feature's sketch: up to ``EDGES`` of the reference's quantiles."""
    quantiles = reference.quantiles
    if len(quantiles) <= EDGES:
        return quantiles
    last = len(quantiles) - 1
    return [quantiles[round(n * last / (EDGES - 1))] for n in range(EDGES)]


def _configured(
    reference: Reference, plan: MonitorPlan, leave_out: Callable[[str, str], None]
) -> Iterator[Configured]:
    """Yield the monitors that the reference has thresholds for, and that are not off."""
    chosen = {one.kind: one for one in plan.chosen}
    for kind in [kind for kind in reference.thresholds if kind not in plan.off][:MOST_MONITORS]:
        resolve = Resolver(Path(), [])
        found = chosen.get(kind) or resolve.plugin("monitors", kind, {}, kind)
        if found is None:
            leave_out(kind, "; ".join(resolve.problems))
        else:
            yield found


def misfit(plan: PipelinePlan) -> str:
    """Return why the monitors of a pipeline cannot run, empty if they can or there are none. Nothing is opened."""
    path, windows = plan.bundle.reference, plan.transforms.windows
    if plan.monitors is None or path is None:
        return ""
    try:
        reference = references.read(path, plan.bundle.manifest.name)
        _columns(reference.features, features_of(windows, (), plan.inputs[0].shape if plan.inputs else ()))
    except (LimpetError, ValueError) as error:
        return f"monitors do not run: {error}"
    return ""


def _columns(features: Sequence[FeatureReference], computed: WindowFeatures) -> list[int] | None:
    """Return where the reference's features are among those of the pipeline; ``None`` if they are the same.

    ``ValueError`` if some are missing: then the samples are others than those of the reference.
    """
    names = [one.name for one in computed.features]
    wanted = [one.name for one in features]
    if missing := [name for name in wanted if name not in names]:
        raise ValueError(
            f"its reference has {missing[0]!r}, which the windows here do not have (they have "
            f"{', '.join(names[:3])}, ...). Name the channels of the source as the model's"
        )
    return None if wanted == names else [names.index(name) for name in wanted]


def _open_alarm(alarm: Alarm, now: int) -> OpenAlarm:
    """Return an alarm within the limits of its record."""
    since = max(0.0, (now - alarm.since_ns) / 1e9)
    moved = [
        Moved(name=cleaned(one.name, 96), before=_finite(one.before), now=_finite(one.now))
        for one in alarm.moved[:MOST_MOVED]
    ]
    return OpenAlarm(
        fault=alarm.fault if alarm.fault in get_args(Fault) else "",
        moved=moved,
        since_s=min(since, 1e9),
        p_value=_bounded(alarm.p_value, 1.0),
        reason=cleaned(alarm.reason, LONGEST),
    )


def _finite(number: float) -> float:
    return float(number) if isfinite(number) else 0.0


def _bounded(number: float, most: float) -> float:
    """Return a number from 0 to ``most``; NaN becomes 0."""
    return float(min(max(number, 0.0), most)) if number == number else 0.0  # noqa: PLR0124 - false of NaN


def _why(error: Exception) -> str:
    """Return what is wrong, with the line of the code if it is a bug."""
    return str(error) if isinstance(error, LimpetError | ValueError) else bug(error)
