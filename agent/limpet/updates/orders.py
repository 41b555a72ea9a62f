"""What an operator's command does in each stage, and why it is refused where it makes no sense."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.updates import moves, refusals
from limpet.updates.facts import Step
from limpet.updates.state import Pending

if TYPE_CHECKING:
    from limpet.updates.facts import Facts
    from limpet.updates.state import Update
    from limpet.updates.stimuli import Ordered

MOST_OF_A_NAME = 200


def order(update: Update, ordered: Ordered, facts: Facts) -> Step:
    """Obey a command, or say why not."""
    by = ordered.by[:MOST_OF_A_NAME] or "An operator"
    if ordered.order != "cancel" and update.stage != "trial" and (reason := refusals.pinned(facts)):
        return _refuse(update, reason)
    match ordered.order:
        case "install":
            return _install(update, facts)
        case "promote":
            return _promote(update, facts)
        case "rollback":
            return _rollback(update, facts, by)
        case "cancel":
            return _cancel(update, facts, by)


def _refuse(update: Update, reason: str) -> Step:
    return Step(update, (), reason)


def _install(update: Update, facts: Facts) -> Step:
    """Put a staged model to work now, or try once more what failed."""
    match update.stage:
        case "staged":
            return moves.admit(update, facts)
        case "downloading" | "verifying" if moves.live(update, facts).next_try is not None:
            return moves.fetch(update, facts)
        case "failed" | "rolled_back" if update.request is not None and not moves.leaving(update):
            same = Pending(
                desired=update.desired, request=update.request, local=update.local, signed=update.signed
            )
            return moves.begin(update, same, facts)
        case "idle" | "failed" | "rolled_back" | "good":
            return _refuse(update, "No model waits to be installed. Send a request first.")
    return _refuse(update, f"{moves.wanted_name(update)} is being installed already: its stage is {update.stage}.")


def _promote(update: Update, facts: Facts) -> Step:
    """End the shadow or the trial now, whatever its figures are. A result is needed all the same."""
    match update.stage:
        case "shadow":
            return moves.trial(update, facts)
        case "trial" if moves.results(update, facts):
            return moves.promote(update, facts)
        case "trial":
            return _refuse(update, f"{moves.wanted_name(update)} has no accepted result yet. Wait for one.")
        case "staged":
            return _refuse(update, "The model is not installed yet. Use the command install.")
    return _refuse(update, f"No model is in its shadow or trial: the stage is {update.stage}.")


def _rollback(update: Update, facts: Facts, by: str) -> Step:
    """End a trial, or exchange the good model and the previous one."""
    match update.stage:
        case "trial":
            return moves.roll_back(update, facts, f"{by} ended the trial.")
        case "idle" | "good" | "failed" | "rolled_back" if not moves.leaving(update):
            if update.good is None and update.previous is None:
                return _refuse(update, "There is no other model to go back to.")
            return moves.swap(update, facts, by)
        case "rolled_back":
            return _refuse(update, "The pipeline goes back to its good model. Try again in a minute.")
    return _refuse(update, "An update is under way and has not taken over. Use the command cancel.")


def _cancel(update: Update, facts: Facts, by: str) -> Step:
    match update.stage:
        case "trial":
            return moves.roll_back(update, facts, f"{by} cancelled the update.")
        case "downloading" | "verifying" | "staged" | "admission" | "shadow":
            return moves.fail(update, facts, f"{by} cancelled the update.")
        case "rolled_back" if update.pending is not None:
            return Step(moves.replace(update, pending=None))
    return _refuse(update, "There is no update to cancel.")
