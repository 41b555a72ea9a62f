"""The screen: what is known of a device, drawn for a terminal of a certain size. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias

from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from limpet.watch import pages, plain, words
from limpet.watch.pipeline_lines import Line, pipeline_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.watch.state import Device, Pipeline, Watched

LEAST = 3
"""Lines of a pipeline at least: head, result, rates."""
EVENTS = 4
"""Lines for events, if there is room."""
Page: TypeAlias = Literal["all", "pipeline", "device", "events", "log"]
SHOWN_KEYS: dict[str, Page] = {"a": "all", "p": "pipeline", "d": "device", "e": "events", "l": "log"}
PAGES: dict[str, Page] = {**SHOWN_KEYS, "enter": "pipeline", "escape": "all"}
"""The pages by their keys."""
_STEPS = {"down": 1, "j": 1, "up": -1, "k": -1, "page down": 10, "page up": -10, "home": -10_000, "end": 10_000}
"""By how many lines, or pipelines, a key moves."""


@dataclass
class View:
    """What a person has chosen to see: the page, the device and the first pipeline, by their places.

    ``scrolled``: lines that are above the page, or below the newest one of events and of the log.
    """

    page: Page = "all"
    device: int = 0
    first: int = 0
    scrolled: int = 0

    def press(self, key: str, watched: Watched) -> None:
        """Take a key."""
        if key in PAGES:
            self.page, self.scrolled = PAGES[key], 0
        elif key == "tab":
            self.device, self.first = (self.device + 1) % max(len(watched.devices), 1), 0
        elif self.page == "all":
            self.first = max(self.first + _STEPS.get(key, 0), 0)
        elif self.page == "pipeline" and key in {"left", "right"}:
            self.first, self.scrolled = max(self.first + (1 if key == "right" else -1), 0), 0
        else:
            newest_last = self.page in {"events", "log"}
            self.scrolled = max(self.scrolled + _STEPS.get(key, 0) * (-1 if newest_last else 1), 0)


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
    foot = [_fit(Text(f" {_keys(view, several=len(names) > 1)}", "dim"), width)] if height > 8 else []
    left = height - len(head) - len(foot)
    body = (
        _all(device, view, (width, height), left, now)
        if view.page == "all"
        else _page(device, view, (width, left), now)
    )
    return Group(*(_fit(one, width) if isinstance(one, Text) else one for one in (*head, *body, *foot)))


def _keys(view: View, *, several: bool) -> str:
    moves = {"all": "↑↓ pipelines", "pipeline": "←→ pipelines"}.get(view.page, "↑↓ lines")
    pages = "  ".join(f"{key} {page}" for key, page in SHOWN_KEYS.items() if page != view.page)
    return "  ".join(["q quit", *(["tab device"] if several else []), moves, pages])


def _all(device: Device, view: View, size: tuple[int, int], left: int, now: float) -> list[Panel | Text]:
    """Draw all pipelines, and below them the last events."""
    width, height = size
    pipelines = sorted(device.pipelines.values(), key=lambda one: one.name)
    events = [_fit(event, width) for event in _events(device, min(EVENTS, max(left - LEAST - 1, 0)))]
    events = events if height > 11 else []
    blocks = _blocks(device, pipelines, view, (width, left - len(events)), now)
    if not pipelines and left > len(events):
        blocks = [Text(" no pipeline has reported yet", "dim")]
    return [*blocks, *events]


def _page(device: Device, view: View, size: tuple[int, int], now: float) -> list[Text]:
    """Draw one page: the lines that have room, as far as it is scrolled."""
    width, height = size
    lines = _lines_of_page(device, view, width - 2, now)
    hidden = max(len(lines) - height, 0)
    view.scrolled = min(view.scrolled, hidden)
    first = hidden - view.scrolled if view.page in {"events", "log"} else view.scrolled
    return [Text(" ").append_text(line) for line in lines[first : first + max(height, 0)]]


def _lines_of_page(device: Device, view: View, width: int, now: float) -> list[Text]:
    if view.page == "device":
        return pages.device_page(device)
    if view.page == "events":
        return pages.events_page(device)
    if view.page == "log":
        return pages.log_page(device)
    pipelines = sorted(device.pipelines.values(), key=lambda one: one.name)
    if not pipelines:
        return [Text("no pipeline has reported yet", "dim")]
    view.first = min(view.first, len(pipelines) - 1)
    place = f" ({view.first + 1} of {len(pipelines)})" if len(pipelines) > 1 else ""
    return pages.pipeline_page(device, pipelines[view.first], place, width, now)


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
        lines = list(pipeline_lines(device, pipeline, width - (4 if framed else 1), now))
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


def _most_important(lines: Sequence[Line], most: int) -> list[Text]:
    kept = sorted(range(len(lines)), key=lambda place: (lines[place].rank, place))[: max(most, 1)]
    return [lines[place].text for place in sorted(kept)]


def _events(device: Device, most: int) -> list[Text]:
    """Draw the newest events, the newest one last."""
    newest = pages.events_page(device)[-most:] if most else []
    return [Text(" ").append_text(line) for line in newest if device.events]
