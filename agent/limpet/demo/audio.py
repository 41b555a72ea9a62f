"""``limpet demo audio``: a clip as if a microphone heard it now, and the wake words that are heard in it."""

from __future__ import annotations

import wave
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from limpet.demo.daemon import Chain, data
from limpet.demo.session import session
from limpet.demo.truth import truth
from limpet.demo.words import WordWatch
from limpet.terminal import can_draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.demo.words import Heard, Scoreboard

_BAR = 40
"""Characters of a score of 1."""


def play(seconds: float | None, broker: str | None, out: TextIO) -> Scoreboard:
    """Run the demo, and show it on ``out``. Default: once through the clip."""
    clip = data("okay-nabu.wav")
    rate, length = measured(clip)
    watch = WordWatch(truth().words, "wakeword", length, seconds or length, rate)
    chain = Chain(
        "microphone",
        {"kind": "replay", "path": str(clip), "loop": True},
        "wakeword",
        "okay-nabu-1.limpet",
    )
    with (
        session(broker, chain, watch.arrivals, watch.take) as run,
        (_live if can_draw(out) else _plain)(out, watch) as show,
    ):
        out.write(f"{clip.name}, {length:.1f} s of sound -> limpet run {run.configuration} -> {run.url}\n")
        run.show = show
        run.wait_for_pipeline()
        run.play(lambda: watch.arrivals.received, lambda: watch.at_s >= watch.seconds)
        run.stop()
    return watch.scoreboard()


def conclude(board: Scoreboard, out: TextIO) -> None:
    """Show the score in sentences."""
    invoke = board.latency_us.get("invoke", {}).get("p50", 0.0)
    out.write(
        f"{board.received} results in {board.seconds:.1f} s of sound. Wake words: {board.said} said, "
        f"{board.said - board.missed} heard, {board.missed} missed. False alarms: {board.false_alarms}.\n"
        f"Lost results: {board.lost}. The model takes {invoke:.0f} µs a run (median).\n"
    )
    out.write("Passed.\n" if board.passed else "FAILED: something was lost, missed or heard wrongly.\n")


def measured(path: Path) -> tuple[int, float]:
    """Return samples a second and seconds of a WAV file."""
    with wave.open(str(path), "rb") as clip:
        return clip.getframerate(), clip.getnframes() / clip.getframerate()


def described(one: Heard) -> str:
    """Return what was heard, in words."""
    return f'{one.at_s:5.2f} s  heard "{one.word}", score {one.score:.0%}'


@contextmanager
def _live(out: TextIO, watch: WordWatch) -> Iterator[Callable[[], None]]:
    """Show the score as a bar, and above it what was heard."""
    shown = 0
    with Live(console=Console(file=out), auto_refresh=False, transient=True) as live:

        def show() -> None:
            nonlocal shown
            for one in watch.heard[shown:]:
                live.console.print(Text(described(one), "bold green"))
            shown = len(watch.heard)
            bar = "█" * round(watch.score * _BAR)
            live.update(Text(f"{watch.at_s:5.2f} s  {watch.score:4.0%} {bar}", no_wrap=True), refresh=True)

        yield show


@contextmanager
def _plain(out: TextIO, watch: WordWatch) -> Iterator[Callable[[], None]]:
    """Write a line for each word that is heard, and every two seconds of sound."""
    shown, due = 0, 0.0

    def show() -> None:
        nonlocal shown, due
        out.writelines(f"{described(one)}\n" for one in watch.heard[shown:])
        shown = len(watch.heard)
        if watch.at_s >= due:
            out.write(f"{watch.at_s:5.2f} s  listening\n")
            due = watch.at_s + 2
        out.flush()

    yield show
