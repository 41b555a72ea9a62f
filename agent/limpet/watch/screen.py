"""The screen: what is known of a device, drawn for a terminal of a certain size. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from limpet.watch import plain, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.watch.state import Device, Pipeline, Source, Watched

STYLES = {"running": "bold green", "failed": "bold red", "waiting": "bold yellow", "starting": "yellow"}
"""By state. Other states are dim."""
LEAST = 3
"""Lines of a pipeline at least: head, result, rates."""
EVENTS = 4
"""Lines for events, if there is room."""
_STAGES = ("queue", "transform", "invoke", "decode")


@dataclass
class View:
    """What a person has chosen to see: the device and the first pipeline, by their places."""

    device: int = 0
    first: int = 0

    def press(self, key: str, watched: Watched) -> None:
        """Take a key."""
        if key == "tab":
            self.device, self.first = (self.device + 1) % max(len(watched.devices), 1), 0
        elif key in {"down", "j"}:
            self.first += 1
        elif key in {"up", "k"}:
            self.first = max(self.first - 1, 0)


@dataclass
class _Line:
    """A line, and how much it matters: those with the highest number go first if there is no room."""

    text: Text
    rank: int


def frame(watched: Watched, view: View, size: tuple[int, int], now: float) -> Group:
    """Draw everything in at most this many columns and lines."""
    width, height = size
    names = sorted(watched.devices)
    if not names:
        lines = [_title("limpet watch", width), Text(" " + (watched.notice or "no message yet"), "yellow")]
        return Group(*(_fit(line, width) for line in lines[:height]))
    place = min(view.device, len(names) - 1)
    device = watched.devices[names[place]]
    head = [
        _title(_about(device, f" ({place + 1} of {len(names)})" if len(names) > 1 else ""), width),
        *_notices(watched, device, now),
    ][: max(height - 1, 1)]
    foot = (
        [Text(" q quit  ↑↓ pipelines" + ("  tab device" if len(names) > 1 else ""), "dim")] if height > 8 else []
    )
    left = height - len(head) - len(foot)
    pipelines = sorted(device.pipelines.values(), key=lambda one: one.name)
    events = _events(device, min(EVENTS, max(left - LEAST - 1, 0))) if height > 11 else []
    blocks = _blocks(device, pipelines, view, (width, left - len(events)), now)
    if not pipelines and left > len(events):
        blocks = [Text(" no pipeline has reported yet", "dim")]
    return Group(*(_fit(one, width) if isinstance(one, Text) else one for one in (*head, *blocks, *events, *foot)))


def _fit(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


def _title(text: str, width: int) -> Text:
    line = Text(f" {text}", "bold reverse")
    line.truncate(width, overflow="ellipsis", pad=True)
    return line


def _about(device: Device, which: str) -> str:
    health, status = device.health, device.status
    parts = [words.cleaned(device.name) + which]
    parts.append(status.status if status else "?")
    if health:
        parts += [
            f"cpu {words.share(health.cpu_share)}",
            f"memory {words.number(health.pss_mb)} MB",
            *([f"{words.number(health.temperature_c)} °C"] if health.temperature_c is not None else []),
            *_outboxes(health.reporters),
        ]
    version = status.version if status else ""
    return "  ".join([*parts, *([f"limpet {words.cleaned(version, 20)}"] if version else [])])


def _outboxes(reporters: dict[str, dict[str, object]]) -> list[str]:
    """Return how many messages wait in each reporter's outbox."""
    found = []
    for name, figures in islice(reporters.items(), 4):
        depth, connected = figures.get("outbox_depth"), figures.get("connected")
        if isinstance(depth, int):
            away = " (not connected)" if connected is False else ""
            found.append(f"outbox {words.cleaned(name, 20)} {words.counted(depth)}{away}")
    return found


def _notices(watched: Watched, device: Device, now: float) -> list[Text]:
    notices = [Text(f" {words.cleaned(watched.notice)}", "bold yellow")] if watched.notice else []
    silent = now - device.heard
    if not watched.notice and silent > 30:
        notices.append(Text(f" no message for {silent:.0f} s", "yellow"))
    if losses := plain.losses(watched):
        notices.append(Text(f" {losses}", "yellow"))
    return notices


