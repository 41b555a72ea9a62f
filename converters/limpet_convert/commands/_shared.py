"""What several commands share: the project argument, the conversion, the table of results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limpet.errors import ConfigError
from limpet_convert import devices, regression, report
from limpet_convert.conversion import Conversion
from limpet_convert.devices import Login
from limpet_convert.progress import Progress

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from limpet_convert.compare import Comparison
    from limpet_convert.devices import Device
    from limpet_convert.layers import Diagnosis
    from limpet_convert.on_device import OnDevice
    from limpet_convert.project import Project


def add_project(parser: argparse.ArgumentParser, meaning: str = "Project file. Default: convert.toml.") -> None:
    """Declare the project file and where results go."""
    parser.add_argument(
        "project", type=Path, metavar="PROJECT", nargs="?", default=Path("convert.toml"), help=meaning
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="Folder for results. Default: build, beside the project file.",
    )


def add_key(parser: argparse.ArgumentParser, whose: str = "Private key", *, required: bool = False) -> None:
    """Declare ``--key``, which can be repeated."""
    parser.add_argument(
        "--key",
        metavar="KEY",
        action="append",
        default=[],
        required=required,
        help=f"{whose} of `limpet-convert keygen`, or agent:COMMENT for your ssh-agent's. Can be repeated.",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare ``--options``, which ``options`` reads."""
    parser.add_argument(
        "--options",
        default="{}",
        metavar="TOML",
        help="Options of the model's converter, such as '{ shape = [100, 6] }'.",
    )


def options(text: str) -> dict[str, Any]:
    """Return the table that ``--options`` has. ``ConfigError`` if it has none."""
    try:
        found = tomllib.loads(f"options = {text}")["options"]
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"--options: not a table of TOML, as '{{ shape = [100, 6] }}': {error}"]) from error
    if not isinstance(found, dict):
        raise ConfigError(["--options: must be a table, as '{ shape = [100, 6] }'"])
    return found


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json``."""
    parser.add_argument("--json", action="store_true", help="Print one JSON document.")


def emit(arguments: argparse.Namespace, document: object, lines: Iterable[str]) -> None:
    """Print what a command found: as one JSON document, or as lines."""
    print(msgspec.json.encode(document, enc_hook=_plain).decode() if arguments.json else "\n".join(lines))


def _plain(value: object) -> object:
    """Return what JSON can have in place of a number of numpy, a path and the like. NaN becomes null."""
    return value.item() if isinstance(value, np.generic) else str(value)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare a device, and the options to log in."""
    group = parser.add_argument_group("on a device")
    group.add_argument(
        "--device",
        metavar="URL",
        help="Device: ssh://[USER@]HOST[:PORT][?limpet=PATH], or mqtt[s]://[USER@]BROKER/[PREFIX/]DEVICE/PIPELINE.",
    )
    group.add_argument(
        "--delegate", metavar="NAME", default="", help="Delegate on the device, with ssh://. Default: cpu."
    )
    for flag, what in (
        ("--password-file", "File with the password for an mqtt:// device."),
        ("--ca-file", "Certificate authority of the broker."),
        ("--cert-file", "Certificate of this client."),
        ("--key-file", "Private key of this client."),
    ):
        group.add_argument(flag, type=Path, metavar="FILE", help=what)


def device(arguments: argparse.Namespace) -> Device | None:
    """Return the device of the command line, ``None`` if there is none."""
    files = (arguments.password_file, arguments.ca_file, arguments.cert_file, arguments.key_file)
    if not arguments.device:
        if arguments.delegate or any(files):
            raise ConfigError(["--device: missing; --delegate and the files need a device"])
        return None
    return devices.open_device(arguments.device, Login(arguments.delegate, *files))


def conversion(wanted: Project, out: Path | None) -> Conversion:
    """Return the conversion of a project. Results go to ``out``, or to its build folder."""
    return Conversion(wanted, out or wanted.build, Progress())


def device_lines(found: OnDevice) -> list[str]:
    """Say how a model ran on a device."""
    answer = found.answer
    where = f"{found.name}: {answer.runtime} (Limpet {answer.limpet}), {answer.delegate}"
    return [
        f"{where}, {found.run_us:,.1f} µs a run",
        f"  agreement with the same model here {found.here.agreement:.2%}",
    ]


def faulty_layer_lines(found: Diagnosis | None) -> list[str]:
    """Say which layer causes the error, and why, and how many layers were not looked at."""
    named = found.faulty_layer if found else None
    lines = [f"faulty layer: {named.name} ({named.kind}): {named.why}"] if named else []
    if found and found.unmeasured:
        lines.append(f"layers: {report.unmeasured(found)}")
    return lines


def comparison_lines(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Say how good each variant is, and which thresholds it misses."""
    for one in comparisons:
        least = f" ({regression.worst(one.quantities)})" if len(one.quantities) > 1 and one.agreement < 1 else ""
        yield (
            f"{one.variant}: {one.size:,} B ({one.size_ratio:.3f} of float), {one.metric} "
            f"{one.exact[one.metric]:.4f} -> {one.converted[one.metric]:.4f}, agreement {one.agreement:.2%}{least}"
        )
        yield from (f"  misses: {failure}" for failure in one.failures)
        yield from (f"  note: {note}" for note in one.notes)
