"""``limpet doctor``: check this installation and suggest fixes."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from limpet import config
from limpet.device.machine import Machine, User, this_user
from limpet.doctor import examine, installation, report, service
from limpet.errors import LimpetError
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from limpet.doctor.finding import Finding
    from limpet.doctor.report import Written

HELP = "Check this installation and suggest fixes"
GROUP = "look"
EXAMPLES = (
    ("limpet doctor", "Check the usual configuration and this machine."),
    ("sudo limpet doctor --user limpet", "Check with the permissions of the service."),
    ("limpet doctor --report", "Write an archive for a bug report, without names, addresses and secrets."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("config", type=Path, metavar="FILE", nargs="?", default=config.usual(), help=config.USUAL)
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        nargs="?",
        const=Path(),
        help="Write an archive for a bug report. Default: limpet-report-TIME.tar.gz, in this folder.",
    )
    parser.add_argument("--user", help="User whose permissions are checked. Default: the user who runs this.")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        default=Path("/"),
        help="Read sys, proc, dev, etc, run and usr below this folder. Python and state are still this machine's.",
    )


def main(arguments: argparse.Namespace) -> int:
    """Print the findings. Return 1 if one of them is bad."""
    if not arguments.root.is_dir():
        raise LimpetError(f"--root: there is no folder {arguments.root}")
    machine = Machine(arguments.root, _user(arguments.user))
    machine = replace(machine, user=service.with_groups(machine))
    examined = installation.read(arguments.config, machine)
    found = examine(examined)
    if arguments.report:
        wanted = arguments.report if arguments.report.name else report.usual()
        print(printable("\n".join(_contents(report.write(examined, found, wanted)))))
        return 0
    counts = {result: sum(f.result == result for f in found) for result in ("ok", "warn", "bad", "skip")}
    if arguments.json:
        document = {"machine": machine.model(), "user": machine.user.name, **counts, "findings": found}
        print(msgspec.json.encode(document).decode())
    else:
        print(printable("\n".join(line for finding in found for line in _describe(finding))))
        print(_summary(counts["bad"], counts["warn"], found))
    return 1 if counts["bad"] else 0


def _contents(written: Written) -> Iterator[str]:
    """Yield what is in an archive."""
    yield f"{written.path}: a bug report. Read it before you send it: tar -xzf {written.path.name}"
    for part in written.parts:
        yield f"  {part.name:20}{part.what}"
    if written.missing:
        yield from ("Not included:", *(f"  {line}" for line in written.missing))


def _user(name: str | None) -> User:
    if name is None:
        return this_user()
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise LimpetError(f"--user: there is no user {name!r}; `getent passwd` lists them") from None
    return User(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))


def _describe(finding: Finding) -> Iterator[str]:
    yield f"{finding.result:<5} {finding.check}: {finding.what}"
    if finding.why:
        yield f"      {finding.why}"
    if finding.fix:
        yield f"      > {finding.fix}"


def _summary(bad: int, warnings: int, found: Sequence[Finding]) -> str:
    first = next((finding for finding in found if finding.result == "bad"), None)
    begin = f"; begin with {first.check}" if first else ""
    return f"\n{bad} bad, {warnings} warning{'s' * (warnings != 1)}{begin}" if bad or warnings else "\nno problems"
