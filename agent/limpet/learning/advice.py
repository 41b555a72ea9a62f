"""When a model should be trained again, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.fields import Count, Positive
from limpet.learning.accuracy import MARGIN, Accuracy, Counted, floor_of_slice, outcomes
from limpet.learning.evidence import has_fallen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet.learning.expected import Expected


class RetrainingOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """``retraining`` of a pipeline: when the event `retraining_advised` is published."""

    drift_hours: Positive = 24.0
    """Hours for which an alarm of drift must have lasted. Alarms about faults of a sensor do not count."""
    labels: Count = 500
    """Labels from people since the model took over, from which on they are worth a training."""


class Reason(msgspec.Struct, frozen=True):
    """Why. ``kind`` makes the same reason known again: ``drift``, ``accuracy``, ``labels`` or a slice."""

    kind: str
    text: str


def reasons(
    known: Accuracy | None,
    expected: Expected | None,
    drifts: Mapping[str, float],
    options: RetrainingOptions,
) -> list[Reason]:
    """Return all reasons for a training that hold now. ``drifts``: seconds that each alarm has lasted."""
    found = [
        Reason("drift", f"The monitor {name} has reported drift for {seconds / 3600:.1f} h.")
        for name, seconds in sorted(drifts.items(), key=lambda one: -one[1])
        if seconds >= options.drift_hours * 3600
    ][:1]
    if known is None:
        return found
    if (reason := accuracy_reason(known, expected)) is not None:
        found.append(reason)
    found += [Reason(f"slice {name}", text) for name, text in slices_behind(known, expected).items()]
    if known.labels >= options.labels:
        found.append(Reason("labels", f"There are {known.labels} labels from people for windows of this model."))
    return found


def accuracy_reason(known: Accuracy, expected: Expected | None) -> Reason | None:
    """Return that the model is right less often than its reference says, if that is so."""
    if expected is None or expected.accuracy is None:
        return None
    last = outcomes(known)
    if not has_fallen(last, expected.accuracy - MARGIN):
        return None
    return Reason("accuracy", f"{_right(last)}. In the bundle's reference, {expected.accuracy:.1%} were.")


def slices_behind(known: Accuracy, expected: Expected | None) -> dict[str, str]:
    """Return the slices whose accuracy is lower than expected, each with a sentence."""
    found = {}
    for name in known.slices:
        floor = floor_of_slice(known, name, expected)
        if floor is None:
            continue
        last = outcomes(known, name)
        if has_fallen(last, floor):
            found[name] = f"{name}: {_right(last)}. At least {floor:.1%} are expected"
    return found


def _right(answers: list[bool]) -> str:
    share = Counted(len(answers), sum(answers)).share
    return (
        f"{share.right} of the last {share.answers} results with feedback were right "
        f"({share.low:.1%} to {share.high:.1%})"
    )
