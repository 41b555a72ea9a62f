"""What the rules of updates depend on beside the update itself, and what they return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from limpet.contracts.updates import ModelName, UpdateWindow
from limpet.updates.schedule import ANY_TIME, Conditions, Disk
from limpet.updates.state import Deployed, Update

if TYPE_CHECKING:
    from limpet.updates.instructions import Instruction


class Facts(msgspec.Struct, kw_only=True, frozen=True):
    """What the device is like now.

    ``now``: seconds since 1970, never before the latest time that this device has known. ``steady``: seconds of a
    clock that is never set. ``window``, ``per_day`` and ``disk`` are from the configuration. ``spent``: bytes
    fetched on a day. ``has_model``: whether the pipeline has a model to run. ``has_good``: whether the good
    model is one that the pipeline can run; its file may be damaged. ``own``: the model of the configuration, if
    that is what the pipeline runs. ``pinned``: whether a person chose a version for this pipeline, so that no
    update changes its model. ``highest``: the highest version of each model that was good. ``others``: bundles
    that other pipelines have. ``coming``: bytes that their downloads take. `machine.apply` fills in the last
    three.
    """

    now: float
    steady: float
    disk: Disk
    conditions: Conditions = Conditions()
    window: UpdateWindow = ANY_TIME
    per_day: int | None = None
    spent: Mapping[str, int] = {}
    has_model: bool = True
    has_good: bool = True
    own: ModelName | None = None
    pinned: bool = False
    highest: Mapping[str, int] = {}
    others: tuple[Deployed, ...] = ()
    coming: int = 0


class Step(NamedTuple):
    """The new state, what is done after that is on the disk, and why an operator's command was refused."""

    update: Update
    instructions: tuple[Instruction, ...] = ()
    refused: str = ""
