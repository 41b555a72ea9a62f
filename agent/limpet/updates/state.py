"""The state of an update, one for each pipeline. It is written to the disk before anything is done.

The file is read as if a stranger had written it: a candidate is examined again before it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from limpet.contracts.updates import (
    LARGEST_DESIRED,
    BundleLength,
    BundleName,
    BundleVersion,
    Comparison,
    DesiredModel,
    Sha256,
    UpdateStage,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_AT_REST = ("idle", "good", "failed", "rolled_back")
NAME = "updates.json"
DEPLOYED = "deployed"
"""Folder in the state directory for bundles that came by an update, as ``NAME-VERSION.limpet``."""
DOWNLOADS = "downloads"
"""Folder in the state directory: a folder for each pipeline, which its deployer alone may change."""
REQUESTS = "requests"
"""Folder in the state directory for requests of `limpet model`, a file for each pipeline."""

PipelineName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
"""Also the name of a folder for downloads, so it leads nowhere else."""
MOST_HEARD = 32
"""Reporters whose last request is remembered."""

UnixTime = Annotated[float, Meta(ge=0, le=1e11)]
Desired = Annotated[bytes, Meta(max_length=LARGEST_DESIRED)]
"""A request as it came. It is base64 in the file: what a stranger wrote cannot damage the rest."""
Reason = Annotated[str, Meta(max_length=1000)]


class Deployed(msgspec.Struct, kw_only=True, frozen=True):
    """A bundle in its final place.

    ``sha256`` is its identity, see ``limpet.models.bundle.Identity``; ``file_sha256`` that of the whole file.
    """

    model: BundleName
    version: BundleVersion
    sha256: Sha256
    file_sha256: Sha256
    length: BundleLength
    signed_by: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=32)] = ()

    @property
    def file(self) -> str:
        """Its name in the folder of deployed bundles."""
        return f"{self.model}-{self.version}.limpet"


class Pending(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A request that waits until the pipeline is back on its good model. Fields are as in `Update`."""

    desired: Desired
    request: DesiredModel
    local: bool = False
    signed: bool = False


class Live(msgspec.Struct, kw_only=True, frozen=True):
    """What is known of a stage in this run of the daemon. It is not written to the disk, see `on_disk`.

    Times are seconds of a clock that is never set. ``next_try``: when a download or verification is tried again.
    ``began``: when the stage or this run of the daemon began. ``runs``: whether the candidate has taken over.
    ``counted_to``: until when ``Update.seconds`` counts. ``accepted``: results that ``Update.results`` lacks.
    ``last_sign``: when the candidate last took over or had a result accepted.
    """

    began: float
    next_try: float | None = None
    runs: bool = False
    counted_to: float = 0.0
    accepted: int = 0
    last_sign: float = 0.0
    figures: Comparison | None = None


class Update(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Where the update of one pipeline is, and which models the pipeline has.

    ``desired`` is the request as it came, with what this Limpet does not know of it; ``request`` is what it
    understood. ``boots``: starts of the machine in this stage; ``restarts``: those of the daemon alone. ``good``
    and ``previous`` are ``None`` for the model of the configuration. ``serial``: the highest one of signed
    requests. ``unsigned_serial``: that of the others, which binds no signed one, and which a withdrawal forgets.
    ``tried``: attempts that failed and are repeated. ``repeated``: how often Limpet began the request again, as
    something outside of the model may have ended it.
    ``candidate`` stays in stage ``rolled_back`` until the pipeline runs another model. ``pending`` is the request
    that follows then. ``heard``: SHA-256 of the last request of each reporter. ``seconds`` and
    ``results``: how long the candidate has run in its trial, and results of it, up to the last note of them.
    """

    pipeline: PipelineName
    stage: UpdateStage = "idle"
    since: UnixTime = 0.0
    reason: Reason = ""
    boots: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    restarts: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    tried: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    repeated: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    desired: Desired = b""
    request: DesiredModel | None = None
    local: bool = False
    """Whether the request came from this device: from a person who may write its state directory."""
    signed: bool = False
    """Whether the request itself was signed by an operator's key."""
    candidate: Deployed | None = None
    good: Deployed | None = None
    previous: Deployed | None = None
    serial: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    unsigned_serial: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    pending: Pending | None = None
    heard: Annotated[dict[Annotated[str, Meta(max_length=64)], Sha256], Meta(max_length=MOST_HEARD)] = {}
    seconds: Annotated[float, Meta(ge=0, le=1e11)] = 0.0
    results: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    live: Live | None = None
    """Always ``None`` on the disk."""

    @property
    def deployed(self) -> tuple[Deployed, ...]:
        """The bundles that must stay on the disk."""
        return tuple(one for one in (self.candidate, self.good, self.previous) if one is not None)


class Updates(msgspec.Struct, kw_only=True):
    """All that is kept: an update for each pipeline, and the highest version of each model that was good."""

    pipelines: Annotated[dict[PipelineName, Update], Meta(max_length=10_000)] = {}
    highest: Annotated[dict[BundleName, BundleVersion], Meta(max_length=10_000)] = {}
    latest: UnixTime = 0.0
    """The latest time that this device has known. Its clock may be set back; expiry counts from here."""
    spent: Annotated[dict[str, int], Meta(max_length=4)] = {}
    """Bytes fetched on a day (``2026-11-28``), for the budget of a metered link."""
    machine: Annotated[str, Meta(max_length=64)] = ""
    """The run of the machine in which this was written, as the kernel names it."""
    format: Annotated[int, Meta(ge=1, le=1)] = 1

    def __post_init__(self) -> None:
        """Refuse an update below the name of another pipeline: two pipelines could have the same one."""
        for name, update in self.pipelines.items():
            if update.pipeline != name:
                raise ValueError(f"the update of {name} is for another pipeline, {update.pipeline}")

    @property
    def deployed(self) -> tuple[Deployed, ...]:
        """The bundles that must stay on the disk, of all pipelines."""
        return tuple(one for update in self.pipelines.values() for one in update.deployed)


def forgotten(pipelines: Iterable[Update]) -> dict[str, Update]:
    """Return what stays of pipelines whose models are forgotten: serials, so that no request is replayed."""
    return {one.pipeline: Update(pipeline=one.pipeline, serial=one.serial) for one in pipelines if one.serial}


def left_of(pipelines: dict[str, Update], configured: Collection[str]) -> dict[str, Update]:
    """Return what is kept of all updates, if these pipelines are configured."""
    gone = forgotten(update for name, update in pipelines.items() if name not in configured)
    return {**{name: update for name, update in pipelines.items() if name in configured}, **gone}


def rests(update: Update) -> bool:
    """Return whether nothing is to be done about an update until something is wanted of it."""
    return update.stage in _AT_REST and update.candidate is None and update.pending is None


def without_candidates(updates: Updates) -> Updates:
    """Return the state as if no model was on trial."""
    replace = msgspec.structs.replace
    pipelines = {name: replace(one, candidate=None) for name, one in updates.pipelines.items()}
    return replace(updates, pipelines=pipelines)


def on_disk(updates: Updates) -> Updates:
    """Return what of it is written to the disk. If that has not changed, nothing has to be written."""
    pipelines = {name: msgspec.structs.replace(one, live=None) for name, one in updates.pipelines.items()}
    return msgspec.structs.replace(updates, pipelines=pipelines)
