"""``limpet doctor --report``: an archive for a bug report, without what identifies a person, device or network.

Collecting needs no root. What cannot be read is named in the archive.
"""

from __future__ import annotations

import io
import json
import os
import platform
import pwd
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import tomli_w

import limpet
from limpet import __version__, text_file
from limpet.accelerators import inventory
from limpet.device.host import Host, disk_free_mb, uptime_s
from limpet.doctor import check, redaction, running_daemon
from limpet.errors import ConfigError, LimpetError, UnreadableError
from limpet.models import bundle, store
from limpet.problems.locate import read_and_locate
from limpet.untrusted import read_file, reading

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from limpet.accelerators.inventory import Accelerator
    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation
    from limpet.doctor.redaction import Redactor

_LARGEST = 512 * 1024
"""Bytes of a log that are read."""
_LINES = 2000
"""Lines of the journal."""
_SECRET_FILE = 65_540
_PUBLIC_FILES = {"ca_file", "cert_file"}
_SECONDS = 20
_SECRET_VARIABLE = re.compile(r"PASS|TOKEN|SECRET|KEY|CREDENTIAL", re.IGNORECASE)
_UNIT = ("ActiveState", "SubState", "Result", "NRestarts", "ExecMainStatus", "ExecMainCode", "UnitFileState")
_MANIFEST = (
    "format",
    "window",
    "rate",
    "inputs",
    "outputs",
    "transforms",
    "decoder",
    "stateful",
    "runtimes",
    "metrics",
)
"""Keys of a bundle's manifest that are shown; their texts are cleaned like a log."""
_SERIALS = (
    *("etc/machine-id", "proc/device-tree/serial-number", "sys/class/dmi/id/product_serial"),
    *("sys/class/dmi/id/board_serial", "sys/class/dmi/id/product_uuid", "sys/bus/usb/devices/*/serial"),
    *("sys/block/*/device/serial", "sys/block/*/device/cid"),
)


class Part(NamedTuple):
    """A file of the archive: its name, what is in it, and its text."""

    name: str
    what: str
    text: str


class Written(NamedTuple):
    """The archive, its parts, and what could not be read, with the reason."""

    path: Path
    parts: list[Part]
    missing: list[str]


class _Context(NamedTuple):
    installation: Installation
    findings: Sequence[Finding]
    redactor: Redactor


def usual() -> Path:
    """Return the name of an archive that is made now."""
    return Path(time.strftime("limpet-report-%Y-%m-%d-%H%M%S.tar.gz"))


def write(installation: Installation, findings: Sequence[Finding], path: Path) -> Written:
    """Write the archive for its owner alone. ``LimpetError`` if there is such a file, or it cannot be made."""
    parts, missing = collect(installation, findings, os.environ)
    data = _archive(parts)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise LimpetError(f"{path} exists already. Name another file: limpet doctor --report FILE") from None
    except OSError as error:
        raise LimpetError(f"{path}: {error.strerror}. Name another file: limpet doctor --report FILE") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return Written(path.absolute(), parts, missing)


def collect(
    installation: Installation, findings: Sequence[Finding], environment: Mapping[str, str]
) -> tuple[list[Part], list[str]]:
    """Return the parts of the archive, README first, and what could not be read, for the terminal only."""
    redactor = redaction.Redactor(_vocabulary())
    missing: list[str] = []
    tables = _tables(installation.path, missing)
    _learn_names(redactor, installation, environment)
    _learn_secrets(redactor, tables, installation.path, missing)
    cleaned = tomli_w.dumps(redactor.tables(tables))
    parts = [Part("configuration.toml", "the configuration, without comments", cleaned)] if tables else []
    context = _Context(installation, findings, redactor)
    for name, what, collector in _COLLECTORS:
        try:
            text = collector(context)
        except (OSError, LimpetError, ValueError, subprocess.SubprocessError) as error:
            missing.append(f"{name}: {' '.join(str(error).split())}")
        else:
            parts.append(Part(name, what, text))
    # Once more: a name may have been found after an earlier part was written.
    parts = [part._replace(text=redactor.facts(part.text)) for part in parts]
    return [_readme(parts, missing, redactor), *parts], missing


