"""Which models a pipeline runs because of its update."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limpet.updates.state import Deployed, Update


def selection(update: Update) -> tuple[Deployed | None, ...]:
    """Return the models that a pipeline may run, in this order: the first one that works. Each is there once.

    ``None`` is the model of the configuration. The candidate is the first one during its trial, and is in there at
    no other time.
    """
    trial = (update.candidate,) if update.stage == "trial" and update.candidate else ()
    return tuple(dict.fromkeys((*trial, update.good, update.previous, None)))
