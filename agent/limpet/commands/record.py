"""``limpet record``: write what a source sends to a folder of recordings, with labels."""

from __future__ import annotations

import argparse
import contextlib
import io
import select
import signal
import sys
from collections import deque
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING

import msgspec

from limpet import config, terminal
from limpet.commands import _sensors
from limpet.contracts.assignment import Assignment, Folders, SourceTable
from limpet.delivery.mqtt import settings as mqtt_settings
from limpet.device import directories
from limpet.errors import ConfigError, SourceError
from limpet.recorder import screen
from limpet.recorder.keys import Keyboard
from limpet.recorder.mqtt_labels import MqttLabels
from limpet.recorder.session import Session, Wanted
from limpet.recorder.source_process import SourceProcess
from limpet.recordings.folder import read
from limpet.recordings.writing import recover
from limpet.untrusted import printable
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator

HELP = "Record a source to a folder, with labels"
GROUP = "start"
EXAMPLES = (
    ("limpet record --label walk --seconds 60", "Record a minute of the only source of the configuration."),
    ("limpet record --labels sit,walk,run", "Choose the label with the keys 1, 2 and 3; 0 is none."),
    ("limpet record --port /dev/ttyACM0 --channels ax,ay,az", "Record a board without a configuration."),
)

_SIZE = 1_000_000_000
_FRAMES = 0.2
"""Seconds from one frame of the live view to the next."""
_LINES = 5.0
"""Seconds from one line to the next where there is no terminal."""
_SILENCE = 60.0
"""Seconds without any sample after which there will be none."""
_BUSY = "in use by another program"
_STOP = "sudo systemctl stop limpet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("config", type=Path, metavar="FILE", nargs="?", help=config.USUAL)
    add("--source", metavar="NAME", help="Source of the configuration. Default: the only one.")
    add(
        "--output",
        type=Path,
        metavar="FOLDER",
        default=Path("recordings"),
        help="Folder of recordings; each run adds a file. Default: recordings.",
    )
    chosen = parser.add_argument_group("labels")
    chosen.add_argument("--label", metavar="NAME", help="Label of the whole recording.")
    chosen.add_argument(
        "--labels",
        metavar="A,B",
        type=_names,
        default=(),
        help="Labels for the keys 1 to 9. 0 or space: no label.",
    )
    chosen.add_argument(
        "--label-channel",
        metavar="CHANNEL",
        default="",
        help="Channel with the number of a label in --labels, from 1. 0: no label. It is not recorded.",
    )
    chosen.add_argument(
        "--mqtt",
        action="store_true",
        help="Accept the command `label` over MQTT, with the settings of [mqtt].",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument("--seconds", type=_positive, default=0.0, metavar="N", help="End after N seconds.")
    limits.add_argument("--samples", type=_count, default=0, metavar="N", help="End after N samples.")
    limits.add_argument(
        "--max-bytes", type=_count, default=_SIZE, metavar="N", help=f"End after N bytes. Default: {_SIZE}."
    )
    board = parser.add_argument_group("without a configuration")
    board.add_argument("--port", help="Serial port of the sensor.")
    board.add_argument("--channels", metavar="A,B", type=_names, help="Names of the sensor's values.")
    board.add_argument("--baud", type=_count, help="Bit rate. Default: the usual ones are tried.")
    board.add_argument("--framing", help="cobs, csv or json. Default: recognised from what the sensor sends.")
    board.add_argument("--rate", type=_positive, metavar="HZ", help="Samples a second. Default: measured.")
    add("--units", metavar="A,B", type=_words, default=(), help="Unit of each channel, such as g,g,g.")


def main(arguments: argparse.Namespace) -> int:
    """Record until a limit, the source or a person ends it; exit status 1 if an error did."""
    wanted, assignment, mqtt = _wanted(arguments)
    wanted.folder.mkdir(parents=True, exist_ok=True)
    read(wanted.folder)  # `UnreadableError` before anything is recorded
    for note in recover(wanted.folder):
        print(printable(note))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may know no bars
    session = Session(wanted)
    process = SourceProcess(assignment, wanted.source)
    stack = contextlib.ExitStack()
    with stack:
        stack.callback(process.close)
        labels = stack.enter_context(mqtt) if mqtt else None
        stack.callback(session.close)
        with Keyboard() as keyboard, _signals(session):
            _Run(session, process, wanted, keyboard, labels).run()
    return _report(session, wanted)


def _report(session: Session, wanted: Wanted) -> int:
    print(printable(session.ended), file=sys.stderr if session.trouble else sys.stdout)
    for note in session.notes:
        print(printable(note), file=sys.stderr)
    if not session.done:
        print("Nothing was recorded.")
        return 1
    print("\n".join(screen.summary(session)))
    folder = wanted.folder
    print(f"\nNext: limpet label {folder}\n      limpet-convert train {folder}")
    return 1 if session.trouble else 0


class _Run:
    """The loop of one run: what comes from the source, keys and MQTT goes to the session, and shows."""

    def __init__(
        self,
        session: Session,
        process: SourceProcess,
        wanted: Wanted,
        keyboard: Keyboard,
        labels: MqttLabels | None,
    ) -> None:
        self._session = session
        self._process = process
        self._wanted = wanted
        self._keyboard = keyboard
        self._labels = labels
        self._view = _View(session, wanted)

    def run(self) -> None:
        """Run until the session has ended. ``LimpetError`` if nothing could be recorded."""
        session, begin = self._session, monotonic()
        try:
            while not session.ended:
                self._step()
                self._refuse_silence(monotonic() - begin)
            for record in self._process.stop():
                session.receive(record)
        except SourceError as error:
            if not session.started:
                raise
            session.end(f"{error}.", trouble=True)
        finally:
            self._view.clear()

    def _refuse_silence(self, waited: float) -> None:
        """Raise ``SourceError`` if no sample will ever come."""
        away = self._session.away or ""
        if self._session.started:
            return
        if _BUSY in away:
            raise SourceError(f"{away}. If the Limpet daemon reads it, stop the daemon. Run: {_STOP}")
        if waited > _SILENCE:
            raise SourceError(f"no sample in {_SILENCE:.0f} s: {away or 'the source sends nothing'}")

    def _step(self) -> None:
        session, process = self._session, self._process.fileno()
        ready = select.select([process, *self._keyboard.descriptors()], [], [], 0.05)[0]
        for label, at in self._labels.take() if self._labels else ():
            session.set_label(label, at)
        for key in self._keyboard.read():
            self._press(key)
        if process in ready:
            for record in self._process.receive():
                session.receive(record)
        session.tick()
        self._view.show()

    def _press(self, key: str) -> None:
        labels = self._wanted.labels
        if key == "q":
            self._session.end("Ended with q.")
        elif key in {"0", " "}:
            self._session.set_label("", monotonic_ns())
        elif key.isascii() and key.isdecimal() and int(key) <= len(labels):
            self._session.set_label(labels[int(key) - 1], monotonic_ns())


class _View:
    """Shows the session: a live view on a terminal, else a line now and then."""

    def __init__(self, session: Session, wanted: Wanted) -> None:
        self._session = session
        self._wanted = wanted
        self._live = terminal.is_terminal(sys.stdout)
        self._next = monotonic() + (0.0 if self._live else _LINES)
        self._lines = 0
        self._away: str | None = None
        if not self._live:
            print(f"Recording {wanted.source} to {wanted.folder}. Ctrl-C ends it.", flush=True)
        self._counts = deque([(monotonic(), 0)], maxlen=26)

    def show(self) -> None:
        """Draw, if it is time to."""
        if not self._live and self._session.away != self._away:
            self._away = self._session.away
            self._next = monotonic()  # a change is news
        if monotonic() < self._next:
            return
        self._next = monotonic() + (_FRAMES if self._live else _LINES)
        self._counts.append((monotonic(), self._session.samples))
        if not self._live:
            print(screen.line(self._session, self._rate()), flush=True)
            return
        import shutil

        size = shutil.get_terminal_size()
        where = self._session.file.path if self._session.file else self._wanted.folder
        lines = screen.frame(
            self._session,
            f"Recording {self._wanted.source} to {where}",
            self._rate(),
            self._wanted.labels,
            (size.columns, size.lines),
        )
        self.clear()
        for note in self._session.notes:
            print(printable(note))
        self._session.notes.clear()
        colour = terminal.takes_colour(sys.stdout)
        styles: dict[int, terminal.Style] = {0: "bold", 3: "green", len(lines) - 1: "dim"}
        for number, line in enumerate(lines):
            style = styles.get(number)
            print(terminal.styled(line, style, colour=colour) if style else line)
        sys.stdout.flush()
        self._lines = len(lines)

    def clear(self) -> None:
        """Take the live view away."""
        if self._lines:
            sys.stdout.write(f"\x1b[{self._lines}F\x1b[J")
            self._lines = 0

    def _rate(self) -> float:
        (begin, before), (end, now) = self._counts[0], self._counts[-1]
        return (now - before) / (end - begin) if end > begin else 0.0


@contextlib.contextmanager
def _signals(session: Session) -> Iterator[None]:
    """Have Ctrl-C, SIGTERM and SIGHUP end the session in order. A second Ctrl-C ends it at once."""

    def end(number: int, _frame: object) -> None:
        if session.ended and number == signal.SIGINT:
            raise KeyboardInterrupt
        session.end({signal.SIGINT: "Ended with Ctrl-C."}.get(number, "Ended by a signal."))  # type: ignore[call-overload]

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _wanted(arguments: argparse.Namespace) -> tuple[Wanted, Assignment, MqttLabels | None]:
    """Return what to record, from where, and who else may set labels. ``ConfigError``."""
    labels = tuple(arguments.labels)
    if arguments.label:
        _check_label(arguments.label, "--label")
    for label in labels:
        _check_label(label, "--labels")
    if arguments.label_channel and not labels:
        raise ConfigError(["--label-channel: name the labels for its values, as --labels sit,walk"])
    mqtt = None
    if arguments.port:
        name, source = "port", _board(arguments)
        state = directories.state()
        folders = Folders(Path.cwd(), state, state / "models")
        if arguments.config or arguments.source or arguments.mqtt:
            raise ConfigError(["--port: records without a configuration; leave out FILE, --source and --mqtt"])
    else:
        found = config.read(arguments.config or config.usual())
        name = _source(found, arguments.source)
        source, folders = found.sources[name], found.folders
        mqtt = _mqtt(found, labels) if arguments.mqtt else None
    assignment = Assignment(name, folders, {name: source}, {}, {})
    wanted = Wanted(
        folder=arguments.output,
        source=name,
        kind=source.kind,
        labels=labels,
        label=arguments.label or "",
        label_channel=arguments.label_channel,
        units=tuple(arguments.units),
        seconds=arguments.seconds,
        samples=arguments.samples,
        size=arguments.max_bytes,
    )
    return wanted, assignment, mqtt


def _source(found: config.Config, name: str | None) -> str:
    if name is None and len(found.sources) == 1:
        return next(iter(found.sources))
    if name is None:
        raise ConfigError([f"--source: choose one of {', '.join(found.sources)}"])
    if name not in found.sources:
        raise ConfigError([f"--source: no source {name!r}{suggest(name, found.sources)}"])
    return name


def _board(arguments: argparse.Namespace) -> SourceTable:
    """Return the source that a port is. ``ConfigError``, ``SourceError`` if no samples come."""
    if not arguments.channels:
        raise ConfigError(["--channels: missing; name the values that the board sends, such as ax,ay,az"])
    baud, framing = arguments.baud, arguments.framing
    if not (baud and framing):
        found = _sensors.listen(
            arguments.port, [baud] if baud else _sensors.BAUDS, arguments.channels, seconds=2.0
        )
        if not (framing or found.framing):
            raise SourceError(f"{arguments.port} {found.seen}")
        baud, framing = baud or found.baud, framing or found.framing
    options = {"port": arguments.port, "channels": list(arguments.channels), "baud": baud, "framing": framing}
    if arguments.rate:
        options["rate"] = arguments.rate
    return SourceTable("serial", options)


def _mqtt(found: config.Config, labels: tuple[str, ...]) -> MqttLabels:
    """Return the client for labels over MQTT. ``ConfigError`` if the configuration has no usable [mqtt]."""
    table = found.reporters.get("mqtt")
    if table is None or table.kind != "mqtt":
        raise ConfigError(["--mqtt: the configuration has no table [mqtt]"])
    problems: list[str] = []
    settings = config.fill(mqtt_settings.Config, table.options, table.where, found.base, problems)
    if settings is None:
        raise ConfigError(problems)
    if not settings.commands:
        raise ConfigError(["--mqtt: `commands` of [mqtt] is false, so this broker may send none"])
    return MqttLabels(settings, found.device.id, labels)


def _check_label(label: str, option: str) -> None:
    try:
        msgspec.convert(label, config.Identifier)
    except msgspec.ValidationError:
        rule = "use letters, digits, '.', '_' and '-', at most 64; begin with a letter or a digit"
        raise ConfigError([f"{option}: {label!r} is no label; {rule}"]) from None


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"expected different names with commas between them, got {text!r}")
    return names


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) <= 1e9:
            return number
    raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")


def _count(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (number := int(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
