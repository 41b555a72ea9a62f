"""``limpet init``: write a configuration for what this machine has, one that passes ``limpet check``."""

from __future__ import annotations

import os
import re
import socket
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from limpet import config
from limpet.accelerators import inventory
from limpet.accelerators.delegate_kinds import KINDS
from limpet.commands import _live_sensors, _new_config, _sensors, _starter
from limpet.device import directories, state_files
from limpet.device.cameras import cameras
from limpet.device.machine import Machine
from limpet.doctor.access import nearest
from limpet.doctor.check import inspect
from limpet.errors import ConfigError, SourceError
from limpet.models import bundle, starter
from limpet.untrusted import printable, read_file
from limpet.wording import suggest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from typing import Any

    from limpet.commands._live_sensors import LiveSensor
    from limpet.commands._sensors import PortProbe
    from limpet.config import Config
    from limpet.models.manifest import Manifest
    from limpet.models.starter import Takes

_LARGEST = 256 << 20
"""Bytes of a bundle that init puts into the store, or that is there."""

HELP = "Write a configuration for this machine's sensors and models"
GROUP = "start"
EXAMPLES = (
    ("limpet init", "Write limpet.toml. Limpet asks for what it cannot detect."),
    ("limpet init --port /dev/ttyUSB0 --url mqtt://localhost:1883", "Name the port and the broker."),
    ("limpet init --camera /dev/video0 --model face-detection", "Use a camera and a ready-made model."),
    ("limpet init --anomaly --learn 1h", "Use a model that learns in one hour what is normal."),
    ("limpet init --output site.toml --force", "Overwrite another file."),
)

