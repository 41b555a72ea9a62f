"""The figures of pipelines as metrics. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from limpet.contracts.messages import State
from limpet.contracts.updates import UpdateStage
from limpet.gateway.metrics.family import Family, Kind, Point, durations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from limpet.contracts.messages import ModelReported, PipelineHealth
    from limpet.contracts.savings import Saving
    from limpet.wire.gateway_records import Figures


def pipeline_families(figures: Figures) -> Iterator[Family]:
    """Yield the metrics of pipelines and of their models. Some have no point."""
    healths = figures.pipelines
    text = "What a pipeline runs, and on what."
    yield Family("limpet.pipeline", "info", "", text, [_runs(one) for one in healths])
    for name, kind, unit, text, value in _FIGURES:
        values = [(one.pipeline, value(one)) for one in healths]
        points = [Point({"pipeline": pipeline}, found) for pipeline, found in values if found is not None]
        yield Family(f"limpet.pipeline.{name}", kind, unit, text, points)
    for name, kind, unit, label, text, counts in _COUNTS:
        points = [
            Point({"pipeline": one.pipeline, label: key}, found)
            for one in healths
            for key, found in counts(one).items()
        ]
        yield Family(f"limpet.pipeline.{name}", kind, unit, text, points)
    text = "How long windows took in each stage."
    yield Family("limpet.pipeline.stage.duration", "histogram", "s", text, _stages(figures.latency))
    text = "Whether an update of the model is in this stage."
    yield Family("limpet.pipeline.update", "gauge", "", text, _updates(figures.models))


def _stages(latency: Mapping[str, Mapping[str, Mapping[int, int]]]) -> list[Point]:
    return [
        Point({"pipeline": pipeline, "stage": stage}, durations(buckets))
        for pipeline, found in latency.items()
        for stage, buckets in found.items()
    ]


def _updates(models: list[ModelReported]) -> list[Point]:
    return [
        Point({"pipeline": one.pipeline, "stage": stage}, value)
        for one in models
        if one.update is not None
        for stage, value in _among(one.update.stage, UpdateStage).items()
    ]


def _runs(one: PipelineHealth) -> Point:
    facts = {"pipeline": one.pipeline, "model": one.model, "version": str(one.version), "delegate": one.delegate}
    return Point(facts, 1)


def _among(state: str, states: Any) -> dict[str, float]:
    """Return 1 for the state, and 0 for the other ones."""
    return {each: float(each == state) for each in get_args(states)}


def _decided(one: PipelineHealth) -> dict[str, float]:
    counts = one.uncertainty
    return {} if counts is None else {"decided": counts.windows - counts.abstained, "abstained": counts.abstained}


def _set_sizes(one: PipelineHealth) -> dict[str, float]:
    return {} if one.uncertainty is None else dict(one.uncertainty.set_sizes)


def _snapshots(one: PipelineHealth) -> dict[str, float]:
    counts = one.snapshots
    return {} if counts is None else {"taken": counts.taken, "skipped": counts.skipped, "failed": counts.failed}


def _kept(one: PipelineHealth) -> dict[str, float]:
    return {} if one.captures is None else dict(one.captures.kept)


def _not_kept(one: PipelineHealth) -> dict[str, float]:
    return {} if one.captures is None else dict(one.captures.lost)


def _savings(value: Callable[[Saving], float]) -> Callable[[PipelineHealth], dict[str, float]]:
    return lambda one: {saver: value(saving) for saver, saving in (one.savings or {}).items()}


def _watched(one: PipelineHealth) -> dict[str, float]:
    found = one.monitors
    return {} if found is None else {"watched": found.windows, "skipped": found.skipped}


def _alarms(one: PipelineHealth) -> dict[str, float]:
    found = one.monitors
    return {} if found is None else {name: each.alarm is not None for name, each in found.monitors.items()}


def _levels(one: PipelineHealth) -> dict[str, float]:
    found = one.monitors
    return {} if found is None else {name: each.level for name, each in found.monitors.items()}


def _answers(one: PipelineHealth) -> dict[str, float]:
    found = one.accuracy
    if found is None:
        return {}
    return {"right": found.all.right, "wrong": found.all.answers - found.all.right, "abstained": found.abstained}


def _slices(one: PipelineHealth) -> dict[str, float]:
    found = {} if one.accuracy is None else one.accuracy.slices
    return {name: share.right / share.answers for name, share in found.items() if share.answers}


def _adapted(one: PipelineHealth) -> dict[str, float]:
    return {} if one.adaptations is None else dict(one.adaptations.in_force)


_FIGURES: tuple[tuple[str, Kind, str, str, Callable[[PipelineHealth], float | None]], ...] = (
    (
        "degraded",
        "gauge",
        "",
        "Whether a pipeline runs on something worse than it could.",
        lambda one: one.degraded,
    ),
    (
        "delegated.ops",
        "gauge",
        "1",
        "Share of the model's operations that run on the delegate.",
        lambda one: one.delegate_share,
    ),
    ("results", "counter", "", "Results.", lambda one: one.results),
    ("errors", "counter", "", "Windows without a result.", lambda one: one.errors),
    ("restarts", "counter", "", "Restarts of the worker.", lambda one: one.restarts),
    (
        "failovers",
        "counter",
        "",
        "How often a pipeline left an accelerator that failed.",
        lambda one: one.failovers,
    ),
    (
        "clipped.windows",
        "gauge",
        "1",
        "Share of the windows with values that the model's input cannot hold.",
        lambda one: one.clipped,
    ),
    (
        "events.left.out",
        "counter",
        "",
        "Events that were too many to be published.",
        lambda one: one.events_left_out,
    ),
    (
        "monitors.cost",
        "gauge",
        "1",
        "Time that monitors of drift took, as a share of the pipeline's own.",
        lambda one: one.monitors.cost if one.monitors else None,
    ),
)
"""A metric of each pipeline, and where its value is. ``None``: it is not known."""
_COUNTS: tuple[tuple[str, Kind, str, str, str, Callable[[PipelineHealth], Mapping[str, float]]], ...] = (
    ("state", "gauge", "", "state", "Whether a pipeline is in this state.", lambda one: _among(one.state, State)),
    (
        "dropped.samples",
        "counter",
        "",
        "cause",
        "Samples that are in no window, by cause.",
        lambda one: one.dropped,
    ),
    ("snapshots", "counter", "", "outcome", "Pictures of results.", _snapshots),
    ("drift", "gauge", "", "monitor", "Whether a monitor has an alarm.", _alarms),
    ("drift.level", "gauge", "", "monitor", "What a monitor measures, in shares of its threshold.", _levels),
    (
        "monitored.windows",
        "counter",
        "",
        "outcome",
        "Windows that monitors saw, or skipped to save time.",
        _watched,
    ),
    (
        "spared.windows",
        "counter",
        "",
        "saver",
        "Windows for which the model did not run.",
        _savings(lambda saving: saving.spared),
    ),
    ("captures", "counter", "", "reason", "Windows that were kept in the ring of captures.", _kept),
    ("captures.lost", "counter", "", "cause", "Windows that were not kept.", _not_kept),
    (
        "saved",
        "counter",
        "s",
        "saver",
        "Seconds that these runs of the model would have taken.",
        _savings(lambda saving: saving.saved_s),
    ),
    (
        "saving.cost",
        "counter",
        "s",
        "saver",
        "Seconds that a gate, a cache, a cascade or early exit took itself.",
        _savings(lambda saving: saving.cost_s),
    ),
    (
        "decisions",
        "counter",
        "",
        "outcome",
        "Windows in which the model decided, or abstained.",
        _decided,
    ),
    (
        "answers",
        "gauge",
        "",
        "outcome",
        "Results of the running model with feedback: right, wrong, or not decided.",
        _answers,
    ),
    (
        "slice.right",
        "gauge",
        "1",
        "slice",
        "Share of the results with feedback that were right.",
        _slices,
    ),
    (
        "adaptation",
        "gauge",
        "",
        "kind",
        "Number of the adaptation that is in force.",
        _adapted,
    ),
    (
        "prediction.sets",
        "counter",
        "",
        "size",
        "Prediction sets, by how many classes they have.",
        _set_sizes,
    ),
)
"""A metric with a point for each value of a further label, which stands fourth."""
