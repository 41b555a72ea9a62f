"""``limpet trust``: whose models this device runs. Show it, enrol a first root of trust, take a newer one."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet import config
from limpet.contracts.trust import TrustReport
from limpet.device import boot, state_files
from limpet.errors import LimpetError, TrustError
from limpet.trust import library
from limpet.trust.settings import FOLDER, Trust, trust_of
from limpet.untrusted import printable, read_linked_file
from limpet.wording import short_hash

if TYPE_CHECKING:
    import argparse

    from limpet.trust.chain import Roots

HELP = "Show whose models this device runs, or change that"
GROUP = "models"
EXAMPLES = (
    ("limpet trust show", "Show the root of trust: who signs models and requests."),
    ("limpet trust enrol root.json", "Show a root of trust, ask, and copy it beside the configuration."),
    ("limpet trust update 2.root.json", "Take a newer root, which the keys of the old one signed."),
)
_SHOW = "Show the root of trust, its keys and its expiry."
_ENROL = "Check a first root of trust, ask, and copy it to the configuration's folder."
_UPDATE = "Take newer roots of trust."
_LARGEST = 1 << 20
NAME = "root.json"
_WHAT = {"root": "new roots", "models": "models", "operators": "requests for models"}


class Shown(TrustReport, kw_only=True):
    """What ``limpet trust show --json`` prints.

    ``anchor``: the root's file in the configuration. ``fingerprint``: SHA-256 of what is signed of the root in
    force.
    """

    anchor: str = ""
    fingerprint: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", title="Actions")
    showing = actions.add_parser("show", help=_SHOW, description=_SHOW)
    showing.add_argument("--json", action="store_true", help="Print one JSON document.")
    enrolling = actions.add_parser("enrol", help=_ENROL, description=_ENROL)
    enrolling.add_argument("root", type=Path, metavar="ROOT", help="File of the root.")
    enrolling.add_argument(
        "--fingerprint", metavar="SHA256", help="Fingerprint that the root must have. Limpet then does not ask."
    )
    enrolling.add_argument("--yes", action="store_true", help="Do not ask for confirmation.")
    updating = actions.add_parser("update", help=_UPDATE, description=_UPDATE)
    updating.add_argument("roots", type=Path, metavar="ROOT", nargs="+", help="Files of roots, in any order.")
    updating.add_argument("--config", type=Path, metavar="FILE", default=config.usual(), help=config.USUAL)
    for one, act in ((showing, _show), (enrolling, _enrol), (updating, _update)):
        one.set_defaults(act=act)
        if one is not updating:
            one.add_argument(
                "config", type=Path, metavar="FILE", nargs="?", default=config.usual(), help=config.USUAL
            )


def main(arguments: argparse.Namespace) -> int:
    """Do what was chosen."""
    library.require()
    status: int = arguments.act(arguments)
    return status


# --- show


def _show(arguments: argparse.Namespace) -> int:
    wanted = config.read(arguments.config)
    shown = show(trust_of(wanted))
    if arguments.json:
        print(msgspec.json.encode(shown).decode())
    else:
        print(printable("\n".join(lines(shown))))
        if wanted.trust is None and (wanted.base / NAME).exists():
            print(printable(f"{wanted.base / NAME} is not in use. {_add_lines(arguments.config)}"))
    return 0


def show(trust: Trust | None) -> Shown:
    """Return what is trusted. ``TrustError`` if the root cannot be used."""
    if trust is None:
        return Shown(models="unsigned")
    from limpet.trust import chain, documents, files

    roots = files.read(trust)
    report = msgspec.structs.asdict(chain.report_of(roots, trust.now()))
    return Shown(**report, anchor=str(trust.anchor), fingerprint=documents.fingerprint(roots.newest))


def lines(shown: Shown) -> list[str]:
    """Return what is trusted, for people."""
    if shown.models == "unsigned":
        return [
            "This device has no root of trust. Models from local files run unsigned.",
            "It takes no model from the network. Run: limpet trust enrol ROOT",
        ]
    found = [f"Only signed models run. Root {shown.root} is in force.", f"  first root: {shown.anchor}"]
    found += [f"  fingerprint: {shown.fingerprint}", *_roles(shown)]
    return [*found, f"  warning: {shown.problem}"] if shown.problem else found


def _roles(report: TrustReport) -> list[str]:
    found = [f"  expires: {report.expires:%Y-%m-%d}. After that, the device takes no new model."]
    for name, role in report.roles.items():
        if not role.keys:
            found.append(f"  {_WHAT[name]}: no key may sign them")
            continue
        count = "this key signs" if len(role.keys) == 1 else f"{role.threshold} of these keys must sign"
        found += [f"  {_WHAT[name]}: {count}", *(f"    {short_hash(keyid)}" for keyid in role.keys)]
    return found


# --- enrol


def _enrol(arguments: argparse.Namespace) -> int:
    from limpet.trust import chain, documents

    wanted = config.read(arguments.config)
    data = _read(arguments.root)
    roots = _anchored(arguments.root, data)
    fingerprint = documents.fingerprint(roots.newest)
    target = wanted.trust.root if wanted.trust else wanted.base / NAME
    _refuse_other(target, fingerprint)
    trust = Trust(anchor=target, chain=wanted.device.state / FOLDER)
    report = chain.report_of(roots, trust.now())
    head = f"{arguments.root}: root {report.root}, fingerprint {fingerprint}"
    print(printable("\n".join([head, *_roles(report)])))
    _agree(arguments, fingerprint)
    try:
        state_files.replace(target, data)
        target.chmod(0o644)
    except OSError as error:
        raise LimpetError(f"{target}: {error.strerror}. Run: sudo limpet trust enrol ...") from error
    print(f"copied to {target}")
    if wanted.trust is None:
        print(_add_lines(arguments.config))
    return 0


def _add_lines(path: Path) -> str:
    return f'Add these lines to {path}, and run: limpet check\n\n[trust]\nroot = "{NAME}"'


def _anchored(path: Path, data: bytes) -> Roots:
    from limpet.trust import chain

    try:
        return chain.anchored(data)
    except LimpetError as error:
        raise TrustError(f"{path}: {error}") from error


def _refuse_other(target: Path, fingerprint: str) -> None:
    """Refuse to replace another root: a person could be misled to trust the wrong keys."""
    from limpet.trust import documents

    if not target.exists():
        return
    if documents.fingerprint(_anchored(target, _read(target)).newest) != fingerprint:
        raise TrustError(
            f"{target}: there is another root already. A newer one comes by: limpet trust update ROOT. To trust "
            "other keys, delete this file yourself"
        )


def _agree(arguments: argparse.Namespace, fingerprint: str) -> None:
    if arguments.fingerprint:
        if arguments.fingerprint.lower() != fingerprint:
            raise TrustError(f"the fingerprint is {fingerprint}, not {arguments.fingerprint}. Nothing was changed")
        return
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise LimpetError("Not a terminal, so Limpet cannot ask. Run again with --fingerprint or --yes")
    if input("With this root, only models that these keys sign will run. Trust it? [y/N] ").strip().lower() != "y":
        raise LimpetError("Nothing was changed")


def _read(path: Path) -> bytes:
    try:
        return read_linked_file(path, _LARGEST)
    except OSError as error:
        raise LimpetError(f"{path}: {error.strerror}") from error


# --- update


def _update(arguments: argparse.Namespace) -> int:
    from limpet.trust import chain, documents, files

    wanted = config.read(arguments.config)
    trust = trust_of(wanted)
    if trust is None:
        raise LimpetError("this device has no root of trust. Run: limpet trust enrol ROOT")
    new = [one for path in arguments.roots for one in documents.roots(_read(path))]
    after = chain.updated(files.read(trust), new)
    state = wanted.device.state
    pid = boot.holder(state)
    try:
        state.mkdir(parents=True, exist_ok=True)
        state_files.become_owner(state)
        for one in after.added:
            files.store(trust.chain, one)
    except OSError as error:
        where = error.filename or state
        raise LimpetError(f"{where}: {error.strerror}. Run: sudo limpet trust update ...") from error
    if not after.added:
        print(f"root {after.roots.version} is in force already")
        return 0
    print(f"root {after.roots.version} is in force")
    if pid is not None:
        _reload(pid)
    return 0


def _reload(pid: int) -> None:
    try:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)
    except PermissionError:
        print("the daemon still uses the root before. Run: sudo systemctl reload limpet")
    else:
        print("the daemon examines all models again")