_ARRAY = re.compile(r"^([^\n=]+ = )\[\n((?: {4}[^\n]+,\n)+)\]$", re.MULTILINE)
_LINE = 110
"""Characters of a line that is not too long."""
NOT_WRITTEN = (
    "no file was written. If the board is not attached yet, add --framing csv: then init does not listen to it"
)
_SERIAL = "sensor"
"""Name of a source that is a serial port."""
_BROKER = "mqtt://localhost:1883"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line. What it leaves out is detected, or asked for on a terminal."""
    add = parser.add_argument
    add(
        "--output",
        type=Path,
        metavar="FILE",
        default=Path("limpet.toml"),
        help="File to write. Default: limpet.toml.",
    )
    add("--force", action="store_true", help="Overwrite an existing file.")
    add("--id", help="Id of this device. Default: the host name.")
    add(
        "--model",
        type=Path,
        metavar="FILE",
        help="A .limpet or .tflite file, or a name from `limpet model list --starter`. Default: the newest bundle "
        "in the store.",
    )
    add("--port", help="Serial port of the sensor. Default: the port, if there is only one sensor.")
    add(
        "--camera",
        metavar="DEVICE",
        help="A camera: its name in `limpet devices`, or a URL such as rtsp://HOST/PATH.",
    )
    add("--camera-user", metavar="USER", help="User name at a network camera. Default: none.")
    add("--camera-password-file", type=Path, metavar="FILE", help="File with the password for --camera-user.")
    add("--microphone", metavar="DEVICE", help="A microphone: its name in `limpet devices`.")
    add("--baud", type=int, help="Bit rate of the port. Default: detected.")
    add(
        "--framing",
        help="cobs, csv or json. With it, Limpet does not listen to the port. Default: detected.",
    )
    add(
        "--channels",
        type=lambda text: text.split(","),
        help="Names of the sensor's values, such as ax,ay,az. Default: the model's channels.",
    )
    add("--url", help=f"URL of the MQTT broker. Default: {_BROKER}.")
    add("--username", help="User name at the broker. Default: none (anonymous login).")
    add("--password-file", type=Path, metavar="FILE", help="File with the password for --username.")
    add(
        "--ca-file",
        type=Path,
        metavar="FILE",
        help="Certificate authority to trust, for mqtts://. Default: the system's authorities.",
    )
    add(
        "--state",
        type=Path,
        metavar="FOLDER",
        help="State directory. Default: /var/lib/limpet if it can be written, else limpet-state.",
    )
    add(
        "--listen",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="How long to listen to a port at each bit rate. 0: do not try the camera or microphone. Default: 2.",
    )
    _starter.add_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    """Write the file and print it. ``ConfigError`` says what is missing; then nothing is written."""
    output: Path = arguments.output
    if output.exists() and not arguments.force:
        raise ConfigError(
            [f"{output} exists already. Use --force to overwrite it, or --output to write another file"]
        )
    machine = Machine()
    new = _collect(arguments, machine)
    text = on_one_line(tomli_w.dumps(new.tables()))
    with _stored(new, output.absolute().parent / _state(arguments.state) / "models", force=arguments.force):
        wanted = _refuse_problems(text, output)
        if new.sensor != _SERIAL and arguments.listen > 0:
            print(printable(_live_sensors.refuse_silent(wanted, new.sensor)))
    output.parent.mkdir(parents=True, exist_ok=True)
    state_files.replace(output, text.encode())
    for camera in cameras(machine) if new.sensor == _SERIAL else ():
        print(printable(f'{camera.name}: kind = "camera", device = "{camera.stable}"'))
    file = "" if output == Path("limpet.toml") else f" {output}"
    steps = "".join(f"\n  limpet {command}{file}" for command in ("check", "doctor", "run"))
    print(f"\n{text}\nWritten to {output.absolute()}. Next:{steps}")
    return 0


def on_one_line(toml: str) -> str:
    """Return TOML with each array on one line, as a person writes it. Those that would be too long stay."""

    def joined(match: re.Match[str]) -> str:
        values = [line.strip().removesuffix(",") for line in match[2].splitlines()]
        whole = f"{match[1]}[{', '.join(values)}]"
        return whole if len(whole) <= _LINE else match[0]

    return _ARRAY.sub(joined, toml)


def _collect(arguments: argparse.Namespace, machine: Machine) -> _new_config.NewConfig:
    """Return what the configuration says: what was passed, found or answered. ``ConfigError``."""
    if named := [option for option in ("port", "camera", "microphone") if vars(arguments)[option]][1:]:
        raise ConfigError([f"--{named[0]}: choose one sensor; another option names one, too"])
    state = _state(arguments.state)
    if arguments.anomaly:
        return _starting(arguments, machine, state)
    base = arguments.output.absolute().parent
    models = base / state / "models"
    sensor = _sensor(arguments, machine, models)
    if not isinstance(sensor, str):
        return _live(arguments, machine, sensor, base, state)
    model = _file(arguments.model) or _live_sensors.newest(models, "samples") or _ask_for_model(models)
    manifest = _manifest(model)
    channels = arguments.channels or _new_config.channels_of(manifest)
    if not channels:
        channels = _ask("names of the sensor's values", "", "--channels").split(",")
    port = sensor or choose_port(_sensors.serial_ports(machine))
    heard = _listen(arguments, port, channels)
    return _new_config.NewConfig(
        device=arguments.id or _ask("name of this device", _new_config.identifier(socket.gethostname())),
        state="" if state == directories.state() else str(state),
        broker=_broker(arguments),
        source=_new_config.serial_source(port, heard.baud, heard.framing or "csv", channels, manifest.rate),
        model=_named(model, base, models, manifest),
        pipeline=_new_config.identifier(manifest.name),
        delegates=_delegates(machine),
    )


def _sensor(arguments: argparse.Namespace, machine: Machine, models: Path) -> LiveSensor | str:
    """Return the camera, the microphone or the serial port to use; "": a port that is not known yet."""
    if arguments.camera:
        return _live_sensors.camera(arguments.camera, arguments.camera_user, arguments.camera_password_file)
    if arguments.microphone:
        return _live_sensors.microphone(arguments.microphone)
    model = _file(arguments.model) or _newest(models)
    takes: Takes | None = starter.takes(_manifest(model)) if model else None
    if arguments.port or takes == "samples":
        return arguments.port or ""
    sensors = [one for one in _live_sensors.found(machine) if takes in {None, one.takes}]
    if not sensors:
        return "" if takes is None else _unknown(takes)
    labels = [*(one.label for one in sensors), *(_sensors.serial_ports(machine) if takes is None else ())]
    place = _choose("sensor", labels, "--camera, --microphone or --port") if len(labels) > 1 else 0
    return sensors[place] if place < len(sensors) else labels[place]


def _unknown(takes: Takes) -> LiveSensor:
    """Ask for a sensor that was not found."""
    if takes == "picture":
        return _live_sensors.camera(_ask("camera for this model; none was found", "", "--camera"))
    return _live_sensors.microphone(_ask("microphone for this model; none was found", "", "--microphone"))


def _live(
    arguments: argparse.Namespace, machine: Machine, sensor: LiveSensor, base: Path, state: Path
) -> _new_config.NewConfig:
    """Return a configuration for a camera or a microphone. ``ConfigError``: it cannot be used now."""
    if sensor.problem and arguments.listen > 0:
        raise ConfigError([sensor.problem, _live_sensors.NOTHING_WRITTEN])
    models = base / state / "models"
    ready = _starter_of(arguments.model)
    model = ready or _file(arguments.model) or _live_sensors.newest(models, sensor.takes)
    if model is None:
        offered = _live_sensors.starters(sensor.takes)
        names = [f"{one.name}: {one.description}" for one in offered]
        model = ready = offered[_choose("model", names, "--model") if len(offered) > 1 else 0].path
    manifest = _manifest(model)
    if (takes := starter.takes(manifest)) != sensor.takes:
        option = _live_sensors.OPTIONS[takes]
        raise ConfigError([f"--model: {manifest.name} takes {takes}. Use {option}, or another model"])
    delegates = _delegates(machine)
    return _new_config.NewConfig(
        device=arguments.id or _ask("name of this device", _new_config.identifier(socket.gethostname())),
        state="" if state == directories.state() else str(state),
        broker=_broker(arguments),
        sensor=sensor.source,
        source=sensor.table,
        model=manifest.name if ready else _named(model, base, models, manifest),
        pipeline=_new_config.identifier(manifest.name),
        delegates=[] if delegates == ["cpu"] else delegates,
        bundle=(ready.name, read_file(ready, _LARGEST)) if ready else None,
    )


def _file(model: Path | None) -> Path | None:
    """Return the file of a model: what was passed, or the ready-made bundle of that name."""
    return _starter_of(model) or model


def _starter_of(model: Path | None) -> Path | None:
    """Return the file of the ready-made bundle of this name, if there is one and no other file has the name."""
    if model is None or model.exists():
        return None
    return next((one.path for one in starter.found() if one.name == str(model)), None)


def _starting(arguments: argparse.Namespace, machine: Machine, state: Path) -> _new_config.NewConfig:
    """Return a configuration whose model learns on the device."""
    port = arguments.port or choose_port(_sensors.serial_ports(machine))
    bauds = [arguments.baud] if arguments.baud else _sensors.BAUDS
    try:
        learner = _starter.prepare(arguments, port, bauds)
    except SourceError as error:
        raise ConfigError([str(error), "nothing was written"]) from error
    return _new_config.NewConfig(
        device=arguments.id or _new_config.identifier(socket.gethostname()),
        state="" if state == directories.state() else str(state),
        broker=_broker(arguments),
        source=_new_config.serial_source(port, learner.baud, learner.framing, learner.channels),
        model=arguments.name,
        pipeline=arguments.name,
        bundle=(learner.file, learner.content),
    )


@contextmanager
def _stored(new: _new_config.NewConfig, models: Path, *, force: bool) -> Iterator[None]:
    """Put the bundle of a new configuration into the store. It does not stay if the configuration is refused."""
    if new.bundle is None:
        yield
        return
    name, content = new.bundle
    path = models / name
    with _store(models):
        before = read_file(path, _LARGEST) if os.path.lexists(path) else None
        if before not in {None, content} and not force:
            raise ConfigError([f"{path} exists already. Use --force to overwrite it"])
        models.mkdir(parents=True, exist_ok=True)
        state_files.replace(path, content)
    try:
        yield
    except ConfigError:
        with _store(models):
            if before is None:
                path.unlink()
            else:
                state_files.replace(path, before)
        raise


@contextmanager
def _store(models: Path) -> Iterator[None]:
    """Work in the store with the rights of its owner. ``ConfigError`` if that user may not, or if it is full."""
    try:
        with state_files.as_owner(models):
            yield
    except OSError as error:
        raise ConfigError([f"{error.filename or models}: {error.strerror}"]) from error


def _state(wanted: Path | None) -> Path:
    """Return the state directory: from the command line, the default if it can be made, or one beside the file."""
    if wanted:
        return wanted.absolute()
    usual = directories.state()
    return usual if os.access(nearest(usual), os.W_OK) else Path("limpet-state")


def _newest(models: Path) -> Path | None:
    """Return the newest bundle of the store that can be used with some sensor."""
    kinds: tuple[Takes, ...] = ("picture", "sound", "samples")
    found = [path for takes in kinds if (path := _live_sensors.newest(models, takes))]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _ask_for_model(models: Path) -> Path:
    return Path(_ask(f"path of a model; there is none in {models}", "", "--model"))


def _manifest(model: Path) -> Manifest:
    if not model.is_file():
        if len(model.parts) > 1 or model.suffix:
            raise ConfigError([f"--model: there is no file {model}"])
        names = [one.name for one in starter.found()]
        there = f"no ready-made model of that name{suggest(str(model), names)}"
        get = "" if names else f". Run: {starter.INSTALL}"
        raise ConfigError([f"--model: there is no file {model}, and {there}{get}"])
    with tempfile.TemporaryDirectory() as folder:
        return bundle.load(model, Path(folder)).manifest


def _named(model: Path, base: Path, models: Path, manifest: Manifest) -> str:
    """Return the configuration's name for a model: its name in the store, or a path."""
    path = model.absolute()
    if path.parent == models.absolute() and path.suffix == ".limpet":
        return manifest.name
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def choose_port(ports: Sequence[str]) -> str:
    """Return the only port, or the one that the user chooses. ``ConfigError`` if this is no terminal."""
    if len(ports) == 1:
        return ports[0]
    if not ports:
        return _ask("serial port of the sensor; none was found", "", "--port")
    return ports[_choose("sensor", ports, "--port")]


