"""``limpet model history``: what ran, was installed, failed and was rolled back, and why."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet import config
from limpet.audit import file as journal_file
from limpet.audit.entry import decode
from limpet.commands import _local_orders as orders
from limpet.errors import LimpetError
from limpet.models import history
from limpet.untrusted import printable
from limpet.updates.moves import wanted_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from limpet.audit.entry import Entry
    from limpet.models.history import Runs
    from limpet.updates.state import Update

TEXT = "Show which models ran, and what was installed, failed or was rolled back, and why."
_COMMANDS = frozenset({"update", "install", "promote", "rollback", "cancel"})
_NAMES = {
    "activated": "runs",
    "command": "command",
    "update_admitted": "admitted",
    "update_failed": "failed",
    "update_good": "good",
    "update_refused": "request refused",
    "update_rolled_back": "rolled back",
    "update_shadow": "shadow",
    "update_staged": "staged",
    "update_trial": "trial",
    "update_wanted": "requested",
    "update_withdrawn": "withdrawn",
}


class Happened(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What happened to the model of a pipeline. ``event`` and ``reason`` are as in the audit journal.

    ``unset``: the device's clock was not set. ``by``: a user of this machine, or the reporter of a command.
    """

    time: datetime
    pipeline: str
    event: str
    model: str = ""
    version: int | None = None
    reason: str = ""
    by: str = ""
    signed_by: list[str] = []
    unset: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("pipeline", metavar="PIPELINE", nargs="?", help="Pipeline. Default: all.")
    parser.add_argument("--json", action="store_true", help="Print one JSON array.")
    parser.add_argument("--config", type=Path, metavar="FILE", default=config.usual(), help=config.USUAL)
    parser.set_defaults(act=show)


def show(arguments: argparse.Namespace) -> int:
    """Print what happened, oldest first, and where updates are now."""
    wanted = config.read(arguments.config)
    state, name = wanted.device.state, arguments.pipeline
    path = state / journal_file.NAME
    try:
        happened = [one for one in _happened(path) if name in (None, one.pipeline)]
    except FileNotFoundError:
        happened = []
    except OSError as error:
        raise LimpetError(f"{path}: {error.strerror}. Run: sudo limpet model history") from error
    updates, ran = orders.known_updates(wanted), history.read(state)
    names = [one for one in wanted.pipelines if name in (None, one)]
    if not names and not happened:
        raise LimpetError(f"there is no pipeline {name!r} in {arguments.config}")
    if arguments.json:
        print(msgspec.json.encode(happened).decode())
        return 0
    lines = [_sentence(one) for one in happened]
    lines += [f"now  {one}: {_now(updates.pipelines.get(one), ran.get(one))}" for one in names]
    print("\n".join(map(_one_line, lines)))
    return 0


def _happened(path: Path) -> Iterator[Happened]:
    for line in journal_file.lines(path):
        if line.endswith(b"\n") and (happened := _of(decode(line[:-1]))):
            yield happened


def _of(entry: Entry) -> Happened | None:
    """Return what an entry says about a model, ``None`` if it is about something else."""
    what, who = entry.what, entry.who
    is_update = entry.event in _NAMES and entry.event != "command"
    if not entry.pipeline or not (is_update or (entry.event == "command" and what.command in _COMMANDS)):
        return None
    return Happened(
        time=entry.time,
        pipeline=entry.pipeline,
        event=entry.event,
        model=what.model,
        version=what.version,
        reason=f"{what.command}: {what.reason}" if what.command else what.reason,
        by=who.user or who.reporter,
        signed_by=list(who.keys),
        unset=entry.clock is not None,
    )


def _sentence(one: Happened) -> str:
    unset = " (clock not set)" if one.unset else ""
    named = f" {one.model} {one.version}" if one.event == "activated" else ""
    parts = [f"{_NAMES[one.event]}{named}", one.reason]
    text = (" " if one.event == "command" else ": ").join(part for part in parts if part)
    by = f", by {one.by}" if one.by else ""
    when = one.time.astimezone(timezone.utc)
    return f"{when:%Y-%m-%d %H:%M:%S}{unset}  {one.pipeline}: {text}{by}"


def _now(update: Update | None, ran: Runs | None) -> str:
    """Return where a pipeline and its update are."""
    parts = [f"runs {ran.running.model} {ran.running.version}" if ran else "no model has run yet"]
    if update is None or update.stage == "idle":
        return parts[0]
    since = datetime.fromtimestamp(update.since, timezone.utc)
    stage = f"update to {wanted_name(update)}: {update.stage.replace('_', ' ')} since {since:%Y-%m-%d %H:%M:%S}"
    if update.stage == "good" and update.good is not None:
        stage = f"{update.good.model} {update.good.version} is good since {since:%Y-%m-%d %H:%M:%S}"
    parts += [f"{stage}. {update.reason}" if update.reason else stage]
    if update.good is not None or update.previous is not None:
        before = update.previous
        back = f"{before.model} {before.version}" if before else "the configuration's model"
        parts.append(f"a rollback goes to {back}")
    return "; ".join(part.rstrip(".") for part in parts)


def _one_line(text: str) -> str:
    return " ".join(printable(text).split("\n")).replace("\t", " ")
