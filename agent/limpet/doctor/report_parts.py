"""The parts of a bug report, each a text without what identifies a person, device or network."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from limpet import __version__
from limpet.accelerators import inventory
from limpet.device.host import Host, disk_free_mb, uptime_s
from limpet.doctor import check, running_daemon
from limpet.errors import ConfigError, LimpetError, UnreadableError
from limpet.models import bundle, store
from limpet.problems.locate import read_and_locate
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.accelerators.inventory import Accelerator
    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation
    from limpet.doctor.redaction import Redactor

_LARGEST = 512 * 1024
"""Bytes of a log that are read."""
_LINES = 2000
"""Lines of the journal."""
_SECONDS = 20
"""Seconds that a program of the system may take."""
_UNIT = ("ActiveState", "SubState", "Result", "NRestarts", "ExecMainStatus", "ExecMainCode", "UnitFileState")
_MANIFEST = (
    "format",
    "window",
    "rate",
    "inputs",
    "outputs",
    "transforms",
    "decoder",
    "postprocess",
    "stateful",
    "runtimes",
    "metrics",
)
"""Keys of a bundle's manifest that are shown; their texts are cleaned like a log."""


class Context(NamedTuple):
    """What the parts are made from."""

    installation: Installation
    findings: Sequence[Finding]
    redactor: Redactor


def _versions(context: Context) -> str:
    needed = metadata.requires("limpet") or [] if _version("limpet") else []
    wanted = [re.split(r"[^\w-]", line)[0] for line in needed]
    found = [f"{name} {version}" for name in sorted({*wanted, "pip"}) if (version := _version(name))]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return context.redactor.facts("\n".join([f"limpet {__version__}", python, *found, ""]))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _system(context: Context) -> str:
    machine, wanted = context.installation.machine, context.installation.config
    release = dict(line.split("=", 1) for line in machine.text("etc/os-release").splitlines() if "=" in line)
    host = Host(machine.root)
    rows = {
        "system": release.get("PRETTY_NAME", "").strip('"'),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "C library": " ".join(platform.libc_ver()),
        "board": machine.model(),
        "processors": os.cpu_count(),
        "up for": f"{uptime_s():.0f} s",
        "load": host.load_1m(),
        "memory": _megabytes(machine.megabytes("proc/meminfo", "MemTotal")),
        "free memory": _megabytes(host.memory_available_mb()),
        "free disk": _megabytes(disk_free_mb(wanted.device.state) if wanted else None),
    }
    return context.redactor.facts("".join(f"{name}: {value}\n" for name, value in rows.items()))


def _megabytes(size: float | None) -> str:
    return "unknown" if size is None else f"{size:.0f} MB"


def _hardware(context: Context) -> str:
    machine = context.installation.machine
    lines = [*map(_accelerator, inventory.discover(machine))]
    for device in machine.paths("sys/bus/usb/devices/*"):
        if vendor := machine.text(device / "idVendor"):
            product, kind = machine.text(device / "idProduct"), machine.text(device / "bDeviceClass")
            lines.append(f"USB device: {vendor}:{product}, class {kind}")
    ports = machine.paths("sys/class/tty/*/device/driver")
    lines += [f"serial port: {port.parent.parent.name}, driver {machine.link(port)}" for port in ports]
    lines += [f"video: {node.name}" for node in machine.paths("sys/class/video4linux/*")]
    return context.redactor.facts("".join(f"{line}\n" for line in lines))


def _accelerator(one: Accelerator) -> str:
    state = "usable" if one.usable else "; ".join(one.why_not)
    return f"accelerator: {one.name}, driver {one.driver or 'none'}, {state}"


def _doctor(context: Context) -> str:
    lines = []
    for one in context.findings:
        lines += [f"{one.result:<5} {one.check}: {one.what}", f"      {one.why}", f"      > {one.fix}"]
    return context.redactor.text("".join(f"{line}\n" for line in lines if line.strip(" >")))