def _choose(what: str, labels: Sequence[str], flag: str) -> int:
    """Return the place of what the user chooses. ``ConfigError`` if this is no terminal."""
    for number, label in enumerate(labels, 1):
        print(printable(f"{number}  {label}"))
    answer = _ask(f"which {what}", "1", flag) if sys.stdin.isatty() else ""
    if not answer.isdecimal() or not 1 <= int(answer) <= len(labels):
        raise ConfigError([f"{flag}: choose one of {', '.join(labels)}"])
    return int(answer) - 1


def _listen(arguments: argparse.Namespace, port: str, channels: Sequence[str]) -> PortProbe:
    """Return how to read the port. ``ConfigError`` if it was found that this cannot work."""
    bauds = [arguments.baud] if arguments.baud else _sensors.BAUDS
    if arguments.framing:
        return _sensors.PortProbe(arguments.framing, bauds[0], 0)
    try:
        heard = _sensors.listen(port, bauds, channels, arguments.listen)
    except SourceError as error:
        raise ConfigError([str(error), NOT_WRITTEN]) from error
    if not heard.framing:
        raise ConfigError([f"{port} {heard.seen}", NOT_WRITTEN])
    print(f"{port}: {heard.rows} samples of {len(channels)} channels as {heard.framing} at {heard.baud} baud")
    return heard


