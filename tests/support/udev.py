"""Rules of udev(7): read strictly by hand, and by the real udevadm where it can be had."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MATCHES = re.compile(
    "ACTION|DEVPATH|KERNELS?|NAME|SYMLINK|SUBSYSTEMS?|DRIVERS?|ATTRS?|SYSCTL|ENV|CONST|TAGS?|TEST|PROGRAM|RESULT"
)
_ASSIGNMENTS = re.compile(
    "NAME|SYMLINK|OWNER|GROUP|MODE|SECLABEL|ATTR|SYSCTL|ENV|TAG|RUN|LABEL|GOTO|IMPORT|OPTIONS|PROGRAM"
)
_NAMED = {"ATTR", "ATTRS", "SYSCTL", "ENV", "CONST", "SECLABEL"}
_TOKEN = re.compile(r'\s*([A-Z]+)(?:\{([^}]+)\})?(==|!=|\+=|-=|:=|=)"([^"]*)"\s*')


def problems(text: str) -> list[str]:
    """Return what is wrong with a file of rules, by line."""
    found: list[str] = []
    labels = set(re.findall(r'^LABEL="([^"]+)"$', text, re.MULTILINE))
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            found += [f"{number}: {problem}" for problem in _rule(line, labels)]
    return found


def _rule(line: str, labels: set[str]) -> list[str]:
    found = []
    position = 0
    while position < len(line):
        token = _TOKEN.match(line, position)
        if not token:
            return [*found, f"cannot be read from {line[position:]!r} on"]
        found += _token(*token.groups(), labels=labels)
        position = token.end()
        if position < len(line):
            if line[position] != ",":
                return [*found, f"no comma before {line[position:]!r}"]
            position += 1
            if not line[position:].strip():
                found.append("ends with a comma")
    return found


def _token(key: str, name: str | None, operator: str, value: str, *, labels: set[str]) -> list[str]:
    known = _MATCHES if operator in {"==", "!="} else _ASSIGNMENTS
    found = [] if known.fullmatch(key) else [f"{key} cannot stand before {operator}"]
    if key in _NAMED and not name:
        found.append(f"{key} needs a name in braces")
    if key == "MODE" and not re.fullmatch("0[0-7]{3}", value):
        found.append(f"MODE {value!r} is not octal")
    if key == "GOTO" and value not in labels:
        found.append(f"GOTO {value!r} leads nowhere")
    if key in {"RUN", "PROGRAM", "IMPORT"}:
        found.append(f"{key}: a rule of Limpet runs no program")
    return found


def udevadm(path: Path) -> str | None:
    """Return what the real udev says of a file, empty if nothing; ``None`` where it cannot be asked.

    ``udevadm verify`` from version 254 on; before, ``udevadm test`` in a namespace that has only this file, and an
    empty /dev and /run, so that nothing of it gets out.
    """
    if not shutil.which("udevadm"):
        return None
    version = subprocess.run(["udevadm", "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.findall(r"\d+", version)[0]) >= 254:
        done = subprocess.run(
            ["udevadm", "verify", "--no-style", path], capture_output=True, text=True, check=False
        )
        return "" if done.returncode == 0 else done.stdout + done.stderr
    script = (
        'mount -t tmpfs none /run && mkdir -p /run/udev/rules.d && cp "$0" /run/udev/rules.d/99-limpet.rules && '
        "mount -t tmpfs none /dev && udevadm test --action=add /sys/class/mem/null 2>&1"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, path], capture_output=True, text=True, check=False
    )
    if "Reading rules file: /run/udev/rules.d/99-limpet.rules" not in done.stdout:
        return None
    said = [line for line in done.stdout.splitlines() if re.match(r"/run/udev/rules\.d/99-limpet\.rules:\d", line)]
    return "\n".join(said)
