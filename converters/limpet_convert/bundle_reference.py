"""The reference of a bundle: what its model saw in recordings, and the thresholds of the monitors that follow.

The recordings are played through the very pipeline that a device runs, so that both compute the same numbers.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from limpet import plugins
from limpet.contracts.drift import MOST_EDGES, MOST_FEATURES
from limpet.contracts.monitor import Abilities, Observed
from limpet.contracts.reference import (
    LARGEST_REFERENCE,
    MOST_CLASSES,
    ClassReference,
    EmbeddingReference,
    FeatureReference,
    Reference,
    SliceReference,
)
from limpet.errors import ConfigError
from limpet.filling import fill
from limpet.inference.gathering import Embeddings, Gathered, Gathering
from limpet.inference.pipeline import Pipeline
from limpet.inference.single import plan_model
from limpet.models import reference as references
from limpet.monitors._effective import autocorrelation_times
from limpet_convert import data
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Array, FloatArray, Samples, SampleSpec, Window
    from limpet.errors import ModelError
    from limpet.inference.window_features import Feature
    from limpet.wire.records import Result
    from limpet_convert.project import Project

MONTH = 26e6
"""Windows in a month at ten a second."""
LEAST = 30
"""Windows that a reference needs."""
CONFUSED = 200
"""Classes of which a reference still has the confusion matrix."""
BETWEEN_NS = 1_000_000_000
"""Between the last sample of a recording and the first of the next one."""
MOST_SLICES, MOST_NAME = 256, 64
_DIGITS = 6
_RIDGE = 1e-3
"""Of the mean variance, added to each variance of embeddings so that their covariance has an inverse."""


@dataclass
class Made:
    """``member``: the reference's bytes, empty if there is none. ``notes``: what it lacks and why."""

    member: bytes = b""
    reference: Reference | None = None
    notes: list[str] = field(default_factory=list)


class Labelled(NamedTuple):
    """What is true of the windows of the recordings. ``targets``: class indices, -1 where unknown.

    ``groups``: the group of each window, ``None`` if there are none. ``held``: true and said classes of other
    windows, for a model that has learned from these. ``occasions``: of each window, see ``Seen``; ``None`` if the
    recordings say it.
    """

    targets: NDArray[np.int64]
    groups: Array | None = None
    held: tuple[Array, Array] | None = None
    occasions: Array | None = None


class Seen(NamedTuple):
    """n windows of recordings that have a result.

    ``occasions`` ``(n,)``: windows that were taken shortly after each other have the same number. ``places``
    ``(n,)``: which window of all it is. ``rate``: windows a second. ``whole``: see ``Gathering``.
    """

    gathered: Gathered
    occasions: NDArray[np.int64]
    places: NDArray[np.intp]
    features: tuple[Feature, ...]
    whole: bool
    rate: float | None


def make(project: Project, bundle: Path, labels: Sequence[str], known: Labelled) -> Made:
    """Return the reference of a bundle. ``known``: of the windows of ``data.test``.

    An anomaly detector's reference has the normal windows alone. One that has seen its test windows is surer there
    than in the field, so scores and classes are left out.
    """
    wanted = project.reference
    seen = play(project, bundle, wanted.data or project.data.test, labels)
    made = Made()
    tested = seen if wanted.data is None else play(project, bundle, project.data.test, labels)
    if wanted.data is None and known.occasions is not None:
        seen = seen._replace(occasions=known.occasions[seen.places])
    if wanted.data is None and project.bundle.task == "anomaly":
        seen = _chosen(seen, known.targets == 0)
    if len(seen.occasions) < LEAST:
        made.notes.append(f"No reference: {len(seen.occasions)} windows are too few; it needs {LEAST}.")
        return made
    seen = _shuffled(seen)
    true = Labelled(known.targets[tested.places], None if known.groups is None else known.groups[tested.places])
    classes = None
    if known.held is not None:
        classes = class_reference(labels, *known.held, seen.gathered.classes)
    elif project.bundle.task == "classify" and not project.data.seen:
        classes = class_reference(labels, true.targets, tested.gathered.classes, seen.gathered.classes)
    features = _features(seen)
    reference = Reference(
        windows=len(seen.occasions),
        rate=seen.rate,
        features=features,
        score=None if project.data.seen else _score(seen),
        classes=classes,
        false_alarms=wanted.false_alarms,
        slices={} if project.data.seen else slices(project.bundle.task, true, tested.gathered.classes),
    )
    embeddings, reference.embedding = _embedded(seen, features)
    calibrate(reference, seen, embeddings, wanted.monitors, made.notes)
    made.reference, made.member = reference, references.dump(reference)
    if len(made.member) > LARGEST_REFERENCE:
        return Made(
            notes=[f"No reference: it would have {len(made.member)} bytes, of {LARGEST_REFERENCE} at most."]
        )
    references.parse(made.member)
    return made


