"""``limpet demo``: recorded telemetry of a space shuttle, sent by a board that is a program."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from limpet.demo import screen
from limpet.demo.board import Board, telemetry
from limpet.demo.daemon import Chain
from limpet.demo.score import PipelineWatch
from limpet.demo.session import session
from limpet.terminal import can_draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Group

    from limpet.demo.score import Scoreboard

    Show = Callable[[PipelineWatch, int], None]

PIPELINE = "shuttle"


def play(seconds: float, rate: float, broker: str | None, out: TextIO) -> tuple[Group, Scoreboard]:
    """Run the demo, and show it on ``out``. Return the last picture of the screen, and the score."""
    data = telemetry()
    count = round(seconds * rate)
    watch = PipelineWatch(data.anomalous, PIPELINE)
    with ExitStack() as stack:
        board = stack.enter_context(Board(data.rows, count, rate))
        options = {
            "kind": "serial",
            "port": board.port,
            "baud": 921600,
            "framing": "cobs",
            "channels": list(data.channels),
        }
        chain = Chain("board", options, PIPELINE, "shuttle-1.limpet")
        run = stack.enter_context(session(broker, chain, watch.arrivals, watch.take))
        out.write(
            f"{len(data.rows):,} rows that the model never saw -> {board.port} -> limpet run {run.configuration} "
            f"-> {run.url}\n"
        )
        show = stack.enter_context(_live(out, count) if can_draw(out) else _plain(out, count))
        run.show = lambda: show(watch, board.sent)
        run.wait_for_pipeline()
        board.start()
        received = watch.arrivals
        run.play(lambda: board.sent + received.received, lambda: received.received >= board.count)
        still = screen.frame(watch, board.sent, count)
        run.stop()
    return still, watch.scoreboard(count)


@contextmanager
def _live(out: TextIO, count: int) -> Iterator[Show]:
    """Show everything, eight times a second."""
    from rich.console import Console
    from rich.live import Live

    due = 0.0
    with Live(console=Console(file=out), auto_refresh=False, transient=True) as live:

        def show(watch: PipelineWatch, sent: int) -> None:
            nonlocal due
            if monotonic() >= due:
                due = monotonic() + 0.125
                live.update(screen.frame(watch, sent, count), refresh=True)

        yield show


@contextmanager
def _plain(out: TextIO, count: int) -> Iterator[Show]:
    """Write a line every two seconds."""
    due = 0.0

    def show(watch: PipelineWatch, sent: int) -> None:
        nonlocal due
        if monotonic() >= due:
            due = monotonic() + 2
            found = f"{watch.right} anomalies found, {watch.missed} missed, {watch.false_alarms} false alarms"
            out.write(f"{sent:6} of {count} rows sent, {watch.arrivals.received:6} results received: {found}\n")
            out.flush()

    yield show


def conclude(still: Group, board: Scoreboard, out: TextIO, svg: Path | None, *, quiet: bool) -> None:
    """Show the scoreboard, and save a picture of the screen if one is wanted."""
    from rich.console import Console

    if not quiet:
        console = Console(file=out)
        if out.isatty():
            console.print(still)
        console.print(screen.scoreboard(board))
    if svg:
        screen.save_still(svg, still, board)
