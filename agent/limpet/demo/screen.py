"""The demo on a terminal: a live view of what the client receives, and the scoreboard."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from limpet.watch import picture, words
from limpet.wire.records import TIMED_STEPS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.contracts.messages import ResultMessage
    from limpet.demo.score import PipelineWatch, Scoreboard, Verdict

WIDTH = 80
ROWS = 5
"""Results in each of the two tables."""


def frame(watch: PipelineWatch, sent: int, count: int) -> Group:
    """Draw the current state."""
    latest = list(watch.latest)
    detections = [(result, verdict) for result, verdict in latest if verdict.anomalous]
    columns = Table.grid(padding=(0, 1))
    columns.add_column(width=WIDTH // 2)
    columns.add_column(width=WIDTH // 2 - 1)
    columns.add_row(
        Group(
            _results(watch, detections[-ROWS:], "latest detections"),
            _results(watch, latest[-ROWS:], "latest results"),
        ),
        _health(watch),
    )
    return Group(_counts(watch, sent, count), columns, _spark(latest))


def _counts(watch: PipelineWatch, sent: int, count: int) -> Panel:
    text = Text.assemble("rows ", (f"{sent:,} of {count:,}", "bold"))
    text.append(f"  results {watch.arrivals.received:,}", "bold cyan")
    text.append(f"  found {watch.right}", "bold green")
    text.append(f"  missed {watch.missed}", "bold yellow" if watch.missed else "dim")
    text.append(f"  false alarms {watch.false_alarms}", "bold yellow" if watch.false_alarms else "dim")
    return Panel(text, title="limpet demo: space shuttle telemetry", width=WIDTH, border_style="cyan")


def _results(watch: PipelineWatch, chosen: Sequence[tuple[ResultMessage, Verdict]], title: str) -> Panel:
    table = Table(box=None, expand=True, padding=(0, 0, 0, 1))
    for name in ("time", "sample", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, min_width=9)
    for result, verdict in chosen:
        table.add_row(
            f"{result.time:%H:%M:%S}",
            str(result.sample),
            "?" if verdict.score is None else f"{verdict.score:.3f}",
            _verdict(watch, result, anomalous=verdict.anomalous),
        )
    return Panel(table, title=title, height=ROWS + 3)


def _verdict(watch: PipelineWatch, result: ResultMessage, *, anomalous: bool) -> Text:
    truth = watch.truth[result.sample % len(watch.truth)]
    word = Text("anomaly" if anomalous else "normal", "bold red" if anomalous else "green")
    return word.append(" ✓" if anomalous == truth else " ✗", "dim" if anomalous == truth else "bold yellow")


def _health(watch: PipelineWatch) -> Panel:
    table = Table(box=None, expand=True, padding=(0, 0, 0, 1))
    table.add_column("stage", no_wrap=True)
    for name in ("p50", "p95", "p99"):
        table.add_column(name, justify="right", no_wrap=True)
    latencies = watch.arrivals.latencies()
    for stage in (*TIMED_STEPS, "delivered"):
        table.add_row(stage, *map(words.span, latencies.get(stage, {}).values()))
    return Panel(Group(table, Text(), *_lines(watch)), title="health", height=2 * (ROWS + 3))


def _lines(watch: PipelineWatch) -> list[Text]:
    pipeline, device = watch.arrivals.pipeline, watch.arrivals.device
    if pipeline is None or device is None:
        return [Text(" starting", "dim")]
    temperature = "" if device.temperature_c is None else f"  temperature {device.temperature_c:.0f} °C"
    mqtt = device.reporters.get("mqtt", {})
    dropped = ", ".join(f"{cause} {n}" for cause, n in pipeline.dropped.items() if n) or "none"
    state = Text.assemble((f" {pipeline.state}", "bold green" if pipeline.state == "running" else "bold yellow"))
    state.append(f"  {pipeline.model} v{pipeline.version} on {pipeline.delegate} ({pipeline.delegate_share:.0%})")
    return [
        state,
        Text(f" dropped {dropped}  errors {pipeline.errors}  restarts {pipeline.restarts}"),
        Text(f" cpu {words.share(device.cpu_share)}  load {words.number(device.load_1m)}"),
        Text(f" memory {words.number(device.pss_mb)} MB{temperature}"),
        Text(
            f" MQTT {mqtt.get('protocol')}  outbox {mqtt.get('outbox_depth')}  reconnects {mqtt.get('reconnects')}"
        ),
    ]


def _spark(latest: Sequence[tuple[ResultMessage, Verdict]]) -> Panel:
    """Draw the scores on a logarithmic scale, those called anomalous in red."""
    line = Text()
    for _, verdict in latest[-(WIDTH - 4) :]:
        height = (math.log10(max(verdict.score or 0.0, 1e-4)) + 3) / 4
        bar = words.curve([height], 0.0, 1.0)
        line.append(bar, "bold red" if verdict.anomalous else "green")
    return Panel(line, title="score", width=WIDTH)


def scoreboard(board: Scoreboard) -> Table:
    """Draw the figures of the run."""
    table = Table(title="scoreboard", width=WIDTH, title_style="bold", show_header=False)
    table.add_column(style="cyan")
    table.add_column()
    table.add_row("rows sent", f"{board.rows:,}")
    table.add_row("results published, received", f"{board.published:,}, {board.received:,}")
    lost = Text(f"{board.lost}, {board.duplicates}", "bold green" if not board.lost else "bold red")
    table.add_row("lost, duplicates", lost)
    table.add_row("anomalies recorded, detections", f"{board.anomalies}, {board.detections}")
    table.add_row("precision, recall", f"{board.precision:.1%}, {board.recall:.1%}")
    for stage in (*TIMED_STEPS, "delivered"):
        figures = board.latency_us.get(stage, {})
        name = "from sample to client" if stage == "delivered" else f"{stage} latency"
        table.add_row(name, "  ".join(f"{key} {words.span(value)}" for key, value in figures.items()))
    verdict = ("passed", "bold green") if board.passed else ("FAILED: something was lost or not found", "bold red")
    table.add_row("verdict", Text(*verdict))
    return table


def save_still(path: Path, still: Group, board: Scoreboard) -> None:
    """Write one frame of the live view and the scoreboard as SVG."""
    picture.save_svg(path, WIDTH, "limpet demo", still, scoreboard(board))
