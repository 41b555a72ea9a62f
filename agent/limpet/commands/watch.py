"""``limpet watch``: what a running daemon does, live."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from limpet import config
from limpet.commands import _broker_options
from limpet.errors import LimpetError, UsageError
from limpet.option_values import positive
from limpet.terminal import can_draw
from limpet.untrusted import printable
from limpet.watch import plain
from limpet.watch.inbox import Inbox
from limpet.watch.state import Watched

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from limpet.watch.state import Device

HELP = "Show what a running daemon does"
GROUP = "look"
EXAMPLES = (
    ("limpet watch", "Show the daemon that runs with the usual configuration file."),
    ("limpet watch site.toml", "Show the daemon that runs with another file."),
    ("limpet watch mqtt://broker.local", "Show all devices at a broker."),
    (
        "limpet watch mqtts://ada@broker.local --password-file pw --device press-07",
        "Show one device, with a login.",
    ),
    ("limpet watch --plain", "Print lines."),
)

END_KEYS = {"q", "\x04"}
"""The second is Ctrl-D."""
FRAMES = 8
"""Frames a second at most."""
LINES_EVERY, LOOK = 1.0, 0.1
"""Seconds between two lines of a pipeline, and between two looks at what has come."""
_PATIENCE = 3.0
"""Seconds after which the first message has come: a broker retains the last state of each device."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add(
        "where",
        metavar="FILE|URL",
        nargs="?",
        help="Configuration file of a daemon on this machine, or mqtt://HOST or mqtts://[USER@]HOST of a broker. "
        "Default: ./limpet.toml, then /etc/limpet/limpet.toml.",
    )
    add("--device", metavar="ID", help="Device to show, at a broker. Default: all devices.")
    add("--topic", default="limpet", help="Parent of the devices' topics, at a broker. Default: limpet.")
    _broker_options.add_options(parser)
    add(
        "--plain",
        action="store_true",
        help="Print lines, not a screen. Default if standard output is not a terminal.",
    )
    add("--seconds", type=positive, metavar="SECONDS", help="How long to watch. Default: until q or Ctrl-C.")
    add("--svg", type=Path, metavar="FILE", help="Save a picture of the last screen.")


def main(arguments: argparse.Namespace) -> int:
    """Show a device until q or Ctrl-C. Return 0."""
    draws = can_draw(sys.stdout) and not arguments.plain
    if arguments.svg and not draws:
        raise UsageError("limpet watch: --svg needs a terminal, and cannot be used with --plain")
    if draws:
        _require_rich()
    inbox, watched = Inbox(), Watched()
    end = monotonic() + arguments.seconds if arguments.seconds else float("inf")
    with ExitStack() as stack:
        stack.enter_context(_feed(arguments, inbox))
        turn = stack.enter_context(_screen(arguments.svg)) if draws else _Lines().turn
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same end as with Ctrl-C
        try:
            while monotonic() < end and turn(inbox, watched):
                pass
        except KeyboardInterrupt:
            pass  # the usual way to end it
    return 0


def _require_rich() -> None:
    try:
        import rich  # noqa: F401 - is it there?
    except ModuleNotFoundError as error:
        raise LimpetError(
            "the screen needs the extra 'watch': pip install 'limpet[watch]'. Or run: limpet watch --plain"
        ) from error


def _feed(arguments: argparse.Namespace, inbox: Inbox) -> AbstractContextManager[object]:
    """Connect to the daemon or to the broker. ``LimpetError`` says why that cannot be done."""
    where: str | None = arguments.where
    if where and "://" in where:
        from limpet.watch.remote import RemoteFeed

        return RemoteFeed(
            _broker_options.settings("limpet watch", arguments, where),
            arguments.topic,
            _device(arguments.device),
            inbox,
        )
    for option in ("device", *_broker_options.NAMES):
        if vars(arguments)[option]:
            name = option.replace("_", "-")
            raise UsageError(f"limpet watch: --{name} goes with a URL, such as mqtt://broker.local")
    from limpet.watch import local

    file = Path(where) if where else config.usual()
    return local.LocalFeed(local.paths(config.read(file).device.state, file), file, inbox)


