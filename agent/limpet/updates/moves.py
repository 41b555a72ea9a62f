"""The ways from one stage to another. Each returns the new state and what follows; `machine` says when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from limpet.backoff import Backoff
from limpet.contracts.updates import UpdatePolicy
from limpet.updates import policy, refusals, schedule
from limpet.updates.facts import Step
from limpet.updates.instructions import Admit, CleanUp, Fetch, Note, Place, Select, Shadow, Stop, Verify
from limpet.updates.selection import selection
from limpet.updates.state import Deployed, Live, Pending, Update
from limpet.wording import short_hash

if TYPE_CHECKING:
    from limpet.contracts.updates import UpdateStage
    from limpet.updates.facts import Facts
    from limpet.updates.instructions import Instruction

RETRIES = Backoff(first=10.0, longest=3600.0)
MOST_TRIES = 100
"""Attempts to fetch a bundle: three days and more, as most pauses are about an hour."""
MOST_CHECKS = 3
"""Attempts to verify or admit a bundle, if the process that does so does not end by itself."""
MOST_BOOTS, MOST_RESTARTS = 3, 20
"""Starts of the machine, and of the daemon alone, in one stage that runs the candidate.

After the next one it is given up. A model cannot end the daemon, but its driver may stop the machine.
"""
MOST_OF_A_REASON = 1000

NO_POLICY = UpdatePolicy()

replace = msgspec.structs.replace


def enter(update: Update, stage: UpdateStage, facts: Facts, reason: str = "", **changes: Any) -> Update:
    """Return the update in another stage. What is counted of a stage is 0, unless ``changes`` has it."""
    fresh = {"boots": 0, "restarts": 0, "tried": 0, "live": started(facts)}
    return replace(update, stage=stage, since=facts.now, reason=short(reason), **{**fresh, **changes})


def _starts(update: Update) -> dict[str, Any]:
    return {"boots": update.boots, "restarts": update.restarts}


def often_started(update: Update) -> str:
    """Say that machine or daemon started too often in a stage, if so."""
    if update.boots > MOST_BOOTS:
        return f"The machine started {update.boots} times"
    return f"The daemon started {update.restarts} times" if update.restarts > MOST_RESTARTS else ""


def started(facts: Facts) -> Live:
    """Return what is known when a stage, or a run of the daemon, begins."""
    return Live(began=facts.steady, counted_to=facts.steady, last_sign=facts.steady)


def live(update: Update, facts: Facts) -> Live:
    """Return what is known of the stage in this run."""
    return update.live if update.live is not None else started(facts)


def policy_of(update: Update) -> UpdatePolicy:
    """Return the policy of the request."""
    return update.request.policy if update.request is not None else NO_POLICY


def short(reason: str) -> str:
    """Return a reason that fits into the state."""
    return reason[:MOST_OF_A_REASON]


def wanted_name(update: Update) -> str:
    """Return the name and version of what is being installed."""
    if update.candidate is not None:
        return f"{update.candidate.model} {update.candidate.version}"
    if update.request is None:
        return "the model"
    lowest, highest = refusals.versions(update.request)
    return f"{update.request.model} {lowest}" + (f" to {highest}" if highest != lowest else "")


def begin(update: Update, asked: Pending, facts: Facts) -> Step:
    """Take on a request in a stage of rest."""
    taken = replace(
        update,
        desired=asked.desired,
        request=asked.request,
        local=asked.local,
        signed=asked.signed,
        candidate=None,
        pending=None,
    )
    if facts.has_good and refusals.is_good(asked.request, taken.good):
        return Step(enter(taken, "good", facts), (CleanUp(),))
    if reason := refusals.refusal(asked.request, taken, facts, older=may_be_older(taken)):
        return fail(taken, facts, reason)
    noted = Note("update_wanted", f"{wanted_name(taken)}, by a {_kind(asked)} request.")
    return then((noted,), fetch(enter(taken, "downloading", facts), facts))


def _kind(asked: Pending) -> str:
    if asked.signed:
        return "signed"
    return "local" if asked.local else "remote"


def may_be_older(update: Update) -> bool:
    """Return whether the request allows an older version, and may."""
    return update.request is not None and update.request.allow_older and (update.signed or update.local)


def then(instructions: tuple[Instruction, ...], step: Step) -> Step:
    """Return a step with other instructions in front."""
    return step._replace(instructions=(*instructions, *step.instructions))


def fetch(update: Update, facts: Facts) -> Step:
    """Start or resume the download, if the day's byte budget allows that."""
    if update.request is None:
        return fail(update, facts, "There is no request any more.")
    if reason := refusals.expired(update.request, facts.now):
        return fail(update, facts, reason)
    budget = None if update.local else facts.per_day
    left = schedule.budget_left(budget, facts.spent, facts.conditions.local)
    if left == 0:
        wait = schedule.until_tomorrow(facts.conditions.local)
        reason = f"The byte budget of the day, {facts.per_day} bytes, is spent. The download goes on tomorrow."
        return Step(_waiting(update, facts, wait, reason))
    going = replace(update, reason="", live=replace(live(update, facts), next_try=None))
    return Step(going, (Fetch(update.request, left),))


