"""What is known of a device as lines of plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.contracts.drift import DriftEvent
from limpet.watch import words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from limpet.contracts.messages import EventMessage
    from limpet.watch.state import Device, Pipeline, Watched

SEPARATOR = " | "


def pipeline_line(device: Device, pipeline: Pipeline, now: float) -> str:
    """Return one line: state, last result in words, rates, drops."""
    name = words.cleaned(pipeline.name)
    if pipeline.state != "running":
        reason = f" ({words.cleaned(pipeline.reason)})" if pipeline.reason else ""
        return f"{name}: {pipeline.state}{reason}, {_results(pipeline)}{_dropped(pipeline)}"
    said = pipeline.words.text if pipeline.words else "no result yet"
    return f"{name}: {said}, {_rates(device, pipeline, now)}{_dropped(pipeline)}"


def losses(watched: Watched) -> str:
    """Return how many messages are not shown and why, empty if there are none."""
    counts = {
        "messages missed: this terminal is too slow": watched.missed,
        "messages that cannot be read": watched.unreadable,
    }
    return "; ".join(f"{words.counted(count)} {what}" for what, count in counts.items() if count)


def event_line(event: EventMessage) -> str:
    """Return an event in one line."""
    about = f"{words.cleaned(event.pipeline)}: " if event.pipeline else ""
    details = event.details
    detected = words.detected_event(details) if details and not isinstance(details, DriftEvent) else ""
    text = event.reason or detected
    reason = f": {words.cleaned(text)}" if text else ""
    return f"{about}{words.cleaned(event.event)}{reason}"


def status_line(devices: Iterable[Device], now: float, width: int, turn: int) -> str:
    """Return one line about all pipelines. If they need more than ``width`` columns, each turn shows the next."""
    parts = pipeline_lines(devices, now)
    whole = SEPARATOR.join(parts)
    if not parts or words.cells(whole) <= width:
        return words.fitted(whole, width)
    first = turn % len(parts)
    return words.fitted(SEPARATOR.join(parts[first:] + parts[:first]), width)


def pipeline_lines(devices: Iterable[Device], now: float) -> list[str]:
    """Return a line for each pipeline."""
    return [pipeline_line(device, pipeline, now) for device in devices for pipeline in device.pipelines.values()]


def _rates(device: Device, pipeline: Pipeline, now: float) -> str:
    source = device.source_of(pipeline.name)
    came = f"{words.number(source.newest.rate)} {words.samples(source.newest.shape)}/s, " if source else ""
    rate = pipeline.rate(now)
    return f"{came}{_results(pipeline) if rate is None else f'{words.number(rate)} results/s'}"


def _results(pipeline: Pipeline) -> str:
    return f"{words.counted(pipeline.results)} result{'' if pipeline.results == 1 else 's'}"


def _dropped(pipeline: Pipeline) -> str:
    dropped = words.causes(pipeline.dropped)
    faults = words.faults(pipeline.dropped)
    return ("" if dropped == "none" else f", dropped: {dropped}") + (f", source: {faults}" if faults else "")