def _device(wanted: str | None) -> str:
    if wanted is not None and ("/" in wanted or "+" in wanted or "#" in wanted or not wanted):
        raise UsageError(f"limpet watch: --device {wanted}: an id has no '/', '+' or '#'")
    return wanted or "+"


def _take(inbox: Inbox, watched: Watched) -> bool:
    """Move what has come into the state. Return whether there was anything."""
    messages, missed = inbox.take()
    notice, watched.notice = watched.notice, inbox.notice
    watched.missed += missed
    for message in messages:
        watched.take(message.device, message.topic, message.payload, monotonic())
    return bool(messages or missed or notice != watched.notice)


@contextmanager
def _screen(svg: Path | None) -> Iterator[Callable[[Inbox, Watched], bool]]:
    """Draw on the whole terminal. The function that is yielded does so once, and is false after q."""
    from rich.console import Console
    from rich.live import Live

    from limpet.keyboard import Keyboard
    from limpet.watch.picture import save_svg
    from limpet.watch.screen import View, frame

    console, view = Console(), View()
    last: tuple[int, object] | None = None
    with ExitStack() as stack:
        keyboard = stack.enter_context(Keyboard(screen=True))
        live = stack.enter_context(Live(console=console, screen=True, auto_refresh=False))
        with_keys = keyboard.present
        drawn, size = 0.0, (0, 0)

        def turn(inbox: Inbox, watched: Watched) -> bool:
            nonlocal drawn, size, last
            news = _take(inbox, watched)
            now = monotonic()
            if news or size != tuple(console.size) or now - drawn > 1:
                drawn, size = now, tuple(console.size)
                still = frame(watched, view, (console.width, console.height), now)
                last = console.width, still
                live.update(still, refresh=True)
            pressed = keyboard.read(1 / FRAMES)
            for key in pressed:
                view.press(key, watched)
            if pressed or keyboard.resumed():
                drawn = 0.0
            return keyboard.present == with_keys and END_KEYS.isdisjoint(pressed)

        yield turn
    if svg is not None and last is not None:
        save_svg(svg, last[0], "limpet watch", last[1])


class _Lines:
    """Prints a line for each event, and one a second for each pipeline."""

    def __init__(self) -> None:
        self._events: dict[str, int] = {}
        self._notice = self._losses = ""
        self._due = 0.0
        self._nobody = monotonic() + _PATIENCE

    def turn(self, inbox: Inbox, watched: Watched) -> bool:
        """Print what is new."""
        _take(inbox, watched)
        if watched.notice != self._notice:
            self._notice = watched.notice
            print(printable(watched.notice or "connected again"))
        if not watched.devices and not watched.notice and monotonic() >= self._nobody:
            self._nobody = float("inf")
            print("no message yet. Check --device and --topic, and whether the device uses this broker")
        several = len(watched.devices) > 1
        for device in watched.devices.values():
            self._print_events(device, f"{device.name}/" if several else "")
        if monotonic() >= self._due and watched.devices and not watched.notice:
            self._due = monotonic() + LINES_EVERY
            self._print_losses(watched)
            for device in watched.devices.values():
                for pipeline in device.pipelines.values():
                    head = f"{device.name}/" if several else ""
                    print(f"{head}{plain.pipeline_line(device, pipeline, monotonic())}")
        sys.stdout.flush()
        sleep(LOOK)
        return True

    def _print_losses(self, watched: Watched) -> None:
        if (losses := plain.losses(watched)) != self._losses:
            self._losses = losses
            print(losses)

    def _print_events(self, device: Device, head: str) -> None:
        events, lost = device.events_after(self._events.get(device.name, 0))
        self._events[device.name] = device.event_count
        if lost:
            print(f"{head}{lost:,} more events, too many at once to be shown")
        for event in events:
            print(f"{event.time.astimezone():%H:%M:%S} {head}{plain.event_line(event)}")