def _archive(parts: Sequence[Part]) -> bytes:
    buffer, now = io.BytesIO(), int(time.time())
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for part in parts:
            data = part.text.encode()
            member = tarfile.TarInfo(f"limpet-report/{part.name}")
            member.size, member.mtime, member.mode = len(data), now, 0o600
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _readme(parts: Sequence[Part], missing: Sequence[str], redactor: Redactor) -> Part:
    lines = [
        f"A bug report of Limpet {__version__}. Read all of it before you send it.",
        "",
        "Names, addresses, serial numbers and secrets are replaced: host-1 is the same host everywhere.",
        "Words that are not in Limpet's own source code are word-1, word-2 and so on.",
        "",
        *(f"{part.name}: {part.what}" for part in parts),
        *(("", "Not included:", *map(redactor.text, missing)) if missing else ()),
        "",
        "Known names and words that are replaced: "
        + ", ".join(f"{count} {kind}" for kind, count in redactor.counts.items()),
        "",
    ]
    return Part("README.txt", "what is in this archive", redactor.facts("\n".join(lines)))


def _vocabulary() -> set[str]:
    """Return the words of Limpet's source code and of the system's error messages."""
    found = redaction.words(" ".join(os.strerror(number) for number in range(1, 134)))
    for path in Path(limpet.__file__).parent.rglob("*.py"):
        found |= redaction.words(path.read_text(encoding="utf-8"))
    return found


def _tables(path: Path, missing: list[str]) -> dict[str, Any]:
    try:
        with reading("it"):
            return tomllib.loads(text_file.read(path))
    except LimpetError as error:
        missing.append(f"configuration.toml: {error}")
        return {}


def _learn_names(redactor: Redactor, installation: Installation, environment: Mapping[str, str]) -> None:
    """Have the names of this machine and its users replaced."""
    machine = installation.machine
    for host in (socket.gethostname(), platform.node(), machine.text("etc/hostname")):
        redactor.name(host, "host")
        redactor.name(host.partition(".")[0], "host")
    people = [entry for entry in pwd.getpwall() if 1000 <= entry.pw_uid < 65_534]
    users = [machine.user.name, *(environment.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER"))]
    for user in (*users, *(entry.pw_name for entry in people)):
        redactor.name(user, "user")
    for entry in people:
        redactor.name(entry.pw_gecos.partition(",")[0], "user")
        redactor.name(Path(entry.pw_dir).name, "user")
    for serial in machine.paths(*_SERIALS):
        redactor.name(machine.text(serial), "serial")
    for address in machine.paths("sys/class/net/*/address"):
        if (found := machine.text(address)) != "00:00:00:00:00:00":
            redactor.name(found, "mac")
    for variable, value in environment.items():
        if _SECRET_VARIABLE.search(variable):
            redactor.secret(value)


def _learn_secrets(redactor: Redactor, tables: dict[str, Any], path: Path, missing: list[str]) -> None:
    """Have the content of the files with secrets replaced, as far as this user may read them."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    credentials = list(Path(folder).iterdir()) if folder and Path(folder).is_dir() else []
    named = [path.absolute().parent / Path(name).expanduser() for name in _secret_files(tables)]
    for file in (*named, *credentials):
        try:
            redactor.secret(read_file(Path(os.path.realpath(file)), _SECRET_FILE).decode(errors="replace"))
        except (OSError, LimpetError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no regular file"
            redactor.name(str(file), "path")
            missing.append(
                redactor.text(f"a file with a secret could not be read, to remove it: {file}: {reason}")
            )


def _secret_files(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _secret_files(item, name)
    elif isinstance(value, str) and key.endswith("_file") and key not in _PUBLIC_FILES:
        yield value


def _versions(context: _Context) -> str:
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


def _system(context: _Context) -> str:
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


def _hardware(context: _Context) -> str:
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


def _doctor(context: _Context) -> str:
    lines = []
    for one in context.findings:
        lines += [f"{one.result:<5} {one.check}: {one.what}", f"      {one.why}", f"      > {one.fix}"]
    return context.redactor.text("".join(f"{line}\n" for line in lines if line.strip(" >")))


def _check(context: _Context) -> str:
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


def _models(context: _Context) -> str:
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


def _unit(context: _Context) -> str:
    done = _run("systemctl", "show", "limpet", f"--property={','.join(_UNIT)}")
    return context.redactor.text(done)


def _log(context: _Context) -> str:
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


def _health(context: _Context) -> str:
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


_COLLECTORS: tuple[tuple[str, str, Callable[[_Context], str]], ...] = (
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