def _waiting(update: Update, facts: Facts, seconds: float, reason: str) -> Update:
    waits = replace(live(update, facts), next_try=facts.steady + seconds)
    return replace(update, reason=short(reason), live=waits)


def fetch_again_later(update: Update, facts: Facts, reason: str, *, most: int, counts: bool = True) -> Step:
    """Go back to downloading after a failure that may pass. What is there of the bundle is kept."""
    tried = max(update.tried + counts, 1)
    if tried >= most:
        return fail(update, facts, f"{reason} This was attempt {tried}.")
    back = update
    if update.stage != "downloading":
        back = enter(update, "downloading", facts, **_starts(update), candidate=None)
    return Step(_waiting(replace(back, tried=tried), facts, RETRIES.pause(tried), reason), (Stop(),))


def resume(update: Update, facts: Facts) -> Step:
    """Go on with the download after the daemon has started: at once, or later if it starts again and again."""
    if update.stage == "verifying" and update.candidate is not None:
        return Step(update, (Place(update.candidate),))
    back = update
    if update.stage != "downloading":
        back = enter(update, "downloading", facts, **_starts(update), tried=update.tried)
    if often := often_started(update):
        pause = RETRIES.pause(max(update.boots - MOST_BOOTS, update.restarts - MOST_RESTARTS))
        reason = f"{often} during this download, so the download waits."
        return Step(_waiting(back, facts, pause, reason))
    return fetch(back, facts)


def verify(update: Update, facts: Facts) -> Step:
    """Examine what was fetched."""
    if update.request is None:
        return fail(update, facts, "There is no request any more.")
    new = enter(update, "verifying", facts, **_starts(update), tried=update.tried)
    return Step(new, (Stop(), Verify(update.request)))


def place(update: Update, bundle: Deployed, facts: Facts) -> Step:
    """Take a bundle that was verified as the candidate, and put it into its final place."""
    if reason := refusals.wrong_bundle(bundle, update, facts, older=may_be_older(update)):
        return fail(update, facts, reason)
    return Step(replace(update, candidate=bundle), (Place(bundle),))


def stage(update: Update, facts: Facts) -> Step:
    """Keep the candidate, now in its final place, until it may be put to work."""
    keys = ", ".join(map(short_hash, update.candidate.signed_by)) if update.candidate is not None else ""
    text = f"{wanted_name(update)} is verified, {f'signed by {keys}' if keys else 'not signed'}."
    return Step(enter(update, "staged", facts), (CleanUp(), Note("update_staged", text)))


def admit(update: Update, facts: Facts) -> Step:
    """Try the candidate in a separate process."""
    if update.candidate is None:
        return fail(update, facts, "There is no bundle to try.")
    return Step(enter(update, "admission", facts), (Admit(update.candidate),))


def admit_again_later(update: Update, facts: Facts, reason: str) -> Step:
    """Hold the admission again after a failure that says nothing about the model."""
    tried = update.tried + 1
    if tried >= MOST_CHECKS:
        return fail(update, facts, f"{reason} This was attempt {tried}.")
    return Step(_waiting(replace(update, tried=tried), facts, RETRIES.pause(tried), reason), (Stop(),))