def _blocks(
    device: Device, pipelines: Sequence[Pipeline], view: View, size: tuple[int, int], now: float
) -> list[Panel | Text]:
    """Return the pipelines that have room, from the first chosen one on."""
    width, height = size
    count = len(pipelines)
    view.first = min(view.first, max(count - 1, 0))
    chosen = pipelines[view.first :]
    if not chosen or height < 1:
        return []
    least = min(LEAST, height)
    shown = min(len(chosen), max((height - (1 if count * least > height else 0)) // least, 1))
    hidden = count - shown if height > 1 else 0
    room = height - bool(hidden)
    blocks: list[Panel | Text] = []
    for place, pipeline in enumerate(chosen[:shown]):
        share = room // (shown - place)
        framed = width >= 60 and share >= LEAST + 3
        lines = list(_pipeline(device, pipeline, width - (4 if framed else 1), now))
        kept = _most_important(lines, share - (2 if framed else 0))
        room -= len(kept) + (2 if framed else 0)
        if framed:
            inside = [_fit(line, width - 4) for line in kept[1:]]
            style = "red" if pipeline.words and pipeline.words.alarm else "cyan"
            title = _fit(kept[0], width - 8)
            blocks.append(Panel(Group(*inside), title=title, title_align="left", width=width, border_style=style))
            room += 1
        else:
            blocks += [Text(" ").append_text(line) for line in kept]
    if hidden:
        blocks.append(Text(f" … {hidden} more pipeline{'s' if hidden > 1 else ''}: ↑ ↓", "dim"))
    return blocks


def _most_important(lines: Sequence[_Line], most: int) -> list[Text]:
    kept = sorted(range(len(lines)), key=lambda place: (lines[place].rank, place))[: max(most, 1)]
    return [lines[place].text for place in sorted(kept)]


def _pipeline(device: Device, pipeline: Pipeline, width: int, now: float) -> Iterator[_Line]:
    source = device.source_of(pipeline.name)
    yield _Line(_head(pipeline), 0)
    if pipeline.reason:
        yield _Line(Text(words.cleaned(pipeline.reason), "yellow"), 2)
    yield _Line(_result(pipeline, width), 1)
    yield from _shares(pipeline, width)
    yield from _curves(pipeline, width)
    yield _Line(_rates(pipeline, source, now), 3)
    yield from _values(source, width)
    yield _Line(_dropped(pipeline), 5)
    yield from (_Line(line, 6) for line in _latency(pipeline, 4 if width >= 100 else 2))


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


def _shares(pipeline: Pipeline, width: int) -> Iterator[_Line]:
    """Draw a bar for each of the best classes."""
    shares = pipeline.words.shares if pipeline.words else ()
    longest = max([words.cells(label) for label, _ in shares], default=0)
    room = max(min(width - longest - 8, 40), 4)
    for place, (label, share) in enumerate(shares[:5]):
        pad = " " * (longest - words.cells(label))
        line = Text(f"{label}{pad} ").append(words.bar(share, room), "cyan" if place else "bold cyan")
        yield _Line(line.append(f" {share:4.0%}" if abs(share) < 10 else " ?"), 4 if place < 2 else 7)


def _curves(pipeline: Pipeline, width: int) -> Iterator[_Line]:
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
        yield _Line(line, 4 if not place else 7)


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


def _values(source: Source | None, width: int) -> Iterator[_Line]:
    """Show the newest value of each channel, with a curve if there is room."""
    if source is None:
        return
    newest = source.newest
    if not newest.values:
        if form := words.form(newest.shape):
            yield _Line(Text(form, "dim"), 5)
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
        yield _Line(Text(text, "magenta"), 4 if not row else 8)


def _dropped(pipeline: Pipeline) -> Text:
    dropped = words.causes(pipeline.dropped)
    faults = words.faults(pipeline.dropped)
    text = f"dropped {dropped}" + (f", source {faults}" if faults else "")
    return Text(text, "yellow" if faults or dropped != "none" else "dim")


def _latency(pipeline: Pipeline, across: int) -> Iterator[Text]:
    """Show the latency of each stage, so many in a line."""
    known = [(stage, pipeline.latency[stage]) for stage in _STAGES if stage in pipeline.latency]
    cells = [f"{stage} {words.span(one.p50)}/{words.span(one.p95)}" for stage, one in known]
    for first in range(0, len(cells), across):
        head = "p50/p95  " if not first else " " * 9
        yield Text(head + "  ".join(cells[first : first + across]), "dim")


def _events(device: Device, most: int) -> list[Text]:
    """Draw the newest events, the newest one last."""
    newest = list(device.events)[-most:] if most else []
    return [
        Text(f" {event.time.astimezone():%H:%M:%S} ", "dim").append(
            plain.event_line(event), _event_style(event.event)
        )
        for event in newest
    ]


def _event_style(event: str) -> str:
    return "red" if event in {"failed", "crashed"} else "yellow" if event in {"waiting", "gap", "degraded"} else ""
