"""What identifies this machine, its users and its network, and its secrets: a report has none of it."""

from __future__ import annotations

import os
import platform
import pwd
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import limpet
from limpet.doctor import redaction
from limpet.errors import LimpetError
from limpet.untrusted import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from limpet.doctor.installation import Installation
    from limpet.doctor.redaction import Redactor

_SECRET_FILE = 65_540
_PUBLIC_FILES = {"ca_file", "cert_file"}
_SECRET_VARIABLE = re.compile(r"PASS|TOKEN|SECRET|KEY|CREDENTIAL", re.IGNORECASE)
_SERIALS = (
    *("etc/machine-id", "proc/device-tree/serial-number", "sys/class/dmi/id/product_serial"),
    *("sys/class/dmi/id/board_serial", "sys/class/dmi/id/product_uuid", "sys/bus/usb/devices/*/serial"),
    *("sys/block/*/device/serial", "sys/block/*/device/cid"),
)


def vocabulary() -> set[str]:
    """Return the words of Limpet's source code and of the system's error messages."""
    found = redaction.words(" ".join(os.strerror(number) for number in range(1, 134)))
    for path in Path(limpet.__file__).parent.rglob("*.py"):
        found |= redaction.words(path.read_text(encoding="utf-8"))
    return found


def learn_names(redactor: Redactor, installation: Installation, environment: Mapping[str, str]) -> None:
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


def learn_secrets(redactor: Redactor, tables: dict[str, Any], path: Path, missing: list[str]) -> None:
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