def _check(context: Context) -> str:
    wanted, problems = context.installation.config, [str(one) for one in context.installation.problems]
    lines: list[str] = []
    if wanted:
        try:
            found = check.inspect(wanted)
            lines = found.lines
            problems += map(str, read_and_locate(context.installation.path, found.problems))
        except ConfigError as error:
            problems += map(str, error.problems)
    return context.redactor.text(
        "".join(f"{line}\n" for line in (*lines, *(f"problem: {one}" for one in problems)))
    )


def _models(context: Context) -> str:
    wanted = context.installation.config
    if wanted is None:
        raise ConfigError(["no configuration names a model"])
    lines: list[str] = []
    for model in wanted.models_named:
        for found in store.candidates(model, wanted.folders):
            lines.append(context.redactor.text(f"{found.name} {found.version} {found.problem}"))
            if not found.problem:
                lines.append(_manifest(found.path, context.redactor))
    return "".join(f"{line}\n" for line in lines)


def _manifest(path: Path, redactor: Redactor) -> str:
    try:
        with tempfile.TemporaryDirectory() as folder:
            manifest = msgspec.to_builtins(bundle.load(path, Path(folder)).manifest)
    except LimpetError as error:
        return redactor.text(f"  {error}")
    return json.dumps(redactor.json({key: manifest[key] for key in _MANIFEST if manifest.get(key)}), indent=1)


def _unit(context: Context) -> str:
    done = _run("systemctl", "show", "limpet", f"--property={','.join(_UNIT)}")
    return context.redactor.text(done)


def _log(context: Context) -> str:
    fields = "--output-fields=PRIORITY,MESSAGE"
    said = _run("journalctl", "--unit=limpet", f"--lines={_LINES}", "--output=json", fields)
    if not said.strip():
        raise LimpetError("the journal shows this user no line of limpet.service; run with sudo if it has some")
    return context.redactor.text("".join(f"{_entry(line)}\n" for line in said.splitlines()))


def _entry(line: str) -> str:
    """Return a line of the journal: time (UTC), level, message."""
    try:
        with reading("a line of the journal"):
            entry = json.loads(line)
            seconds = int(entry["__REALTIME_TIMESTAMP"]) // 1_000_000
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
            message = entry["MESSAGE"]
            return f"{moment} {entry['PRIORITY']} {message if isinstance(message, str) else '(no text)'}"
    except UnreadableError as error:
        return f"({error})"


def _run(*command: str) -> str:
    """Return what a program prints, its last bytes if it is too much."""
    done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = done.stderr[-500:].decode(errors="replace").strip()
        raise LimpetError(f"{command[0]} failed with exit status {done.returncode}: {said}")
    tail = done.stdout[-_LARGEST:].decode(errors="replace")
    return tail if len(done.stdout) <= _LARGEST else tail.partition("\n")[2]


def _health(context: Context) -> str:
    """Return the state that the running daemon sends to its watchers: no results, no samples."""
    said = running_daemon.lines(context.installation)
    if said is None:
        raise LimpetError("no daemon with this configuration runs, or this user may not watch it")
    lines = []
    for one in said:
        if one.topic.partition("/")[0] in {"health", "status", "event"}:
            with reading("a message of the daemon"):
                message = msgspec.json.decode(one.message)
            lines.append(json.dumps(context.redactor.json({"topic": one.topic, "message": message})))
    return "".join(f"{line}\n" for line in lines)


COLLECTORS: tuple[tuple[str, str, Callable[[Context], str]], ...] = (
    ("versions.txt", "Limpet, Python and the packages that Limpet needs", _versions),
    ("system.txt", "operating system, board, memory and disk", _system),
    ("hardware.txt", "accelerators, USB devices and serial ports by kind", _hardware),
    ("doctor.txt", "what `limpet doctor` found", _doctor),
    ("check.txt", "what `limpet check` found", _check),
    ("models.txt", "the manifests of the models in use", _models),
    ("unit.txt", "the state of limpet.service", _unit),
    ("health.txt", "the state of the running daemon", _health),
    ("log.txt", f"the last {_LINES:,} lines of the log", _log),
)
