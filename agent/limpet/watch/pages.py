"""The pages of the screen beside the first: one pipeline, the device, its events, its log. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from limpet.watch import plain, words
from limpet.watch.pipeline_lines import STAGES, STYLES, pipeline_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from limpet.contracts.accuracy import RightShare
    from limpet.contracts.captures import CaptureHealth
    from limpet.contracts.drift import MonitorsHealth
    from limpet.contracts.messages import (
        AcceleratorHealth,
        ApiHealth,
        DeviceHealth,
        EventMessage,
        PipelineHealth,
        Placed,
    )
    from limpet.contracts.savings import Saver, Saving
    from limpet.watch.state import Device, Pipeline

LABEL = 14
"""Columns of the labels."""
_LEVELS = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}
MOST_FIGURES = 16
_MOST_COUNTS = 32


def pipeline_page(device: Device, pipeline: Pipeline, place: str, width: int, now: float) -> list[Text]:
    """Return all that is known of a pipeline. ``place``: which one of how many."""
    lines = [line.text for line in pipeline_lines(device, pipeline, width, now) if line.rank != _LATENCY_RANK]
    lines[0].append(place, "dim")
    return [
        *lines,
        Text(),
        *_latency_table(pipeline),
        *_facts_of_pipeline(pipeline),
        *_events_of(device, pipeline.name),
    ]


_LATENCY_RANK = 6
"""The rank of the short lines about latency, in whose place the page has a table."""


def _latency_table(pipeline: Pipeline) -> Iterator[Text]:
    known = [(stage, pipeline.latency[stage]) for stage in STAGES if stage in pipeline.latency]
    if known:
        yield Text(f"{'latency':{LABEL}}{'p50':>10}{'p95':>10}{'p99':>10}{'windows':>12}", "dim")
    for stage, one in known:
        times = "".join(f"{words.span(us):>10}" for us in (one.p50, one.p95, one.p99))
        yield Text(f"{stage:{LABEL}}{times}{words.counted(one.count):>12}")


def _facts_of_pipeline(pipeline: Pipeline) -> Iterator[Text]:
    health, model = pipeline.health, pipeline.model
    if model is not None and model.update is not None:
        update = model.update
        reason = f": {words.cleaned(update.reason)}" if update.reason else ""
        yield _row("update", f"{words.cleaned(update.stage)}{reason}")
    if health is None:
        return
    if health.placement is not None:
        yield _row("proof", _placed(health.placement))
    counts = f"errors {words.counted(health.errors)}  restarts {words.counted(health.restarts)}"
    yield _row("counts", f"{counts}  failovers {words.counted(health.failovers)}")
    for cause, count in list(health.dropped.items())[:MOST_FIGURES]:
        if count:
            yield _row("dropped", f"{words.counted(count)} {words.cleaned(cause, 40)}")
    if (unsure := health.uncertainty) is not None and (unsure.abstained or unsure.mean_set_size is not None):
        sets = f", {words.number(unsure.mean_set_size)} classes a set" if unsure.mean_set_size is not None else ""
        yield _row("unsure", f"{words.share(unsure.abstained / max(unsure.windows, 1))} of the windows{sets}")
    if health.clipped is not None:
        yield _row("clipped", f"{words.share(health.clipped)} of the windows")
    yield from _saved(health.savings or {})
    if health.monitors is not None:
        yield from _monitors(health.monitors)
    yield from _captured(health.captures)
    yield from _learned(health)
    if health.sandbox:
        yield _row("sandbox", ", ".join(words.cleaned(part, 60) for part in health.sandbox[:MOST_FIGURES]))


def _saved(savings: Mapping[Saver, Saving]) -> Iterator[Text]:
    for name, one in list(savings.items())[:MOST_FIGURES]:
        spared = f"{words.share(one.spared / max(one.windows, 1))} of {words.counted(one.windows)} windows"
        seconds = f"saved {words.number(one.saved_s)} s, cost {words.number(one.cost_s)} s"
        yield _row("spared", f"{words.cleaned(name, 40)}: {spared}, {seconds}")


def _captured(captures: CaptureHealth | None) -> Iterator[Text]:
    if captures is None:
        return
    full, lost = words.share(captures.bytes / max(captures.most_bytes, 1)), sum(captures.lost.values())
    labelled = f"{words.counted(captures.labelled)} labelled"
    more = f", {words.counted(lost)} windows lost" if lost else ""
    yield _row("captures", f"{words.counted(captures.count)}, {full} of the room, {labelled}{more}")
    if captures.problem:
        yield _row("captures", words.cleaned(captures.problem), bad=True)


def _learned(health: PipelineHealth) -> Iterator[Text]:
    """Show how often results were right, as people said, the least accurate slices first; and adaptations."""
    if (known := health.accuracy) is not None:
        yield _row("right", _right(known.all))
        worst = sorted(known.slices.items(), key=lambda one: one[1].right / max(one[1].answers, 1))
        for name, share in worst[:MOST_FIGURES]:
            yield _row("slice", f"{words.cleaned(name, 64)}: {_right(share)}")
    adapted = health.adaptations.in_force if health.adaptations is not None else {}
    for kind, number in list(adapted.items())[:MOST_FIGURES]:
        yield _row("adapted", f"{words.cleaned(kind, 40)}, adaptation {words.counted(number)}")


def _right(share: RightShare) -> str:
    between = f"{words.share(share.low)} to {words.share(share.high)}"
    right = words.share(share.right / max(share.answers, 1))
    return f"{right} of {words.counted(share.answers)} answers ({between})"


def _monitors(monitors: MonitorsHealth) -> Iterator[Text]:
    """Show how the monitors stand. An alarm begins at 100 %."""
    cost = "" if monitors.cost is None else f", {words.share(monitors.cost)} of the time"
    skipped = f", {words.counted(monitors.skipped)} skipped" if monitors.skipped else ""
    yield _row("monitored", f"{words.counted(monitors.windows)} windows{skipped}{cost}")
    if monitors.problem:
        yield _row("monitors", words.cleaned(monitors.problem), bad=True)
    for name, one in list(monitors.monitors.items())[:MOST_FIGURES]:
        state = words.cleaned(one.problem) or f"{words.share(one.level)}{', alarm' if one.alarm else ''}"
        yield _row("monitor", f"{words.cleaned(name, 40)}: {state}", bad=bool(one.alarm or one.problem))


def _placed(placed: Placed) -> str:
    shares = [
        ("ops", placed.op_share),
        ("multiply-adds", placed.mac_share),
        ("time", placed.time_share),
    ]
    named = [f"{words.share(share)} of {what}" for what, share in shares if share is not None]
    return f"{', '.join(named)} on the delegate, {words.number(placed.speed)} times the CPU"


def _events_of(device: Device, pipeline: str) -> list[Text]:
    return [_event(event) for event in device.events if event.pipeline == pipeline][-5:]


def device_page(device: Device) -> list[Text]:
    """Return all that is known of the device itself."""
    if (health := device.health) is None:
        return [Text("the device has not reported its health yet", "dim")]
    return [
        *_machine(health),
        *_api(health.api),
        _row("trust", f"{words.cleaned(health.trust.models)} models run here"),
        *([] if health.audit is None else [_row("audit", f"{words.counted(health.audit.seq)} lines")]),
        *(_accelerator(one) for one in health.accelerators[:MOST_FIGURES]),
        *(_reporter(name, figures) for name, figures in list(health.reporters.items())[:MOST_FIGURES]),
        *(_state(device, name, state) for name, state in list(health.pipelines.items())[:64]),
    ]


def _state(device: Device, name: str, state: str) -> Text:
    """Return the state of a pipeline. Its own health is newer than the device's."""
    pipeline = device.pipelines.get(name)
    newest = pipeline.state if pipeline is not None and pipeline.health is not None else state
    return Text(f"{words.padded(words.cleaned(name), 24)} ").append(newest, STYLES.get(newest, "dim"))


