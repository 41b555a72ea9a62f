"""``limpet record``: write what a source sends to a folder of recordings, with labels."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from limpet import config
from limpet.commands import _sensors
from limpet.commands._record_loop import Run, ending_in_order
from limpet.contracts.assignment import Assignment, Folders, SourceTable
from limpet.delivery.mqtt import settings as mqtt_settings
from limpet.device import directories
from limpet.errors import ConfigError, SourceError
from limpet.filling import fill
from limpet.keyboard import Keyboard
from limpet.option_values import count, names, positive
from limpet.recorder import screen
from limpet.recorder.mqtt_labels import MqttLabels
from limpet.recorder.session import Session, Wanted
from limpet.recorder.source_process import SourceProcess
from limpet.recordings.folder import in_words, label_problem, read
from limpet.recordings.writing import recover
from limpet.untrusted import printable
from limpet.wording import suggest

if TYPE_CHECKING:
    import argparse

HELP = "Record a source to a folder, with labels"
GROUP = "start"
EXAMPLES = (
    ("limpet record --label walk --seconds 60", "Record a minute of the only source of the configuration."),
    ("limpet record --labels sit,walk,run", "Choose the label with the keys 1, 2 and 3; 0 is none."),
    ("limpet record --port /dev/ttyACM0 --channels ax,ay,az", "Record a board without a configuration."),
)

_SIZE = 1_000_000_000


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
        type=names,
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
    limits.add_argument("--seconds", type=positive, default=0.0, metavar="N", help="End after N seconds.")
    limits.add_argument("--samples", type=count, default=0, metavar="N", help="End after N samples.")
    limits.add_argument(
        "--max-bytes", type=count, default=_SIZE, metavar="N", help=f"End after N bytes. Default: {_SIZE}."
    )
    board = parser.add_argument_group("without a configuration")
    board.add_argument("--port", help="Serial port of the sensor.")
    board.add_argument("--channels", metavar="A,B", type=names, help="Names of the sensor's values.")
    board.add_argument("--baud", type=count, help="Bit rate. Default: the usual ones are tried.")
    board.add_argument("--framing", help="cobs, csv or json. Default: recognised from what the sensor sends.")
    board.add_argument("--rate", type=positive, metavar="HZ", help="Samples a second. Default: measured.")
    add("--units", metavar="A,B", type=_words, default=(), help="Unit of each channel, such as g,g,g.")


def main(arguments: argparse.Namespace) -> int:
    """Record until a limit, the source or a person ends it; exit status 1 if an error did."""
    wanted, assignment, mqtt = _wanted(arguments)
    with in_words():  # before anything is recorded
        wanted.folder.mkdir(parents=True, exist_ok=True)
        read(wanted.folder)
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
        with Keyboard() as keyboard, ending_in_order(session):
            Run(session, process, wanted, keyboard, labels).run()
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


def _wanted(arguments: argparse.Namespace) -> tuple[Wanted, Assignment, MqttLabels | None]:
    """Return what to record, from where, and who else may set labels. ``ConfigError``."""
    labels = tuple(arguments.labels)
    named = [("--labels", label) for label in labels]
    for option, label in [("--label", arguments.label), *named] if arguments.label else named:
        if problem := label_problem(label):
            raise ConfigError([f"{option}: {problem}"])
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
        _refuse_board(arguments)
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


def _refuse_board(arguments: argparse.Namespace) -> None:
    """Refuse options of a board beside a configuration, and a folder without one. ``ConfigError``."""
    of_board = {
        "--channels": arguments.channels,
        "--baud": arguments.baud,
        "--framing": arguments.framing,
        "--rate": arguments.rate,
    }
    if problems := [
        f"{option}: needs --port. With a configuration, its source has this setting"
        for option, value in of_board.items()
        if value
    ]:
        raise ConfigError(problems)
    if arguments.config is None and not config.usual().exists():
        what = f"there is no limpet.toml in this folder, and no {config.usual()}"
        raise ConfigError(
            [f"{what}. Run: limpet init. Or name the board: --port /dev/ttyUSB0 --channels ax,ay,az"]
        )


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
    settings = fill(mqtt_settings.Config, table.options, table.where, found.base, problems)
    if settings is None:
        raise ConfigError(problems)
    if not settings.commands:
        raise ConfigError(["--mqtt: `commands` of [mqtt] is false, so this broker may send none"])
    return MqttLabels(settings, found.device.id, labels)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))
