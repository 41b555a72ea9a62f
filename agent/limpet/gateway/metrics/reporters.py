"""The figures of reporters, which may be other packages', as metrics. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from limpet.gateway.metrics.family import Family, Kind, Point

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_REPORTER: tuple[tuple[str, str, Kind, str, str], ...] = (
    ("connected", "limpet.reporter.connected", "gauge", "", "Whether a reporter is connected."),
    ("reconnects", "limpet.reporter.reconnects", "counter", "", "How often a reporter connected again."),
    ("waiting", "limpet.reporter.waiting.messages", "gauge", "", "Messages that a reporter has not read yet."),
    ("missed", "limpet.reporter.missed.messages", "counter", "", "Messages that a reporter read too late."),
    ("published", "limpet.reporter.published.messages", "counter", "", "Messages that were sent."),
    (
        "acknowledged",
        "limpet.reporter.acknowledged.messages",
        "counter",
        "",
        "Messages that the broker has taken.",
    ),
    ("written", "limpet.reporter.written.lines", "counter", "", "Lines that were written."),
    ("failed", "limpet.reporter.failed.lines", "counter", "", "Lines that could not be written."),
    ("outbox_depth", "limpet.outbox.messages", "gauge", "", "Messages that wait in the outbox."),
    ("outbox_bytes", "limpet.outbox.size", "gauge", "By", "Size of the outbox."),
    ("outbox_oldest_s", "limpet.outbox.oldest.age", "gauge", "s", "Age of the oldest message in the outbox."),
)
"""A figure of a reporter's health, and the metric that it is."""
_REPORTER_CAUSES = (
    ("shed", "limpet.outbox.shed.messages", "Messages that were shed, by cause."),
    ("refused", "limpet.reporter.refused.messages", "Messages that the broker refused, by cause."),
)


def reporter_families(reporters: Mapping[str, Mapping[str, Any]]) -> Iterator[Family]:
    """Yield the metrics of reporters by their names. Some have no point."""
    kinds = [Point({"reporter": name, "kind": str(one.get("kind", ""))}, 1) for name, one in reporters.items()]
    yield Family("limpet.reporter", "info", "", "The reporters and their kinds.", kinds)
    for key, name, kind, unit, text in _REPORTER:
        points = [
            Point({"reporter": reporter}, value)
            for reporter, one in reporters.items()
            if _is_number(value := one.get(key))
        ]
        yield Family(name, kind, unit, text, points)
    for key, name, text in _REPORTER_CAUSES:
        causes = [
            Point({"reporter": reporter, "cause": str(cause)}, value)
            for reporter, one in reporters.items()
            if isinstance(counts := one.get(key), dict)
            for cause, value in counts.items()
            if _is_number(value)
        ]
        yield Family(name, "counter", "", text, causes)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float)