def shadow(update: Update, facts: Facts) -> Step:
    """Run the candidate beside the model that reports. Without one, or without the wish, go on to the trial."""
    request, candidate = update.request, update.candidate
    if request is None or candidate is None:
        return fail(update, facts, "There is no bundle to compare.")
    if not request.policy.shadow_windows or not facts.has_model:
        return trial(update, facts)
    noted = Note("update_shadow", f"{wanted_name(update)} is compared with the model that reports.")
    return Step(enter(update, "shadow", facts), (shadowing(update), noted))


def shadowing(update: Update) -> Shadow:
    """Return the instruction that runs the candidate beside the model that reports."""
    own = policy_of(update)
    return Shadow(update.candidate, own.shadow_every, own.share)


def compares_in_trial(update: Update) -> bool:
    """Return whether the good model runs beside the candidate in its trial: if it was not compared before."""
    return update.good is not None and policy.compares_in_trial(policy_of(update))


def trial(update: Update, facts: Facts) -> Step:
    """Let the candidate take over. From now on the selection has it first, also after a power cut."""
    if update.candidate is None:
        return fail(update, facts, "There is no bundle to run.")
    new = enter(update, "trial", facts, seconds=0.0, results=0)
    noted = Note("update_trial", f"{wanted_name(update)} takes over on trial.")
    return Step(new, (*_end_shadow(update), Select(selection(new)), noted))


def _end_shadow(update: Update) -> tuple[Instruction, ...]:
    runs = update.stage == "shadow" or (update.stage == "trial" and compares_in_trial(update))
    return (Stop(), Shadow(None)) if runs else ()


def promote(update: Update, facts: Facts) -> Step:
    """Make the candidate the good model. The one before is kept for a rollback."""
    again = update.good is not None and update.candidate is not None and update.good.file == update.candidate.file
    previous = update.previous if again else update.good
    new = enter(update, "good", facts, good=update.candidate, previous=previous, candidate=None)
    noted = Note("update_good", f"{wanted_name(update)} is good.")
    return Step(new, (*_end_shadow(update), Select(selection(new)), CleanUp(), noted))


def fail(update: Update, facts: Facts, reason: str) -> Step:
    """Give up a candidate that never took over. The pipeline is not touched."""
    noted = Note("update_failed", f"{wanted_name(update)}: {reason}")
    return Step(enter(update, "failed", facts, reason, candidate=None), (*halt(update), noted))


def halt(update: Update) -> tuple[Instruction, ...]:
    """Return what ends all work on a candidate that never took over."""
    return (Stop(), *_end_shadow(update), CleanUp())


def roll_back(update: Update, facts: Facts, reason: str, pending: Pending | None = None) -> Step:
    """Go back to the good model. The candidate is kept until the pipeline runs another one, see `leave`."""
    new = enter(update, "rolled_back", facts, reason, pending=pending)
    noted = Note("update_rolled_back", f"{wanted_name(update)}: {reason}")
    return Step(new, (Stop(), *_end_shadow(update), Select(selection(new)), noted))


def leave(update: Update, facts: Facts) -> Step:
    """Forget a candidate that the pipeline does not run any more, and take on the request that waits."""
    left = replace(update, candidate=None, pending=None)
    if update.pending is None:
        return Step(left, (CleanUp(),))
    return then((CleanUp(),), begin(left, update.pending, facts))


def swap(update: Update, facts: Facts, by: str) -> Step:
    """Exchange the good model and the previous one. The same command undoes that."""
    back = update.previous
    name = f"{back.model} {back.version}" if back is not None else "the configuration's model"
    reason = f"{by} went back to {name}."
    new = enter(update, "rolled_back", facts, reason, good=back, previous=update.good)
    return Step(new, (Select(selection(new)), CleanUp(), Note("update_rolled_back", reason)))


def leaving(update: Update) -> bool:
    """Return whether the pipeline may still run a candidate that was rolled back."""
    return update.stage == "rolled_back" and update.candidate is not None


def results(update: Update, facts: Facts) -> int:
    """Return how many results of the candidate were accepted in its trial."""
    return update.results + live(update, facts).accepted


def seconds(update: Update, facts: Facts) -> float:
    """Return how long the candidate has run in its trial."""
    now = live(update, facts)
    return update.seconds + (max(facts.steady - now.counted_to, 0.0) if now.runs else 0.0)
