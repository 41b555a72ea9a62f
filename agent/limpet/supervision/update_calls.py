"""What updates have done elsewhere in the supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.assignment import Assignment, FoundModel, ShadowAssignment
    from limpet.contracts.updates import ModelName


class Calls(NamedTuple):
    """What updates have done in the daemon.

    ``select``: have the pipelines run what is selected now. ``shadow``: begin or end a shadow. ``publish``: report
    the model of a pipeline. ``report``: an event of a pipeline, with its reason. ``try_out``: return an assignment
    in which a pipeline runs this model; ``None`` if there is none. ``has_model``: whether a pipeline runs a model;
    ``model``: which one. ``has_first``: whether it runs the first one of those that are selected for it.
    """

    select: Callable[[], None]
    shadow: Callable[[str, ShadowAssignment | None], None]
    publish: Callable[[str], None]
    report: Callable[[str, str, str], None]
    try_out: Callable[[str, FoundModel], Assignment | None]
    has_model: Callable[[str], bool]
    model: Callable[[str], ModelName | None]
    has_first: Callable[[str], bool]