def play(project: Project, bundle: Path, path: Path, labels: Sequence[str]) -> Seen:
    """Run all windows of a path's recordings through the pipeline of a bundle."""
    parts: list[Gathered] = []
    runs: list[int] = []
    occasions: list[int] = []
    with tempfile.TemporaryDirectory(prefix="limpet-") as scratch, ExitStack() as stack:
        players: dict[SampleSpec, _Player] = {}
        end = 0
        for number, (occasion, spec, blocks) in enumerate(data.played(project, path)):
            if spec not in players:
                pipeline = Pipeline(plan_model(bundle, spec, ["cpu"], Path(scratch)))
                stack.push(pipeline)
                players[spec] = _Player(pipeline, labels)
            before = len(players[spec].results)
            end = players[spec].play(blocks, end) + BETWEEN_NS
            parts += players[spec].take()
            runs += [number] * (len(players[spec].results) - before)
            occasions += [occasion] * (len(players[spec].results) - before)
            last = players[spec]
        results = [result for player in players.values() for result in player.results]
    if len(players) > 1 and not all(results):
        raise ConvertError(f"{path}: a window of a recording failed, and the recordings differ in their form")
    failures = [player.failure for player in players.values() if player.failure]
    if failures and results.count(False) > len(results) / 2:
        count = f"{results.count(False)} of {len(results)} windows have no result on a device"
        raise ConvertError(f"{path}: {count}: {failures[0]}")
    gathered = Gathered._make(np.concatenate(columns) for columns in zip(*parts, strict=True))
    have = np.array(results, bool)
    timed = last.gathering_rate is not None
    rate = _rate(gathered.times_ns, np.array(runs, np.int64)[have]) if timed else None
    taken = np.array(occasions, np.int64)[have]
    return Seen(
        gathered, taken, np.flatnonzero(have), last.gathering.features.features, last.gathering.whole, rate
    )


class _Player:
    """Plays recordings of one form.

    ``results``: for each window, whether it had a result. ``failure``: why the first one had none.
    """

    def __init__(self, pipeline: Pipeline, labels: Sequence[str]) -> None:
        self.gathering = Gathering(pipeline, labels)
        self.gathering_rate = pipeline.plan.spec.rate
        self.results: list[bool] = []
        self.failure: ModelError | None = None
        self._pipeline = pipeline
        self._parts: list[Gathered] = []
        pipeline.observe(self._see)

    def play(self, blocks: Iterator[Samples], begin: int) -> int:
        """Play one recording whose first sample is at ``begin`` ns. Return the time of the last one."""
        first: int | None = None
        end = begin
        for samples in blocks:
            if not len(samples):
                continue
            first = int(samples.monotonic_ns[0]) if first is None else first
            times = samples.monotonic_ns - first + begin
            end = int(times[-1])
            for _ in self._pipeline.feed(replace(samples, monotonic_ns=times), self._fail):
                pass
        return end

    def take(self) -> list[Gathered]:
        """Return what was seen since the last call."""
        self._flush()
        parts, self._parts = self._parts, []
        return parts

    def _see(self, window: Window, result: Result[Any]) -> None:
        self.results.append(True)
        self.gathering.see(window, result)
        if self.gathering.full:
            self._flush()

    def _fail(self, error: ModelError) -> None:
        self.failure = self.failure or error
        self.results.append(False)

    def _flush(self) -> None:
        self._parts.append(Gathered._make(map(np.array, self.gathering.take())))


def _rate(times_ns: NDArray[np.int64], runs: NDArray[np.int64]) -> float | None:
    """Return how many windows a second there are within a recording."""
    steps = np.diff(times_ns)[runs[1:] == runs[:-1]]
    usual = float(np.median(steps)) if len(steps) else 0.0
    return _short(1e9 / usual) if usual > 0 else None


def _chosen(seen: Seen, wanted: Array) -> Seen:
    """Return the windows that are wanted: one flag for each window of the recordings."""
    rows = np.flatnonzero(wanted[seen.places])
    return _at(seen, rows)


def _shuffled(seen: Seen) -> Seen:
    """Return the occasions in an order without meaning: that of their names would be one of the classes, too.

    Windows of one occasion stay together in their order, as they are alike.
    """
    numbers = np.unique(seen.occasions)
    places = np.random.default_rng(0).permutation(len(numbers))
    return _at(seen, places[np.searchsorted(numbers, seen.occasions)].argsort(kind="stable"))


def _at(seen: Seen, rows: NDArray[np.intp]) -> Seen:
    gathered = Gathered._make(column[rows] for column in seen.gathered)
    return seen._replace(gathered=gathered, occasions=seen.occasions[rows], places=seen.places[rows])


def _features(seen: Seen) -> list[FeatureReference]:
    values = seen.gathered.features.astype(np.float64)
    times = autocorrelation_times(values)
    return [
        _feature(one.name, values[:, place], times[place], one.channel, one.unit)
        for place, one in enumerate(seen.features[:MOST_FEATURES])
    ]


