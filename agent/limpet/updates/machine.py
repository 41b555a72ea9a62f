"""What follows for an update: ``(state, what happened) -> (new state, what is to be done)``.

The shell writes the new state to the disk and then carries out the instructions in their order. After a start it
passes on `Booted` for each pipeline, so that every stage begins its work again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from limpet.sha256 import sha256
from limpet.updates import moves, policy, refusals, schedule
from limpet.updates.facts import Facts, Step
from limpet.updates.instructions import Admit, CleanUp, Instruction, Note, Shadow, Stop
from limpet.updates.moves import live
from limpet.updates.orders import order
from limpet.updates.state import MOST_HEARD, Pending, Update, Updates, on_disk
from limpet.updates.stimuli import (
    Accepted,
    Admitted,
    Booted,
    Cleared,
    Compared,
    Fetched,
    NotAdmitted,
    NotFetched,
    NotPlaced,
    NotTakenOver,
    NotVerified,
    Ordered,
    Placed,
    Refused,
    Stimulus,
    Tick,
    TookOver,
    Verified,
    Wanted,
)

if TYPE_CHECKING:
    from limpet.contracts.updates import UpdateWindow

RESTING = frozenset({"idle", "good", "failed", "rolled_back"})
LONGEST_RETURN = 60.0
"""Seconds that a pipeline has to report another model after a rollback. Then the next request goes on anyway."""
LONGEST_SILENCE = 24 * 3600.0
"""Seconds without an accepted result after which a trial is rolled back."""
MOST_REPEATS = 5
"""How often a request is begun again by itself after a process of its model was killed from outside."""
NOTED_EVERY = 3600.0
"""Seconds after which the time and the results of a trial are written to the disk."""


class Applied(NamedTuple):
    """All updates after a step, what is done after that is on the disk, and why a command was refused."""

    updates: Updates
    instructions: tuple[Instruction, ...]
    refused: str


def apply(updates: Updates, pipeline: str, stimulus: Stimulus, facts: Facts) -> Applied:
    """Take one pipeline a step on. What ``facts`` has of other pipelines is taken from ``updates``.

    If ``on_disk`` of the result is what it was, nothing has to be written.
    """
    before = updates.pipelines.get(pipeline) or Update(pipeline=pipeline)
    beside = [update for name, update in updates.pipelines.items() if name != pipeline]
    others = tuple(one for update in beside for one in update.deployed)
    coming = sum(map(_coming, beside))
    known = msgspec.structs.replace(facts, highest=updates.highest, others=others, coming=coming)
    step = advance(before, stimulus, known)
    after = step.update
    highest = updates.highest
    if after.good is not None and after.good != before.good:
        top = max(after.good.version, highest.get(after.good.model, 0))
        highest = {**highest, after.good.model: top}
    pipelines = {**updates.pipelines, pipeline: after}
    changed = msgspec.structs.replace(updates, pipelines=pipelines, highest=highest)
    if on_disk(changed) != on_disk(updates):
        changed = msgspec.structs.replace(changed, latest=max(facts.now, updates.latest))
    return Applied(changed, step.instructions, step.refused)


def _coming(update: Update) -> int:
    """Return the bytes that the download of an update takes, until its bundle is in its final place."""
    fetches = update.stage in ("downloading", "verifying") and update.candidate is None
    return schedule.needed(update.request) if fetches and update.request is not None else 0


def advance(  # noqa: C901, PLR0911, PLR0912 - one case for each stimulus
    update: Update, stimulus: Stimulus, facts: Facts
) -> Step:
    """Return the state of an update after something happened. What does not fit its stage changes nothing."""
    match stimulus:
        case Wanted():
            return _wanted(update, stimulus, facts)
        case Refused():
            return _refused(update, stimulus.reason, facts)
        case Cleared():
            return _cleared(update, stimulus.reporter, facts)
        case Booted():
            return _booted(update, facts, machine=stimulus.machine)
        case Tick():
            return consider(update, facts)
        case Ordered():
            return order(update, stimulus, facts)
        case Compared():
            noted = msgspec.structs.replace(live(update, facts), figures=stimulus.figures)
            return consider(msgspec.structs.replace(update, live=noted), facts)
        case TookOver():
            return _took_over(update, stimulus.sha256, facts)
        case NotTakenOver():
            return _not_taken_over(update, stimulus, facts)
        case Accepted():
            return _accepted(update, stimulus, facts)
    if update.stage == "downloading":
        return _while_downloading(update, stimulus, facts)
    if update.stage == "verifying":
        return _while_verifying(update, stimulus, facts)
    if update.stage == "admission":
        return _while_in_admission(update, stimulus, facts)
    return Step(update)


def _while_downloading(update: Update, stimulus: Stimulus, facts: Facts) -> Step:
    match stimulus:
        case Fetched():
            return moves.verify(update, facts)
        case NotFetched(reason, final=True):
            return moves.fail(update, facts, reason)
        case NotFetched(reason):
            counts = not stimulus.progress
            return moves.fetch_again_later(update, facts, reason, most=moves.MOST_TRIES, counts=counts)
    return Step(update)


def _while_verifying(update: Update, stimulus: Stimulus, facts: Facts) -> Step:
    match stimulus:
        case Verified(bundle) if update.candidate is None:
            return moves.place(update, bundle, facts)
        case NotVerified(reason, final=True):
            return moves.fail(update, facts, reason)
        case NotVerified(reason):
            return moves.fetch_again_later(update, facts, reason, most=moves.MOST_TRIES)
        case Placed() if update.candidate is not None:
            return moves.stage(update, facts)
        case NotPlaced(reason):
            return moves.fetch_again_later(update, facts, reason, most=moves.MOST_TRIES)
    return Step(update)


def _while_in_admission(update: Update, stimulus: Stimulus, facts: Facts) -> Step:
    match stimulus:
        case Admitted(figures):
            noted = Note("update_admitted", f"{moves.wanted_name(update)} is admitted. {figures}".strip())
            return moves.then((noted,), moves.shadow(update, facts))
        case NotAdmitted(reason, final=True):
            return moves.fail(update, facts, reason)
        case NotAdmitted(reason):
            return moves.admit_again_later(update, facts, reason)
    return Step(update)


def _wanted(update: Update, wanted: Wanted, facts: Facts) -> Step:
    seen = sha256(len(wanted.desired))
    seen.update(wanted.desired)
    digest = seen.hexdigest()
    heard = _heard(update, wanted.reporter, digest)
    if wanted.retained and (heard == update.heard or wanted.desired == update.desired):
        return Step(msgspec.structs.replace(update, heard=heard))
    if reason := refusals.replayed(update, wanted):
        return _refused(update, reason, facts)
    asked = Pending(desired=wanted.desired, request=wanted.request, local=wanted.local, signed=wanted.signed)
    update = msgspec.structs.replace(update, repeated=0)
    if not wanted.local:
        update = msgspec.structs.replace(update, heard=heard, **_serials(update, wanted))
    if moves.leaving(update):
        return Step(msgspec.structs.replace(update, pending=asked))
    if update.stage in RESTING:
        return moves.begin(update, asked, facts)
    return _while_another(update, asked, facts)


def _heard(update: Update, reporter: str, digest: str) -> dict[str, str]:
    """Return the last requests of all reporters, with that of one. Each broker may retain another one."""
    if update.heard.get(reporter) == digest:
        return update.heard
    others = [(name, known) for name, known in update.heard.items() if name != reporter]
    return dict([*others[1 - MOST_HEARD :], (reporter, digest)])


def _serials(update: Update, wanted: Wanted) -> dict[str, int]:
    """Return the highest serials seen. Anyone can write a high one into a request that is not signed."""
    serial = wanted.request.serial
    if wanted.signed:
        return {"serial": max(update.serial, serial)}
    return {"unsigned_serial": max(update.unsigned_serial, serial)}


def _while_another(update: Update, asked: Pending, facts: Facts) -> Step:
    """Take on a request while an update is under way."""
    if update.request is not None and refusals.same_bundle(update.request, asked.request):
        return _go_on_with(update, asked, facts)
    disk = schedule.Disk(bound=facts.disk.bound, free=facts.disk.bound)
    older = asked.request.allow_older and (asked.signed or asked.local)
    roomy = msgspec.structs.replace(facts, disk=disk)
    if reason := refusals.refusal(asked.request, update, roomy, older=older):
        return Step(update, (Note("update_refused", reason),))
    if update.stage == "trial":
        return moves.roll_back(update, facts, "Another request came during the trial.", pending=asked)
    ended = moves.enter(update, "idle", facts, candidate=None)
    return moves.then(moves.halt(update), moves.begin(ended, asked, roomy))


def _go_on_with(update: Update, asked: Pending, facts: Facts) -> Step:
    """Take a request for the bundle that is being installed: its policy, window and sources count from now on."""
    sources = update.request is not None and update.request.sources != asked.request.sources
    same = msgspec.structs.replace(
        update, desired=asked.desired, request=asked.request, local=asked.local, signed=asked.signed
    )
    if update.stage == "downloading" and (sources or live(update, facts).next_try is not None):
        return moves.then((Stop(),), moves.fetch(same, facts))
    before, after = _beside(update, facts), _beside(same, facts)
    changes = () if before == after else (after or Shadow(None),)
    return moves.then(changes, consider(same, facts) if update.stage in {"shadow", "trial"} else Step(same))


def _beside(update: Update, facts: Facts) -> Shadow | None:
    """Return what runs beside the model that reports."""
    if update.stage == "shadow":
        return moves.shadowing(update)
    if update.stage == "trial" and live(update, facts).runs and moves.compares_in_trial(update):
        return Shadow(update.good, moves.policy_of(update).shadow_every)
    return None


def _refused(update: Update, reason: str, facts: Facts) -> Step:
    """Report a request that cannot be carried out. What is under way, or runs, goes on."""
    if update.stage not in RESTING or moves.leaving(update):
        return Step(update, (Note("update_refused", reason),))
    if update.stage == "failed" and update.reason == moves.short(reason):
        return Step(update)
    failed = moves.enter(update, "failed", facts, reason)
    return Step(failed, (CleanUp(), Note("update_refused", reason)))


def _cleared(update: Update, reporter: str, facts: Facts) -> Step:
    heard = {name: digest for name, digest in update.heard.items() if name != reporter}
    without = msgspec.structs.replace(
        update, desired=b"", request=None, local=False, signed=False, heard=heard, pending=None, unsigned_serial=0
    )
    if update.request is None and update.pending is None:
        return Step(without)
    noted = Note("update_withdrawn", f"{moves.wanted_name(update)}: the request was withdrawn.")
    if update.stage == "good" or moves.leaving(update):
        return Step(without, (noted,))
    if update.stage == "trial":
        return moves.then((noted,), moves.roll_back(without, facts, "The request was withdrawn."))
    idle = moves.enter(without, "idle", facts, candidate=None)
    return Step(idle, (*moves.halt(update), noted))


def _booted(update: Update, facts: Facts, *, machine: bool) -> Step:
    """Begin the work of a stage again. The shell takes the first `selection` after this step."""
    new = msgspec.structs.replace(
        update,
        boots=update.boots + machine,
        restarts=update.restarts + (not machine),
        live=moves.started(facts),
    )
    if update.stage in RESTING:
        return moves.leave(msgspec.structs.replace(new, boots=0, restarts=0), facts)
    if update.stage in ("downloading", "verifying"):
        return moves.resume(new, facts)
    if update.candidate is None:
        return moves.fail(new, facts, "The state on the disk names no bundle.")
    if new.stage != "staged" and (often := moves.often_started(new)):
        reason = f"{often} during the {update.stage}."
        give_up = moves.roll_back if update.stage == "trial" else moves.fail
        return give_up(new, facts, reason)
    begins: dict[str, Instruction] = {"admission": Admit(update.candidate), "shadow": moves.shadowing(update)}
    return Step(new, (begins[new.stage],) if new.stage in begins else ())


def _took_over(update: Update, identity: str, facts: Facts) -> Step:
    candidate = update.candidate
    ours = candidate is not None and candidate.sha256 == identity
    if moves.leaving(update):
        return Step(update) if ours else moves.leave(update, facts)
    if update.stage != "trial":
        return Step(update)
    known = live(update, facts)
    if ours and known.runs:
        return Step(update)
    if ours:
        runs = msgspec.structs.replace(known, runs=True, counted_to=facts.steady, last_sign=facts.steady)
        new = msgspec.structs.replace(update, live=runs)
        beside = _beside(new, facts)
        return Step(new, (beside,) if beside is not None else ())
    if known.runs or update.boots or update.restarts:
        return moves.roll_back(update, facts, "The pipeline runs another model instead.")
    return Step(update)


def _not_taken_over(update: Update, ended: NotTakenOver, facts: Facts) -> Step:
    again = _again(update) if ended.outside else None
    counted = msgspec.structs.replace(update, repeated=update.repeated + (again is not None))
    if update.stage == "trial":
        return moves.roll_back(counted, facts, ended.reason, pending=again)
    if update.stage == "shadow":
        failed = moves.fail(counted, facts, ended.reason)
        return (
            failed if again is None else moves.then(failed.instructions, moves.begin(failed.update, again, facts))
        )
    return moves.leave(update, facts) if moves.leaving(update) else Step(update)


def _again(update: Update) -> Pending | None:
    """Return the request, to be begun again; ``None`` if that was done too often, or its bundle came by hand."""
    if update.request is None or update.local or update.repeated >= MOST_REPEATS:
        return None
    return Pending(desired=update.desired, request=update.request, local=False, signed=update.signed)


def _accepted(update: Update, accepted: Accepted, facts: Facts) -> Step:
    """Count results of the candidate since it took over."""
    candidate, known = update.candidate, live(update, facts)
    if update.stage != "trial" or candidate is None or not known.runs:
        return Step(update)
    if (accepted.model, accepted.version) != (candidate.model, candidate.version):
        return Step(update)
    counted = known.accepted + max(accepted.count, 0)
    more = msgspec.structs.replace(known, accepted=counted, last_sign=facts.steady)
    return consider(msgspec.structs.replace(update, live=more), facts)


def consider(update: Update, facts: Facts) -> Step:
    """Look whether a stage is over: time has passed, there are newer figures, or a window opened."""
    match update.stage:
        case "downloading" | "verifying" | "admission":
            return _try_again(update, facts)
        case "staged":
            return _consider_start(update, facts)
        case "shadow":
            return _consider_shadow(update, facts)
        case "trial":
            return _consider_trial(update, facts)
        case "rolled_back" if moves.leaving(update):
            late = facts.steady - live(update, facts).began >= LONGEST_RETURN
            return moves.leave(update, facts) if late else Step(update)
    return Step(update)


def _try_again(update: Update, facts: Facts) -> Step:
    due = live(update, facts).next_try
    if due is None or facts.steady < due:
        return Step(update)
    if update.stage == "admission" and update.candidate is not None:
        again = msgspec.structs.replace(live(update, facts), next_try=None)
        return Step(msgspec.structs.replace(update, live=again, reason=""), (Admit(update.candidate),))
    return moves.fetch(update, facts)


def _consider_start(update: Update, facts: Facts) -> Step:
    if update.request is not None and (reason := refusals.expired(update.request, facts.now)):
        return moves.fail(update, facts, reason)
    if moves.policy_of(update).start == "operator":
        return _waits(update, "The model waits for the command install.")
    if reason := _why_not_now(update, facts):
        return _waits(update, reason)
    return moves.admit(update, facts)


def _why_not_now(update: Update, facts: Facts) -> str:
    return refusals.pinned(facts) or schedule.why_not_now(_windows(update, facts), facts.conditions)


def _consider_shadow(update: Update, facts: Facts) -> Step:
    if not facts.has_model:
        return moves.trial(update, facts)
    figures = live(update, facts).figures
    verdict = (
        policy.judge_shadow(figures, moves.policy_of(update)) if figures is not None else policy.Verdict("wait")
    )
    if verdict.kind == "reject":
        return moves.fail(update, facts, verdict.reason)
    if verdict.kind == "wait":
        return _waits(update, verdict.reason)
    waits_for = _why_not_promoted(update) or _why_not_now(update, facts)
    return _waits(update, waits_for) if waits_for else moves.trial(update, facts)


def _why_not_promoted(update: Update) -> str:
    return "" if moves.policy_of(update).promote == "auto" else "The model waits for the command promote."


def _consider_trial(update: Update, facts: Facts) -> Step:
    known = live(update, facts)
    if facts.steady - known.last_sign >= LONGEST_SILENCE:
        hours = LONGEST_SILENCE / 3600
        return moves.roll_back(update, facts, f"No result of the new model was accepted in {hours:.0f} hours.")
    results, seconds = moves.results(update, facts), moves.seconds(update, facts)
    beside = moves.compares_in_trial(update)
    verdict = policy.judge_trial(known.figures, moves.policy_of(update), results, seconds, beside=beside)
    if verdict.kind == "reject":
        return moves.roll_back(update, facts, verdict.reason)
    if verdict.kind == "promote" and known.accepted:
        if reason := _why_not_promoted(update):
            return _waits(_noted(update, facts), reason)
        return moves.promote(update, facts)
    return _waits(_noted(update, facts), verdict.reason if verdict.kind == "wait" else "")


def _noted(update: Update, facts: Facts) -> Update:
    """Take down how far a trial is, now and then. A candidate that runs for that long does not crash at once."""
    known = live(update, facts)
    if not known.runs or facts.steady - known.counted_to < NOTED_EVERY:
        return update
    return msgspec.structs.replace(
        update,
        seconds=moves.seconds(update, facts),
        results=moves.results(update, facts),
        boots=0,
        restarts=0,
        live=msgspec.structs.replace(known, counted_to=facts.steady, accepted=0),
    )


def _waits(update: Update, reason: str) -> Step:
    return Step(msgspec.structs.replace(update, reason=moves.short(reason)))


def _windows(update: Update, facts: Facts) -> tuple[UpdateWindow, ...]:
    own = (update.request.window,) if update.request is not None else ()
    return (facts.window, *own)


def due(update: Update, facts: Facts) -> float | None:
    """Return after how many seconds the shell passes on a `Tick`. ``None``: not before something else happens."""
    known = live(update, facts)
    match update.stage:
        case "downloading" | "verifying" | "admission":
            return None if known.next_try is None else max(known.next_try - facts.steady, 0.0)
        case "staged":
            return _start_due(update, facts)
        case "shadow":
            return schedule.next_look(_windows(update, facts), facts.conditions)
        case "trial":
            return _trial_due(update, facts)
        case "rolled_back" if moves.leaving(update):
            return max(known.began + LONGEST_RETURN - facts.steady, 0.0)
    return None


def _start_due(update: Update, facts: Facts) -> float | None:
    if moves.policy_of(update).start == "operator":
        expires = update.request is not None and update.request.expires is not None
        return schedule.LONGEST_LOOK if expires else None
    return schedule.next_look(_windows(update, facts), facts.conditions) if _why_not_now(update, facts) else 0.0


def _trial_due(update: Update, facts: Facts) -> float:
    known = live(update, facts)
    waits = [known.last_sign + LONGEST_SILENCE - facts.steady]
    if known.runs:
        waits.append(known.counted_to + NOTED_EVERY - facts.steady)
        left = moves.policy_of(update).trial_seconds - moves.seconds(update, facts)
        waits.extend([left] if left > 0 else [])
    return max(min(waits), 0.0)
