"""``limpet reset``: factory reset of a state directory."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from limpet import config
from limpet.audit import file as journal_file
from limpet.audit.entry import What, Who
from limpet.audit.journal import Journal
from limpet.audit.local_user import local_user
from limpet.captures.ring import CAPTURES
from limpet.commands._state_directory import state_of
from limpet.device import boot, directories, state_files
from limpet.errors import ConfigError, LimpetError
from limpet.learning.state import NAME as LEARNING
from limpet.learning.state import UNDO
from limpet.models import deployed
from limpet.untrusted import printable
from limpet.updates.state import DEPLOYED, DOWNLOADS, REQUESTS
from limpet.updates.state import NAME as UPDATES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from typing import IO

HELP = "Delete models, cache, outbox and captured data; keep the device id"
GROUP = "service"
EXAMPLES = (
    ("sudo systemctl stop limpet && sudo limpet reset", "Ask, then reset the state directory of the service."),
    ("limpet reset --yes", "Do not ask."),
    ("limpet reset --learned", "Have models that learn on this device learn again. Delete nothing else."),
)

_WANTED = (DOWNLOADS, REQUESTS, UNDO)
_OWN = ("cache", CAPTURES, directories.LEARNED, "models", *_WANTED, DEPLOYED, directories.REPORTERS)
"""Folders in the state directory that are deleted. Nothing else in it is touched: others may use it too."""
_FILES = ("lock", "boot.json", "boot.new")
_ADAPTED = (LEARNING, "learning.new")
"""Accuracy and adaptations."""
_FORGOTTEN = ("pipelines.json", "pipelines.new", "pins.json", "pins.new", "models.json", "models.new", *_ADAPTED)
"""Names of the pipelines that ran, and of their models; the versions that a person chose; what was adapted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("config", type=Path, metavar="FILE", nargs="?", default=config.usual(), help=config.USUAL)
    add("--state", type=Path, metavar="FOLDER", help="State directory. Default: the one in the configuration.")
    add("--all", action="store_true", help="Delete the configuration file too.")
    add(
        "--learned",
        action="store_true",
        help="Delete only what models have learned on this device, with accuracy and adaptations. They then learn "
        "again.",
    )
    add(
        "--audit",
        action="store_true",
        help="Begin the audit journal again. Its first line has the head of the old one. Default: keep it.",
    )
    add("--yes", action="store_true", help="Do not ask for confirmation.")


def main(arguments: argparse.Namespace) -> int:
    """Ask, then delete. ``LimpetError`` if the daemon runs or the user does not agree; then nothing is deleted."""
    try:
        return _reset(arguments)
    except OSError as error:
        where = error.filename or "the disk"
        raise LimpetError(f"{where}: {error.strerror}. Correct that and run this again") from error


def _reset(arguments: argparse.Namespace) -> int:
    state = arguments.state or state_of(arguments.config)
    if not state.is_dir():
        raise LimpetError(f"there is no {state}, so there is nothing to reset")
    if arguments.learned and arguments.audit:
        raise LimpetError("--learned deletes nothing but what models have learned; leave out --audit")
    if arguments.learned:
        return _forget_learned(state, arguments)
    folders = [*(state / name for name in _OWN), *_runtime_folders()]
    _refuse_links([*folders, *(state / name for name in (*_FILES, *_FORGOTTEN, UPDATES))])
    with _claim(state):
        also = f" and {arguments.config}" if arguments.all else ""
        journal = " and the audit journal" if arguments.audit else ""
        _agree(f"all models, counts and results not yet sent in {state}{journal}{also}", arguments)
        written = _record(state, "factory reset", begin_again=arguments.audit)
        for folder in folders:
            if folder == state / directories.REPORTERS:
                # Before this, as results of another life must not have the names of earlier ones, whatever comes
                # between; after the others, as it takes room, and the disk may be full.
                boot.renew(state)
            _empty(folder)
        for name in _FORGOTTEN:
            state_files.remove(state / name)
        with state_files.as_owner(state):
            deployed.reset(state)
        for name in (*_FILES, *_FORGOTTEN, UPDATES):
            state_files.remove(state / f"{name}.damaged")
        if not written:  # the disk was full
            _record(state, "factory reset", begin_again=arguments.audit)
        _hand_over(state)
        if arguments.all:
            arguments.config.unlink(missing_ok=True)
    print(f"{state} was reset")
    return 0


def _forget_learned(state: Path, arguments: argparse.Namespace) -> int:
    """Delete what models have learned, and nothing else."""
    folder = state / directories.LEARNED
    _refuse_links([folder, *(state / name for name in _ADAPTED)])
    with _claim(state):
        _agree(f"what models have learned, in {folder}", arguments)
        _record(state, "what models had learned was deleted")
        _empty(folder)
        for name in _ADAPTED:
            state_files.remove(state / name)
    print(f"{folder} is empty; models that learn start again")
    return 0


def _record(state: Path, reason: str, *, begin_again: bool = False) -> bool:
    """Write into the audit journal that this user resets the device. Return whether that could be written."""
    with state_files.as_owner(state):
        journal = Journal(state)
        if begin_again:
            for suffix in (".damaged", ".torn"):
                state_files.remove(state / f"{journal_file.NAME}{suffix}")
            journal.begin_again(f"limpet reset --audit by the user {local_user()}")
        journal.record("reset", What(reason=reason), who=Who(user=local_user()), durable=True)
        for _, problem in journal.tend():
            print(printable(f"limpet: {problem}"), file=sys.stderr)
    return not journal.lost


def _refuse_links(paths: Iterable[Path]) -> None:
    """Raise ``LimpetError`` at a link: root runs this where the service's user could have laid one to anywhere."""
    for path in paths:
        if path.is_symlink():
            raise LimpetError(
                f"{path} is a link to {path.readlink()}: reset that folder yourself, and delete the link"
            )


def _claim(state: Path) -> IO[bytes]:
    try:
        claim = boot.lock(state)
    except ConfigError as error:
        raise LimpetError(
            f"a daemon runs with {state}; stop it first: Ctrl-C, or systemctl stop limpet"
        ) from error
    if claim is None:
        raise LimpetError(f"{state} cannot be written by this user")
    return claim


def _agree(what: str, arguments: argparse.Namespace) -> None:
    """Return if the user at the terminal agrees, else raise ``LimpetError``."""
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise LimpetError("not a terminal, so Limpet cannot ask. Run again with --yes")
    print(f"Deletes {what}.")
    answer = ""
    with suppress(EOFError):
        answer = input("Go on? [y/N] ")
    if answer.strip().lower() not in {"y", "yes"}:
        raise LimpetError("nothing was deleted")


def _runtime_folders() -> list[Path]:
    runtime = directories.runtime()
    return [runtime / directories.REPORTERS] if runtime else []


def _empty(folder: Path) -> None:
    """Delete what is in a folder. The folder itself stays, as its owner and mode are what the service needs."""
    if state_files.is_irregular_folder(folder):
        state_files.remove(folder)
    for entry in folder.glob("*"):
        state_files.remove(entry)


def _hand_over(state: Path) -> None:
    """Give new files to the directory's owner: root may have run this, and the service must write them."""
    owner = state.stat()
    for name in ("lock", "boot.json"):
        if not state_files.is_regular(state / name) or state_files.shared(state / name):
            raise LimpetError(f"{state / name} was replaced meanwhile; run this again")
        os.chown(state / name, owner.st_uid, owner.st_gid, follow_symlinks=False)