def _feature(
    name: str, values: NDArray[np.float64], time: float, channel: str = "", unit: str = ""
) -> FeatureReference:
    quantiles = np.quantile(values, np.linspace(0, 1, MOST_EDGES))
    return FeatureReference(
        name=name,
        channel=channel,
        unit=unit,
        mean=_short(values.mean()),
        std=_short(values.std()),
        quantiles=[_short(value) for value in quantiles],
        effective=_short(max(1.0, len(values) / time)),
    )


def _score(seen: Seen) -> FeatureReference | None:
    values = seen.gathered.scores.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    return _feature("score", finite, float(autocorrelation_times(finite[:, None])[0]))


def _embedded(seen: Seen, features: list[FeatureReference]) -> tuple[FloatArray | None, EmbeddingReference | None]:
    """Return the embeddings, and what they are compared with; ``None`` if there are no numbers to embed."""
    outputs = seen.gathered.outputs
    if not features and not outputs.shape[1]:
        return None, None
    embed = Embeddings(features, outputs.shape[1], whole=seen.whole)
    found = embed(seen.gathered.features, outputs)
    covariance = np.atleast_2d(np.cov(found.astype(np.float64), rowvar=False))
    ridge = _RIDGE * max(float(np.trace(covariance)) / len(covariance), 1e-12)
    precision = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
    return found, EmbeddingReference(
        seed=embed.projection.seed,
        of=embed.of,
        mean=[_short(value) for value in found.mean(axis=0, dtype=np.float64)],
        precision=[[_short(value) for value in row] for row in (precision + precision.T) / 2],
    )


def class_reference(labels: Sequence[str], targets: Array, said: Array, field: Array) -> ClassReference | None:
    """Return confusion and shares of classes; ``None`` where there are too many of them, or no known window.

    ``targets`` and ``said`` ``(n,)``: of the test windows, -1 where unknown or where the model abstained.
    ``field``: its classes for the windows of the reference.
    """
    size = len(labels)
    known = targets >= 0
    if not 2 <= size <= min(CONFUSED, MOST_CLASSES) or not known.any():
        return None
    both = known & (said >= 0)
    confusion = np.zeros((size, size), np.int64)
    np.add.at(confusion, (targets[both], said[both]), 1)
    shares = np.bincount(targets[known], minlength=size)
    if len(field) != len(said) or not np.array_equal(np.sort(field), np.sort(said)):
        shares = np.bincount(field[field >= 0], minlength=size)
    total = max(int(shares.sum()), 1)
    return ClassReference(
        labels=list(labels), confusion=confusion.tolist(), priors=[_short(count / total) for count in shares]
    )


def slices(task: str, known: Labelled, said: NDArray[np.int32]) -> dict[str, SliceReference]:
    """Return how many windows of each group a classifier had right. Where it abstains it is not right."""
    if task != "classify" or known.groups is None:
        return {}
    found = {}
    for group in np.unique(known.groups[known.targets >= 0])[:MOST_SLICES]:
        rows = (known.groups == group) & (known.targets >= 0)
        right = int((said[rows] == known.targets[rows]).sum())
        found[str(group)[:MOST_NAME]] = SliceReference(windows=int(rows.sum()), right=right)
    return found


def calibrate(
    reference: Reference,
    seen: Seen,
    embeddings: FloatArray | None,
    options: Mapping[str, Mapping[str, Any]],
    notes: list[str],
) -> None:
    """Have each monitor choose its thresholds. All share the false alarms that the reference allows."""
    kinds = plugins.names("monitors")
    allowed = reference.false_alarms / MONTH / len(kinds)
    scores = seen.gathered.scores if reference.score else np.full(len(seen.occasions), np.nan, np.float32)
    observed = Observed(seen.gathered.features, scores, seen.gathered.classes, embeddings, seen.gathered.times_ns)
    there = {"features": bool(reference.features), "scores": reference.score is not None}
    there |= {"classes": reference.classes is not None, "embeddings": embeddings is not None}
    for kind in kinds:
        module = plugins.load("monitors", kind)
        needs = plugins.abilities(module, Abilities).needs
        if missing := [name for name in needs if not there[name]]:
            notes.append(f"Monitor {kind}: the reference has no {missing[0]}.")
            continue
        problems: list[str] = []
        config = fill(module.Config, options.get(kind, {}), f"reference.monitors.{kind}", Path(), problems)
        if problems:
            raise ConfigError(problems)
        try:
            reference.thresholds[kind] = module.calibrate(config, observed, reference, allowed)
        except ValueError as error:
            notes.append(f"Monitor {kind}: {error}.")


def _short(value: float) -> float:
    """Return a number with as many digits as count."""
    return float(f"{float(value):.{_DIGITS}g}")
