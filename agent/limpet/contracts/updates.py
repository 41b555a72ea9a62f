"""The model of a pipeline: which one is desired, and how far the device is with it.

``DesiredModel`` comes in on ``model/<pipeline>/desired``, from a file or from ``limpet model install``.
``UpdateReport`` goes out in ``model/<pipeline>/reported``. JSON Schemas under docs/schemas/ are made from these.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.fields import Share

LARGEST_DESIRED = 1 << 16
"""Bytes of a desired state, its signatures among them."""
MOST_SOURCES = 8
LARGEST_BUNDLE = 1 << 31
LARGEST_PATCHED = 1 << 26
"""Bytes of a bundle that is made by a patch, and of the older one. Both are in memory meanwhile."""

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
BundleName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]
BundleVersion = Annotated[int, Meta(ge=0, le=1 << 53)]
if TYPE_CHECKING:
    VersionPair: TypeAlias = tuple[BundleVersion, BundleVersion]
else:
    # msgspec 0.22 crashes the garbage collector with a tuple of fixed length beside a number that has limits.
    VersionPair = Annotated[tuple[BundleVersion, ...], Meta(min_length=2, max_length=2)]
BundleLength = Annotated[int, Meta(ge=1, le=LARGEST_BUNDLE)]
TimeOfDay = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z", extra={"use": 'a time as "02:30"'})]
RequestId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{0,64}\Z")]

UpdateStage: TypeAlias = Literal[
    "idle",
    "downloading",
    "verifying",
    "staged",
    "admission",
    "shadow",
    "trial",
    "good",
    "failed",
    "rolled_back",
]
"""``staged``: the bundle is verified and in its final place, and waits for its window or for an operator.

``shadow``: it runs beside the old model, or takes a share of the windows. ``trial``: it has taken over, and can
still be rolled back by itself. ``good``: results of it were accepted, and the trial is over.
"""


class BundleSource(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One place that has the bundle. They are tried in order.

    Either ``url`` (http or https), or ``chunks``: the SHA-256 of the list of chunks on
    ``limpet-bundles/<sha256>/list``, see ``limpet.contracts.chunks``. With ``patch_of``, the place has a patch for
    the bundle with that SHA-256, which the device must have. ``sha256`` and ``length`` are those of the patch.
    """

    url: Annotated[str, Meta(max_length=2048)] = ""
    chunks: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    patch_of: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    length: Annotated[int, Meta(ge=0, le=LARGEST_BUNDLE)] = 0


class UpdateWindow(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """When a staged model may be put to work. All conditions must hold. Default: at any time."""

    begin: TimeOfDay | None = None
    """Local time of the device from which on. The window may pass midnight. Default: no limit. Example:
    `"02:00"`."""
    end: TimeOfDay | None = None
    """Local time until which. Default: no limit. Example: `"04:00"`."""
    idle: bool = False
    """Whether the CPU must not be busy, by the limits of `[governor]`."""
    mains: bool = False
    """Whether the device must not run on its battery."""


class UpdatePolicy(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """How a model gets from staged to good.

    ``start``: ``operator`` waits for the command ``install``. ``promote``: ``operator`` waits for ``promote`` at
    the end of the shadow and of the trial. ``shadow_windows``: windows on which the model is compared with the old
    one before it takes over; 0 leaves that out. ``shadow_every``: one window in so many. ``share``: share of the
    windows whose result is the new model's during the shadow. ``trial_windows`` and ``trial_seconds``: both must
    be over before the trial ends well.

    Limits: ``least_agreement`` with the old model, as a share. ``most_errors``: share of windows without a result.
    ``most_slowdown``: times the old model's median latency. ``least_feedback``: so many answers with feedback are
    waited for. The new model is then refused if it is right less often than the old one, by more than
    ``most_worse``.
    """

    start: Literal["now", "operator"] = "now"
    promote: Literal["auto", "operator"] = "auto"
    shadow_windows: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    shadow_every: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    share: Share = 0.0
    trial_windows: Annotated[int, Meta(ge=1, le=10_000_000)] = 20
    trial_seconds: Annotated[float, Meta(ge=0, le=1e7)] = 0.0
    least_agreement: Share = 0.0
    most_errors: Share = 0.05
    most_slowdown: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    least_feedback: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    most_worse: Share = 0.0


class DesiredModel(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The model that a pipeline should run. Fields that this Limpet does not know are kept and ignored.

    ``version`` is one version, or the lowest and the highest one that will do. ``sha256`` and ``length`` are those
    of the bundle's file. ``id`` is the operator's own name for the request. ``serial`` rises with each
    request: a device refuses one that is lower than what it has seen. ``expires``: it is refused later than that.
    ``allow_older``: a version below the highest good one will do. That counts only in a signed request.
    ``pipeline`` and ``devices``: the request is for these alone. A signed request must name its pipeline, so that
    a copy of it on another topic is refused.
    """

    model: BundleName
    version: BundleVersion | VersionPair
    sha256: Sha256
    length: BundleLength
    sources: Annotated[list[BundleSource], Meta(max_length=MOST_SOURCES)] = []
    policy: UpdatePolicy = UpdatePolicy()
    window: UpdateWindow = UpdateWindow()
    id: RequestId = ""
    serial: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    expires: datetime | None = None
    allow_older: bool = False
    pipeline: Annotated[str, Meta(max_length=64)] = ""
    devices: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=1000)] = []


class ModelName(msgspec.Struct, frozen=True):
    """Name and version of a model."""

    model: str
    version: int


class Comparison(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is known of a new model beside the old one. Counts run since the shadow or the trial began.

    ``windows``: those on which both models gave outputs that can be compared. ``results`` and ``errors``: windows
    on which the new model gave a result, and on which it failed. ``skipped``: windows that a shadow left out.
    ``agreement``: mean over ``windows``, 0 to 1, ``None`` without one. ``right_new`` and ``right_old``: how often
    each was right, of the results with ``feedback``. Latencies are medians in µs, without waiting. ``scores_new``
    and ``scores_old``: how many scores were in each tenth from 0 to 1, empty if there are none.
    """

    windows: int = 0
    results: int = 0
    errors: int = 0
    skipped: int = 0
    agreement: float | None = None
    feedback: int = 0
    right_new: int = 0
    right_old: int = 0
    latency_new_us: float | None = None
    latency_old_us: float | None = None
    scores_new: list[int] = []
    scores_old: list[int] = []


class UpdateReport(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far an update of a pipeline's model is, as ``update`` of ``model/<pipeline>/reported``.

    ``wanted`` is the model of the request. ``progress``: share of the stage that is done, ``None`` if that is not
    known. ``good``: the last model that went through its trial; ``previous``: the one before, for a rollback. Both
    are ``None`` while the configuration's own model is the last good one. ``signed_by``: ids of the keys that
    signed the new model if it is verified, else the good one.
    """

    stage: UpdateStage
    since: datetime
    reason: str = ""
    id: str = ""
    serial: int = 0
    wanted: ModelName | None = None
    sha256: str = ""
    progress: float | None = None
    good: ModelName | None = None
    previous: ModelName | None = None
    signed_by: list[str] = []
    compared: Comparison | None = None
