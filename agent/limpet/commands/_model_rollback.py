"""``limpet model rollback``: has the daemon run the model that was good before, which is still there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet import config
from limpet.audit.local_user import local_user
from limpet.commands import _local_orders as orders
from limpet.commands import _stages
from limpet.device import boot, state_files
from limpet.errors import LimpetError
from limpet.models import history
from limpet.models.history import Ran
from limpet.untrusted import printable
from limpet.updates.local_orders import LocalOrder
from limpet.updates.orders import order as decided
from limpet.updates.selection import selection
from limpet.updates.stimuli import Ordered

if TYPE_CHECKING:
    import argparse

    from limpet.config import Config
    from limpet.updates.state import Update, Updates

TEXT = "Go back to the model that was good before, or end a trial."
PATIENCE = 30.0
"""Seconds that the daemon may take until the earlier model runs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "pipeline", metavar="PIPELINE", nargs="?", help="Pipeline. Default: the only one that had an update."
    )
    parser.add_argument("--config", type=Path, metavar="FILE", default=config.usual(), help=config.USUAL)
    parser.set_defaults(act=rollback)


def rollback(arguments: argparse.Namespace) -> int:
    """Go back, and wait until the earlier model runs."""
    wanted = config.read(arguments.config)
    state, by = wanted.device.state, local_user()
    updates = orders.known_updates(wanted)
    name = arguments.pipeline or _only_updated(wanted, updates)
    if name not in wanted.pipelines:
        raise LimpetError(f"there is no pipeline {name!r} in {arguments.config}")
    update = orders.update_of(updates, name)
    step = decided(update, Ordered("rollback", by), orders.facts_of(wanted, updates, name))
    if step.refused:
        raise LimpetError(f"{name}: {step.refused}{_advice(update, name)}")
    target = selection(step.update)[0]
    what = f"{target.model} {target.version}" if target else "the configuration's model"
    pid = boot.holder(state)
    state_files.become_owner(state)
    seq = _stages.last_seq(state)
    before = history.read(state).get(name)
    try:
        path = orders.put(state, name, LocalOrder(order="rollback", by=by))
    except OSError as error:
        why = f"{error.filename or state}: {error.strerror}"
        raise LimpetError(f"{why}. Run: sudo limpet model rollback {name}") from error
    if not orders.call_daemon(pid):
        print(printable(f"{name}: goes back to {what} when the daemon starts"))
        return 0
    followed = _stages.Followed(state, name, path, seq)
    expected = Ran(target.model, target.version) if target else None
    replaced = before.running if before else None

    def is_over(known: Updates, taken: bool) -> bool:  # noqa: FBT001
        if not taken:
            return False
        now = orders.update_of(known, name)
        if now.good != step.update.good or now.stage != step.update.stage:
            raise LimpetError(f"{name}: {_stages.refusal_since(followed)}")
        ran = history.read(state).get(name)
        return ran is not None and (ran.running == expected if expected else ran.running != replaced)

    _stages.wait(followed, is_over, PATIENCE)
    ran = history.read(state)[name].running
    print(printable(f"{name}: went back to {ran.model} {ran.version}"))
    return 0


def _only_updated(wanted: Config, updates: Updates) -> str:
    updated = [name for name, one in updates.pipelines.items() if one.deployed and name in wanted.pipelines]
    none = (
        "no pipeline runs a model that came by an update. To choose a version of the store, run: limpet model use "
        "NAME-VERSION"
    )
    return orders.only_one(updated, none, "several pipelines had updates. Name one")


def _advice(update: Update, name: str) -> str:
    if update.good is None and update.previous is None and update.stage != "trial":
        return " To choose a version of the store, run: limpet model use NAME@previous"
    return f" To see where it is, run: limpet model history {name}"
