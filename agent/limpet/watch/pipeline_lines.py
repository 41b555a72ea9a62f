"""A pipeline in lines, each with how much it matters. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from limpet.watch import words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.watch.state import Device, Pipeline, Source

STYLES = {"running": "bold green", "failed": "bold red", "waiting": "bold yellow", "starting": "yellow"}
"""By state. Other states are dim."""
STAGES = ("queue", "transform", "invoke", "decode")


@dataclass
class Line:
    """A line, and how much it matters: those with the highest number go first if there is no room."""

    text: Text
    rank: int


def pipeline_lines(device: Device, pipeline: Pipeline, width: int, now: float) -> Iterator[Line]:
    """Return the lines of a pipeline. The first one is its head."""
    source = device.source_of(pipeline.name)
    yield Line(_head(pipeline), 0)
    if pipeline.reason:
        yield Line(Text(words.cleaned(pipeline.reason), "yellow"), 2)
    if pipeline.health and pipeline.health.monitors:
        alarms = words.alarms(pipeline.health.monitors)
        yield from (Line(Text(f"drift: {text}", "bold yellow"), 2) for text in alarms)
    yield Line(_result(pipeline, width), 1)
    yield from _shares(pipeline, width)
    yield from _curves(pipeline, width)
    yield Line(_rates(pipeline, source, now), 3)
    yield from _values(source, width)
    yield Line(_dropped(pipeline), 5)
    if pipeline.health and (spared := words.spared(pipeline.health.savings or {})):
        yield Line(Text(f"model not run: {spared}", "dim"), 6)
    yield from (Line(line, 6) for line in _latency(pipeline, 4 if width >= 100 else 2))


def _head(pipeline: Pipeline) -> Text:
    state = pipeline.state
    head = Text.assemble((words.cleaned(pipeline.name), "bold"), "  ", (state, STYLES.get(state, "dim")))
    if (health := pipeline.health) and health.model:
        version = f" v{words.counted(health.version)}" if health.version else ""
        head.append(f"  {words.cleaned(health.model, 64)}{version} on {words.cleaned(health.delegate, 40)}")
        if health.degraded:
            head.append(" degraded", "bold yellow")
    return head


def _result(pipeline: Pipeline, width: int) -> Text:
    if pipeline.words is None:
        return Text("no result yet", "dim")
    result = pipeline.result
    text = Text(pipeline.words.text, "bold red" if pipeline.words.alarm else "bold")
    if result is not None:
        text.append(f"  {result.time:%H:%M:%S}", "dim")
        text.append(f"  {words.span(result.latency_us)}{' after the sample' if width >= 60 else ''}", "dim")
    return text


def _shares(pipeline: Pipeline, width: int) -> Iterator[Line]:
    """Draw a bar for each of the best classes."""
    shares = pipeline.words.shares if pipeline.words else ()
    longest = max([words.cells(label) for label, _ in shares], default=0)
    room = max(min(width - longest - 8, 40), 4)
    for place, (label, share) in enumerate(shares[:5]):
        pad = " " * (longest - words.cells(label))
        line = Text(f"{label}{pad} ").append(words.bar(share, room), "cyan" if place else "bold cyan")
        yield Line(line.append(f" {share:4.0%}" if abs(share) < 10 else " ?"), 4 if place < 2 else 7)


def _curves(pipeline: Pipeline, width: int) -> Iterator[Line]:
    """Draw a curve for each number of the results; one that is compared with a limit on that scale."""
    limit = pipeline.words.limit if pipeline.words else None
    names = [name for name, values in pipeline.curves.items() if len(values) > 1]
    longest = min(max([words.cells(name) for name in names], default=0), 16)
    for place, name in enumerate(names[:4]):
        values = list(pipeline.curves[name])[-max(width - longest - 24, 8) :]
        if limit is None:
            low, high = min(values), max(values)
            line = Text(f"{words.padded(name, longest)} ").append(words.curve(values), "cyan")
            line.append(f" {words.number(low)} to {words.number(high)}", "dim")
        else:
            line = Text(f"{words.padded(name, longest)} ")
            for value in values:
                line.append(words.curve([value], 0.0, 2 * limit), "bold red" if value > limit else "green")
            line.append(f" limit {words.number(limit)}", "dim")
        yield Line(line, 4 if not place else 7)


def _rates(pipeline: Pipeline, source: Source | None, now: float) -> Text:
    text = Text()
    if source:
        text.append(f"{words.number(source.newest.rate)} {words.samples(source.newest.shape)}/s  ")
    text.append(
        f"{words.rate(pipeline.rate(now)).replace('/s', ' results/s')}  {words.counted(pipeline.results)} in all"
    )
    if (health := pipeline.health) and (health.errors or health.restarts):
        text.append(
            f"  errors {words.counted(health.errors)}  restarts {words.counted(health.restarts)}", "yellow"
        )
    return text


def _values(source: Source | None, width: int) -> Iterator[Line]:
    """Show the newest value of each channel, with a curve if there is room."""
    if source is None:
        return
    newest = source.newest
    if not newest.values:
        if form := words.form(newest.shape):
            yield Line(Text(form, "dim"), 5)
        return
    cells = []
    for place, value in enumerate(newest.values[-1][:16]):
        name = words.cleaned(newest.channels[place], 16) if place < len(newest.channels) else f"c{place}"
        curve = words.curve(list(source.curves[place])[-8:]) if place < len(source.curves) else ""
        cells.append(f"{name} {words.number(value):>6} {curve:8}")
    size = max(map(words.cells, cells), default=1) + 2
    across = max(width // size, 1)
    for row, first in enumerate(range(0, len(cells), across)):
        text = "".join(cell + " " * (size - words.cells(cell)) for cell in cells[first : first + across])
        yield Line(Text(text, "magenta"), 4 if not row else 8)


def _dropped(pipeline: Pipeline) -> Text:
    dropped = words.causes(pipeline.dropped)
    faults = words.faults(pipeline.dropped)
    text = f"dropped {dropped}" + (f", source {faults}" if faults else "")
    return Text(text, "yellow" if faults or dropped != "none" else "dim")


def _latency(pipeline: Pipeline, across: int) -> Iterator[Text]:
    """Show the latency of each stage, so many in a line."""
    known = [(stage, pipeline.latency[stage]) for stage in STAGES if stage in pipeline.latency]
    cells = [f"{stage} {words.span(one.p50)}/{words.span(one.p95)}" for stage, one in known]
    for first in range(0, len(cells), across):
        head = "p50/p95  " if not first else " " * 9
        yield Text(head + "  ".join(cells[first : first + across]), "dim")