def _broker(arguments: argparse.Namespace) -> dict[str, Any]:
    table = {"url": arguments.url or _ask("MQTT broker", _BROKER), "username": arguments.username}
    files = {"password_file": arguments.password_file, "ca_file": arguments.ca_file}
    table |= {key: str(path.absolute()) for key, path in files.items() if path}
    return {key: value for key, value in table.items() if value}


def _delegates(machine: Machine) -> list[str]:
    """Return the accelerators' delegates that are ready for use, and the CPU.

    Not those of LiteRT's CompiledModel: they are worth it for larger models only. `limpet bench` measures that.
    """
    ready = [d.delegate for d in inventory.discover(machine) if d.usable and d.delegate]
    return [*dict.fromkeys(name for name in ready if KINDS[name].how == "library"), "cpu"]


def _ask(question: str, default: str, flag: str = "") -> str:
    """Ask on a terminal. Elsewhere, or after Ctrl-D, return the default. ``ConfigError`` if there is none."""
    answer = default
    if sys.stdin.isatty():
        with suppress(EOFError):
            answer = input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default
    if not answer:
        raise ConfigError([f"{flag}: missing: {question}"])
    return answer


def _refuse_problems(text: str, output: Path) -> Config:
    """Return the configuration. ``ConfigError`` says what of it cannot be."""
    wanted = config.build(tomllib.loads(text), output.absolute().parent)
    if problems := inspect(wanted)[0]:
        raise ConfigError([*problems, "nothing was written; `limpet init --help` lists a flag for each of these"])
    return wanted