def _machine(health: DeviceHealth) -> Iterator[Text]:
    yield _row("device", f"{words.cleaned(health.device)}  boot {words.cleaned(health.boot, 40)}")
    yield _row("version", f"limpet {words.cleaned(health.version, 20)}")
    yield _row("machine", f"up for {_uptime(health.uptime_s)}")
    load = "" if health.load_1m is None else f", load {words.number(health.load_1m)}"
    yield _row("cpu", f"{words.share(health.cpu_share)}{load}")
    free = words.number(health.memory_available_mb)
    yield _row("memory", f"{words.number(health.pss_mb)} MB of Limpet, {free} MB available")
    throttled = ", throttled" if health.throttled else ""
    if health.temperature_c is not None:
        yield _row("temperature", f"{words.number(health.temperature_c)} °C{throttled}", bad=bool(throttled))
    yield _row("disk", f"{words.number(health.disk_free_mb)} MB free")
    if health.clock_synchronised is not None:
        synchronised = "synchronised" if health.clock_synchronised else "not synchronised"
        yield _row("clock", synchronised, bad=not health.clock_synchronised)


def _uptime(seconds: float) -> str:
    minutes = int(min(max(seconds, 0.0), 1e9)) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"


def _api(api: ApiHealth | None) -> Iterator[Text]:
    if api is None:
        return
    where = ", ".join(words.cleaned(address, 80) for address in api.addresses[:4]) or words.cleaned(api.problem)
    restarts = f"  restarts {words.counted(api.restarts)}" if api.restarts else ""
    yield _row("local API", f"{api.state}  {where}{restarts}", bad=api.state == "failed")


