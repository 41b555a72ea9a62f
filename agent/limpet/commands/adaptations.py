"""``limpet adaptations``: what a device has changed about its pipelines by itself, and how to undo it."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet import config
from limpet.audit.local_user import local_user
from limpet.commands._local_orders import call_daemon
from limpet.commands._state_directory import state_of
from limpet.device import boot, state_files
from limpet.errors import LimpetError
from limpet.learning import adaptations
from limpet.learning.state import LARGEST, NAME, UNDO, AllLearned, Learned, UndoRequest
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from limpet.learning.adaptations import Adaptation

HELP = "Show and undo what the device has changed about itself"
GROUP = "service"
EXAMPLES = (
    ("sudo limpet adaptations list", "Show all adaptations, and which are in force."),
    ("sudo limpet adaptations undo press", "Undo the newest adaptation of a pipeline."),
    ("sudo limpet adaptations undo press --number 3", "Undo adaptation 3 and all later ones."),
)

_LIST = "Show the adaptations of each pipeline, oldest first."
_UNDO = "Undo an adaptation and all later ones."
PATIENCE = 30.0
"""Seconds that the daemon may take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    shown = actions.add_parser("list", help=_LIST, description=_LIST)
    shown.add_argument("--json", action="store_true", help="Print them as JSON.")
    shown.add_argument("config", type=Path, metavar="FILE", nargs="?", default=config.usual(), help=config.USUAL)
    _add_state(shown)
    shown.set_defaults(act=_list)
    undone = actions.add_parser("undo", help=_UNDO, description=_UNDO)
    undone.add_argument("pipeline", metavar="PIPELINE", help="Pipeline.")
    undone.add_argument(
        "--number", type=int, metavar="N", help="Adaptation to undo, with all later ones. Default: the newest."
    )
    undone.add_argument("--config", type=Path, metavar="FILE", default=config.usual(), help=config.USUAL)
    _add_state(undone)
    undone.set_defaults(act=_undo)


def _add_state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", type=Path, metavar="FOLDER", help="State directory. Default: the one in the configuration."
    )


def main(arguments: argparse.Namespace) -> int:
    """Do what was chosen. ``LimpetError`` if that is not possible."""
    status: int = arguments.act(arguments, arguments.state or state_of(arguments.config))
    return status


def _read(state: Path) -> dict[str, Learned]:
    path, problems = state / NAME, list[str]()
    try:
        known = state_files.read(path, AllLearned, LARGEST, None, "")
    except OSError as error:
        raise LimpetError(f"{path}: {error.strerror}. Run this as root or as the user of the service") from error
    if known is None and path.exists():
        problems.append(f"{path} is damaged; the daemon sets it aside at its next start")
    if problems:
        raise LimpetError(problems[0])
    return known.pipelines if known is not None else {}


def _list(arguments: argparse.Namespace, state: Path) -> int:
    known = {name: one.adaptations for name, one in _read(state).items() if one.adaptations.made}
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(known), indent=2).decode())
        return 0
    if not known:
        print("no pipeline was adapted")
    for name, one in known.items():
        print(printable(name))
        for made in one.made:
            print(printable(_line(made, set(_in_force(one.made)))))
        if one.held:
            print(f"  not adapted again until the model changes: {', '.join(one.held)}")
    return 0


def _in_force(made: tuple[Adaptation, ...]) -> Iterator[int]:
    """Yield the numbers of those in force, of the model that was adapted last."""
    if made:
        last = made[-1]
        yield from (one.number for one in adaptations.newest(made, last.model, last.version).values())


def _line(made: Adaptation, in_force: set[int]) -> str:
    when = datetime.fromtimestamp(made.time, timezone.utc).astimezone()
    state = "in force" if made.number in in_force else "replaced"
    if made.undone:
        state = f"undone {datetime.fromtimestamp(made.undone, timezone.utc).astimezone():%Y-%m-%d %H:%M}"
        state += f", {made.undone_because}" if made.undone_because else ""
    model = f"{made.model} {made.version}"
    return f"  {made.number}  {when:%Y-%m-%d %H:%M}  {made.kind}  {model}  {state}  {made.reason}"


def _undo(arguments: argparse.Namespace, state: Path) -> int:
    """Order it, and wait until the daemon has done it."""
    name = arguments.pipeline
    before = _read(state).get(name)
    if before is None:
        raise LimpetError(f"pipeline {name!r} was never adapted. To see which were, run: limpet adaptations list")
    try:
        _, undone = adaptations.undo(before.adaptations, arguments.number, time.time(), "")
    except ValueError as error:
        raise LimpetError(f"{name}: {error}. To see them, run: limpet adaptations list") from error
    numbers = ", ".join(str(one.number) for one in undone)
    pid = boot.holder(state)
    state_files.become_owner(state)
    path = _put(state, name, UndoRequest(number=arguments.number, by=local_user()))
    if not call_daemon(pid):
        print(f"{name}: {numbers} is undone when the daemon starts")
        return 0
    deadline = time.monotonic() + PATIENCE
    while path.exists() or not _is_undone(state, name, undone):
        if time.monotonic() > deadline:
            raise LimpetError(f"{name}: the daemon did not undo it. To see why, run: journalctl -u limpet")
        time.sleep(0.1)
    print(f"{name}: undone: {numbers}")
    return 0


def _put(state: Path, name: str, order: UndoRequest) -> Path:
    folder = state / UNDO
    if state_files.is_irregular_folder(folder):
        raise LimpetError(f"{folder} is {state_files.kind(folder)}; a folder is expected. Delete it")
    path = folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        state_files.replace(path, msgspec.json.encode(order), 0o600)
    except OSError as error:
        why = f"{error.filename or folder}: {error.strerror}"
        raise LimpetError(f"{why}. Run: sudo limpet adaptations undo {name}") from error
    return path


def _is_undone(state: Path, name: str, undone: list[Adaptation]) -> bool:
    now = _read(state).get(name) or Learned()
    left = {one.number for one in now.adaptations.made if not one.undone}
    return not left & {one.number for one in undone}
