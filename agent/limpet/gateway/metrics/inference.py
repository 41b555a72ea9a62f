"""What clients had models do, as metrics. They count since the gateway started. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.gateway.metrics.family import Family, Point

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from limpet.gateway.open_inference.statistics import ModelStatistics

_FIGURES: tuple[tuple[str, str, str, Callable[[ModelStatistics], float]], ...] = (
    ("windows", "", "Windows that clients had models run on.", lambda one: one.windows),
    ("runs", "", "Runs of models for clients. One run can serve many requests.", lambda one: one.runs),
    ("request.time", "s", "Time from requests to their answers.", lambda one: one.success.ns / 1e9),
    ("queue.time", "s", "Time that requests waited for the model.", lambda one: one.queue.ns / 1e9),
    ("run.time", "s", "Time that requests spent in the model.", lambda one: one.run.ns / 1e9),
)


def inference_families(statistics: Mapping[tuple[str, str], ModelStatistics]) -> list[Family]:
    """Return the metrics of models, by their name and version. There is none before the first request."""
    if not statistics:
        return []
    outcomes = [
        Point({"model": name, "version": version, "outcome": outcome}, times.count)
        for (name, version), one in statistics.items()
        for outcome, times in (("success", one.success), ("failed", one.fail))
    ]
    requests = Family("limpet.inference.requests", "counter", "", "Requests of clients, by outcome.", outcomes)
    return [requests, *(_family(name, unit, text, value, statistics) for name, unit, text, value in _FIGURES)]


def _family(
    name: str,
    unit: str,
    text: str,
    value: Callable[[ModelStatistics], float],
    statistics: Mapping[tuple[str, str], ModelStatistics],
) -> Family:
    points = [
        Point({"model": model, "version": version}, value(one)) for (model, version), one in statistics.items()
    ]
    return Family(f"limpet.inference.{name}", "counter", unit, text, points)
