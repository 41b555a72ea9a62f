"""What the figures of a shadow or a trial mean: wait, promote or reject.

A limit is applied to the measured figure at the end. Before that, a model is rejected only if chance explains the
figure in less than one of a hundred cases.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from limpet.contracts.updates import Comparison

if TYPE_CHECKING:
    from limpet.contracts.updates import UpdatePolicy

CHANCE = 0.01
"""How often a model at its limit is rejected early, by chance."""
CLEARLY_WORSE = 2.326
"""Standard deviations that chance exceeds in one of a hundred cases, to one side."""
MOST_FEEDBACK = 10
"""Times ``least_feedback``: with so many answers, the measured difference decides."""

WAITS = "The model waits for more feedback."


class Verdict(NamedTuple):
    """What is to be done, and why: a sentence."""

    kind: Literal["wait", "promote", "reject"]
    reason: str = ""


def judge_shadow(figures: Comparison, policy: UpdatePolicy) -> Verdict:
    """Say what the figures of a shadow mean. ``promote``: the model can take over."""
    seen = _seen(figures)
    full = seen >= policy.shadow_windows
    if problem := _problem(figures, policy, full=full):
        return Verdict("reject", problem)
    if not full:
        return Verdict("wait")
    if policy.least_agreement and figures.agreement is None:
        return Verdict(
            "reject", "Its outputs cannot be compared with the old model's. policy.least_agreement needs that."
        )
    return _by_feedback(figures, policy)


def judge_trial(
    figures: Comparison | None, policy: UpdatePolicy, results: int, seconds: float, *, beside: bool
) -> Verdict:
    """Say what a trial means. ``promote``: the model is good.

    ``results``: accepted results of the model since it took over, in ``seconds``. ``beside``: whether the old one
    runs beside it. Otherwise limits that need the old model are not judged here.
    """
    figures = figures if figures is not None else Comparison()
    over = results >= policy.trial_windows and results > 0 and seconds >= policy.trial_seconds
    compared = not beside or figures.windows * policy.shadow_every >= policy.trial_windows
    if problem := _problem(figures, policy, full=over and compared):
        return Verdict("reject", problem)
    if not over:
        return Verdict("wait")
    if not compared:
        return Verdict("wait", "The model waits until it is compared with the old one.")
    return _by_feedback(figures, policy) if beside else Verdict("promote")


def compares_in_trial(policy: UpdatePolicy) -> bool:
    """Return whether limits that need the old model are judged in the trial: without a shadow they are."""
    return not policy.shadow_windows and needs_old_model(policy)


def needs_old_model(policy: UpdatePolicy) -> bool:
    """Return whether a limit compares the new model with the old one."""
    return bool(policy.least_agreement or policy.most_slowdown or policy.least_feedback)


def _seen(figures: Comparison) -> int:
    return max(figures.windows, figures.results + figures.errors)


def _problem(figures: Comparison, policy: UpdatePolicy, *, full: bool) -> str:
    """Return what is wrong apart from feedback, and whether it is certain enough: at the end it always is."""
    seen = _seen(figures)
    if _too_many_errors(figures.errors, seen, policy.most_errors, full=full):
        return f"{figures.errors} of {seen} windows have no result. {policy.most_errors:.1%} may have none."
    agreement = figures.agreement
    if agreement is not None and _too_low(agreement, figures.windows, policy.least_agreement, full=full):
        return (
            f"It agrees with the old model by {agreement:.1%} over {figures.windows} windows. "
            f"At least {policy.least_agreement:.1%} is needed."
        )
    new, old = figures.latency_new_us, figures.latency_old_us
    if full and policy.most_slowdown and new is not None and old is not None and new > policy.most_slowdown * old:
        return (
            f"It takes {new:.0f} µs a window, and the old model {old:.0f} µs. "
            f"At most {policy.most_slowdown:g} times that is allowed."
        )
    worse = _how_much_worse(figures, policy)
    if figures.feedback and worse >= CLEARLY_WORSE:
        return _worse(figures, policy)
    return ""


def _too_many_errors(errors: int, seen: int, most: float, *, full: bool) -> bool:
    """Chernoff's bound: how likely so many errors are, if ``most`` is the true share."""
    if not seen or errors <= most * seen:
        return False
    return full or math.exp(-seen * _divergence(errors / seen, most)) < CHANCE


def _divergence(share: float, expected: float) -> float:
    if expected <= 0.0:
        return math.inf
    rest = (1 - share) * math.log((1 - share) / (1 - expected)) if share < 1 else 0.0
    return share * math.log(share / expected) + rest


def _too_low(agreement: float, windows: int, least: float, *, full: bool) -> bool:
    """Hoeffding's bound: how likely so low a mean is, if ``least`` is the true one."""
    if agreement >= least:
        return False
    return full or math.exp(-2.0 * windows * (least - agreement) ** 2) < CHANCE


def _by_feedback(figures: Comparison, policy: UpdatePolicy) -> Verdict:
    """Say what feedback means. A difference that chance can explain needs more answers, up to a limit."""
    if figures.feedback < policy.least_feedback:
        return Verdict("wait", WAITS)
    if not policy.least_feedback or not _is_worse(figures, policy):
        return Verdict("promote")
    if figures.feedback < policy.least_feedback * MOST_FEEDBACK:
        return Verdict("wait", WAITS)
    return Verdict("reject", _worse(figures, policy))


def _is_worse(figures: Comparison, policy: UpdatePolicy) -> bool:
    return figures.right_old - figures.right_new > policy.most_worse * figures.feedback


def _how_much_worse(figures: Comparison, policy: UpdatePolicy) -> float:
    """Return by how many standard deviations the new model is worse than it may be.

    Both models answer the same windows, so only those count where just one is right (McNemar). How many these are
    is not known: the largest possible number is the safe guess. 1 is the correction for continuity.
    """
    if not _is_worse(figures, policy):
        return 0.0
    right = figures.right_old + figures.right_new
    differ = max(min(right, 2 * figures.feedback - right), 1)
    more = figures.right_old - figures.right_new
    return (more - policy.most_worse * figures.feedback - 1.0) / math.sqrt(differ)


def _worse(figures: Comparison, policy: UpdatePolicy) -> str:
    return (
        f"It is right in {figures.right_new} of {figures.feedback} answers with feedback, and the old model in "
        f"{figures.right_old}. It may be worse by {policy.most_worse:.1%}."
    )
