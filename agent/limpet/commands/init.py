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
from limpet.commands import _new_config, _sensors, _starter
from limpet.device import directories, state_files
from limpet.device.cameras import cameras
from limpet.device.machine import Machine
from limpet.doctor.access import nearest
from limpet.doctor.check import inspect
from limpet.errors import ConfigError, SourceError
from limpet.models import bundle, store
from limpet.untrusted import printable, read_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from typing import Any

    from limpet.commands._sensors import PortProbe
    from limpet.models.manifest import Manifest

_LARGEST = 1 << 20
"""Bytes of a starter that an earlier run made."""

HELP = "Write a configuration for this machine's sensors and models"
GROUP = "start"
EXAMPLES = (
    ("limpet init", "Write limpet.toml. Limpet asks for what it cannot detect."),
    ("limpet init --port /dev/ttyUSB0 --url mqtt://localhost:1883", "Name the port and the broker."),
    ("limpet init --anomaly --learn 1h", "Use a model that learns in one hour what is normal."),
    ("limpet init --output site.toml --force", "Overwrite another file."),
)

_ARRAY = re.compile(r"^([^\n=]+ = )\[\n((?: {4}[^\n]+,\n)+)\]$", re.MULTILINE)
_LINE = 110
"""Characters of a line that is not too long."""
NOT_WRITTEN = (
    "no file was written. If the board is not attached yet, add --framing csv: then init does not listen to it"
)
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
        help="A .limpet or .tflite file. Default: the newest bundle in the store.",
    )
    add("--port", help="Serial port of the sensor. Default: the port, if there is only one.")
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
        help="How long to listen at each bit rate. Default: 2.",
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
        _refuse_problems(text, output)
    output.parent.mkdir(parents=True, exist_ok=True)
    state_files.replace(output, text.encode())
    for camera in cameras(machine):
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
    base = arguments.output.absolute().parent
    state = _state(arguments.state)
    if arguments.anomaly:
        return _starting(arguments, machine, state)
    model = arguments.model or _newest(base / state / "models")
    manifest = _manifest(model)
    channels = arguments.channels or _new_config.channels_of(manifest)
    if not channels:
        channels = _ask("names of the sensor's values", "", "--channels").split(",")
    port = arguments.port or choose_port(_sensors.serial_ports(machine))
    heard = _listen(arguments, port, channels)
    return _new_config.NewConfig(
        device=arguments.id or _ask("name of this device", _new_config.identifier(socket.gethostname())),
        state="" if state == directories.state() else str(state),
        broker=_broker(arguments),
        port=port,
        baud=heard.baud,
        framing=heard.framing or "csv",
        channels=channels,
        rate=manifest.rate,
        model=_named(model, base, base / state / "models", manifest),
        pipeline=_new_config.identifier(manifest.name),
        delegates=_delegates(machine),
    )


def _starting(arguments: argparse.Namespace, machine: Machine, state: Path) -> _new_config.NewConfig:
    """Return a configuration whose model learns on the device."""
    port = arguments.port or choose_port(_sensors.serial_ports(machine))
    bauds = [arguments.baud] if arguments.baud else _sensors.BAUDS
    try:
        starter = _starter.prepare(arguments, port, bauds)
    except SourceError as error:
        raise ConfigError([str(error), "nothing was written"]) from error
    return _new_config.NewConfig(
        device=arguments.id or _new_config.identifier(socket.gethostname()),
        state="" if state == directories.state() else str(state),
        broker=_broker(arguments),
        port=port,
        baud=starter.baud,
        framing=starter.framing,
        channels=starter.channels,
        model=arguments.name,
        pipeline=arguments.name,
        bundle=(starter.file, starter.content),
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


def _newest(models: Path) -> Path:
    bundles = [path for versions in store.stored(models).values() for path in versions.values()]
    if bundles:
        return max(bundles, key=lambda path: path.stat().st_mtime)
    return Path(_ask(f"path of a model; there is none in {models}", "", "--model"))


def _manifest(model: Path) -> Manifest:
    if not model.is_file():
        raise ConfigError([f"--model: there is no file {model}"])
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
    for number, port in enumerate(ports, 1):
        print(f"{number}  {port}")
    answer = _ask("which of these is the sensor", "1", "--port") if sys.stdin.isatty() else ""
    if not answer.isdecimal() or not 1 <= int(answer) <= len(ports):
        raise ConfigError([f"--port: choose one of {', '.join(ports)}"])
    return ports[int(answer) - 1]


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


def _refuse_problems(text: str, output: Path) -> None:
    wanted = config.build(tomllib.loads(text), output.absolute().parent)
    if problems := inspect(wanted)[0]:
        raise ConfigError([*problems, "nothing was written; `limpet init --help` lists a flag for each of these"])
