"""What happens to an update. ``limpet.updates.machine`` says what follows.

An answer of a process that ``Stop`` has ended is not passed on.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from limpet.contracts.updates import Comparison, DesiredModel
from limpet.updates.state import Deployed


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was read and found right. ``retained``: it is the copy that a broker keeps.

    ``reporter``: name of the reporter that brought it.
    """

    desired: bytes
    request: DesiredModel
    local: bool = False
    signed: bool = False
    retained: bool = False
    reporter: str = ""


class Refused(msgspec.Struct, frozen=True):
    """A request that cannot be carried out: it is damaged, not allowed, or a replay."""

    reason: str
    request_id: str = ""


class Cleared(msgspec.Struct, frozen=True):
    """The request was withdrawn, at the broker of this reporter."""

    reporter: str = ""


class Booted(msgspec.Struct, frozen=True):
    """The daemon has started. ``machine``: with the machine, which a model's driver may have stopped."""

    machine: bool = True


class Tick(msgspec.Struct, frozen=True):
    """Time has passed, or the conditions of a window changed."""


class Fetched(msgspec.Struct, frozen=True):
    """The bundle is in the folder of downloads, with the SHA-256 of the request."""


class NotFetched(msgspec.Struct, frozen=True):
    """The bundle could not be fetched.

    ``final``: it makes no sense to try again. ``progress``: more of the bundle is there than before.
    """

    reason: str
    final: bool
    progress: bool = False


class Verified(msgspec.Struct, frozen=True):
    """The bundle is intact and trusted, and fits this device. It is still in the folder of downloads."""

    bundle: Deployed


class NotVerified(msgspec.Struct, frozen=True):
    """The bundle is damaged, not trusted, too old or not for this device.

    ``final`` is false if the examination itself did not end, so that nothing is known of the bundle.
    """

    reason: str
    final: bool = True


class Placed(msgspec.Struct, frozen=True):
    """The bundle is in its final place, and would be there after a power cut."""


class NotPlaced(msgspec.Struct, frozen=True):
    """The bundle could not be put into its final place: it is gone, or the disk is full."""

    reason: str


class Admitted(msgspec.Struct, frozen=True):
    """The model passed its admission. ``figures``: sentences about what was measured, and what was not checked."""

    figures: str = ""


class NotAdmitted(msgspec.Struct, frozen=True):
    """The model did not pass its admission. ``final`` is false if the admission could not be held."""

    reason: str
    final: bool = True


class Compared(msgspec.Struct, frozen=True):
    """There are newer figures of the shadow or the trial. They count from its beginning in this run."""

    figures: Comparison


class TookOver(msgspec.Struct, frozen=True):
    """The pipeline reports that it runs the model with this identity. Each model is passed on."""

    sha256: str


class NotTakenOver(msgspec.Struct, frozen=True):
    """The candidate did not take over, or the pipeline failed, crashed or hung with it.

    In stage ``shadow``: the candidate failed there. A good model that fails beside a candidate on trial is no
    reason for this. ``outside``: its process was killed by SIGKILL or with the fork server, so the cause may be
    outside of the model.
    """

    reason: str
    outside: bool = False


class Accepted(msgspec.Struct, frozen=True):
    """The ledger has accepted results of this model: so many more."""

    model: str
    version: int
    count: int


class Ordered(msgspec.Struct, frozen=True):
    """An operator's command. ``by``: where it came from."""

    order: Literal["install", "promote", "rollback", "cancel"]
    by: str


Stimulus: TypeAlias = (
    Wanted
    | Refused
    | Cleared
    | Booted
    | Tick
    | Fetched
    | NotFetched
    | Verified
    | NotVerified
    | Placed
    | NotPlaced
    | Admitted
    | NotAdmitted
    | Compared
    | TookOver
    | NotTakenOver
    | Accepted
    | Ordered
)
