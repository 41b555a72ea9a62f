"""What is to be done about an update, in this order, after its new state is on the disk."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from limpet.contracts.updates import DesiredModel
from limpet.updates.state import Deployed


class Fetch(msgspec.Struct, frozen=True):
    """Start a deployer. What is there of the bundle already is gone on with.

    ``most_bytes``: what the day's budget leaves, ``None`` for any number. If they are used up, the answer is
    ``NotFetched`` and not final.
    """

    request: DesiredModel
    most_bytes: int | None = None


class Verify(msgspec.Struct, frozen=True):
    """Examine the download in a sandbox. The answer is ``Verified`` or ``NotVerified``."""

    request: DesiredModel


class Place(msgspec.Struct, frozen=True):
    """Put the download into its final place, so that it stays there after a power cut.

    If the download is gone and the final place has a file of this length, that was done before: the answer is
    ``Placed``. The file is examined again before it runs.
    """

    bundle: Deployed


class Admit(msgspec.Struct, frozen=True):
    """Try the candidate in a separate process."""

    candidate: Deployed


class Shadow(msgspec.Struct, frozen=True):
    """Run this model beside the one that reports, and compare. ``None``: end that.

    It is the candidate, or on trial the good model.
    """

    model: Deployed | None
    every: int = 1
    share: float = 0.0


class Select(msgspec.Struct, frozen=True):
    """Have the pipeline run the first of these that works: ``None`` is the model of the configuration."""

    models: tuple[Deployed | None, ...]


class Stop(msgspec.Struct, frozen=True):
    """End the deployer, the verification and the admission of this pipeline."""


class CleanUp(msgspec.Struct, frozen=True):
    """Delete the download, and every deployed bundle that no pipeline has as candidate, good or previous."""


class Note(msgspec.Struct, frozen=True):
    """Write this into the audit journal, and report it as an event."""

    event: str
    text: str


Instruction: TypeAlias = Fetch | Verify | Place | Admit | Shadow | Select | Stop | CleanUp | Note