def _accelerator(one: AcceleratorHealth) -> Text:
    state = "usable" if one.usable else words.cleaned("; ".join(one.why_not[:4]), 200)
    return _row("accelerator", f"{words.cleaned(one.name, 60)}: {state}", bad=not one.usable)


def _reporter(name: str, figures: dict[str, Any]) -> Text:
    """Return what a reporter counts. Counts of 0 are left out, but for the outbox."""
    connected = figures.get("connected")
    state = {True: "connected", False: "not connected"}.get(connected) if isinstance(connected, bool) else None
    counts = [
        f"{words.cleaned(key, 30).replace('_', ' ')} {value}"
        for key, value in list(figures.items())[:_MOST_COUNTS]
        if type(value) is int and abs(value) < 1 << 53 and (value or key == "outbox_depth")
    ]
    shown = [words.cleaned(name, 30), *([state] if state else []), *counts]
    return _row("reporter", "  ".join(shown), bad=connected is False)


def _row(label: str, text: str, *, bad: bool = False) -> Text:
    return Text(f"{label:{LABEL}}", "dim").append(text, "yellow" if bad else "")


def events_page(device: Device) -> list[Text]:
    """Return the events that are kept, the newest one last."""
    return [_event(event) for event in device.events] or [Text("no event yet", "dim")]


def _event(event: EventMessage) -> Text:
    time = Text(f"{event.time.astimezone():%H:%M:%S} ", "dim")
    return time.append(plain.event_line(event), _event_style(event.event))


def _event_style(event: str) -> str:
    if event in {"failed", "crashed", "api_failed"}:
        return "red"
    return "yellow" if event in {"waiting", "gap", "degraded", "drift"} else ""


def log_page(device: Device) -> list[Text]:
    """Return the lines of the log that are kept, the newest one last."""
    lines = []
    for line in device.lines:
        text = Text(f"{line.time.astimezone():%H:%M:%S} ", "dim")
        if line.left_out:
            text.append(f"({words.counted(line.left_out)} lines left out) ", "yellow")
        text.append(f"{words.cleaned(line.process, 40)}: ", "cyan")
        lines.append(text.append(words.cleaned(line.text), _LEVELS.get(line.level, "")))
    return lines or [Text("no line yet. The log is shown on the device itself, not over MQTT", "dim")]
