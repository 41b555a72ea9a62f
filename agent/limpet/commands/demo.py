"""``limpet demo``: real telemetry through the real daemon, watched by an ordinary MQTT client."""

from __future__ import annotations

import secrets
import signal
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TextIO

import msgspec

from limpet.errors import LimpetError
from limpet.option_values import positive
from limpet.terminal import can_draw

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from rich.console import Group

    from limpet.demo.board import Board
    from limpet.demo.client import Subscriber
    from limpet.demo.daemon import Daemon
    from limpet.demo.score import PipelineWatch, Scoreboard

    Show = Callable[[PipelineWatch, int], None]

HELP = "Play recorded telemetry through the daemon and score the results"
GROUP = "start"
EXAMPLES = (
    ("limpet demo", "Watch the demo for 20 seconds."),
    ("limpet demo --rate 2000 --seconds 5", "Send more rows a second."),
    ("limpet demo --broker mqtt://localhost:1883", "Use your own broker."),
)

_EXTRA = "the extra 'demo': pip install 'limpet[demo]'"
STARTING = 30.0
"""Seconds until the pipeline must run."""
QUIET = 5.0
"""Seconds without a row sent or a result received until the missing ones count as lost."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--seconds", type=positive, default=20.0, help="Time to send for. Default: 20.")
    parser.add_argument("--rate", type=positive, default=500.0, help="Rows a second. Default: 500.")
    parser.add_argument(
        "--broker",
        metavar="URL",
        help="Your own MQTT 5 broker, as mqtt://HOST:PORT. Default: one that the demo starts.",
    )
    parser.add_argument("--json", action="store_true", help="Print only the scoreboard, as one JSON object.")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="Save a picture of the screen.")


def main(args: argparse.Namespace) -> int:
    """Run the demo. Return 0 if nothing was lost and the model did its job, 1 if not."""
    try:
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        raise LimpetError(f"limpet demo needs {_EXTRA}") from error
    if not args.broker:
        try:
            import iotcore  # noqa: F401
        except ModuleNotFoundError as error:
            raise LimpetError(
                f"the demo's own broker needs {_EXTRA}. Or use yours: limpet demo --broker mqtt://localhost:1883"
            ) from error
    # Ended either way, the demo takes its daemon and its broker with it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    return _play(args)


def _play(args: argparse.Namespace) -> int:
    """Prepare everything, run the demo and print the score."""
    from limpet.demo import daemon as real
    from limpet.demo import screen
    from limpet.demo.board import Board, telemetry
    from limpet.demo.client import Subscriber
    from limpet.demo.score import PipelineWatch

    out = sys.stderr if args.json else sys.stdout
    folder = Path(tempfile.mkdtemp(prefix="limpet-demo-"))
    data = telemetry()
    count = round(args.seconds * args.rate)
    watch = PipelineWatch(data.anomalous, real.PIPELINE)
    device = f"demo-{secrets.token_hex(3)}"
    with ExitStack() as stack:
        url = args.broker or stack.enter_context(real.embedded_broker(folder))
        board = stack.enter_context(Board(data.rows, count, args.rate))
        path = real.write_configuration(folder, device, url, board.port, data.channels)
        client = stack.enter_context(Subscriber(url, device))
        out.write(
            f"{len(data.rows):,} rows that the model never saw -> {board.port} -> limpet run {path} -> {url}\n"
        )
        daemon = stack.enter_context(real.Daemon(path, folder / "daemon.log"))
        show = stack.enter_context(_live(out, count) if can_draw(out) else _plain(out, count))
        run = _Run(watch, board, client, daemon, show)
        run.play()
        still = screen.frame(watch, board.sent, count)
        run.stop()
    return _conclude(args, still, watch.scoreboard(count), out)


@dataclass
class _Run:
    """The board, the daemon and the client, from the daemon's start to its end."""

    watch: PipelineWatch
    board: Board
    client: Subscriber
    daemon: Daemon
    show: Show

    def play(self) -> None:
        """Wait for the pipeline, play the telemetry, and wait for the last result."""
        self._start()
        self.board.start()
        moved, before = monotonic(), (0, 0)
        while self.watch.received < self.board.count and monotonic() < moved + QUIET:
            self._pump()
            self.daemon.require()
            if (now := (self.board.sent, self.watch.received)) != before:
                moved, before = monotonic(), now

    def stop(self) -> None:
        """Stop the daemon, and read the messages that it sends at its end."""
        self.daemon.stop()
        until = monotonic() + QUIET
        while not self.watch.offline and monotonic() < until:
            self._pump()

    def _start(self) -> None:
        until = monotonic() + STARTING
        while not (self.watch.model and self.watch.model.state == "running"):
            self._pump()
            self.daemon.require()
            if self.watch.model and self.watch.model.state == "failed":
                raise LimpetError(f"the pipeline failed: {self.watch.model.reason}")
            if monotonic() > until:
                raise LimpetError(
                    f"no message from the pipeline within {STARTING:.0f} s; the daemon's log is {self.daemon.log}"
                )

    def _pump(self) -> None:
        for message in self.client.messages(0.05):
            self.watch.take(message)
        self.show(self.watch, self.board.sent)


@contextmanager
def _live(out: TextIO, count: int) -> Iterator[Show]:
    """Show everything, eight times a second."""
    from rich.console import Console
    from rich.live import Live

    from limpet.demo import screen

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
            out.write(f"{sent:6} of {count} rows sent, {watch.received:6} results received: {found}\n")
            out.flush()

    yield show


def _conclude(args: argparse.Namespace, still: Group, board: Scoreboard, out: TextIO) -> int:
    """Show the scoreboard; return the exit status."""
    from rich.console import Console

    from limpet.demo import screen

    if args.json:
        sys.stdout.write(msgspec.json.encode(board).decode() + "\n")
    else:
        console = Console(file=out)
        if out.isatty():
            console.print(still)
        console.print(screen.scoreboard(board))
    if args.svg:
        screen.save_still(args.svg, still, board)
    return 0 if board.passed else 1
