"""The state of an update, one for each pipeline. It is written to the disk before anything is done.

The file is read as if a stranger had written it: a candidate is examined again before it runs.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from limpet.contracts.updates import (
    BundleLength,
    BundleName,
    BundleVersion,
    DesiredModel,
    Sha256,
    UpdateStage,
)

NAME = "updates.json"
DEPLOYED = "deployed"
"""Folder in the state directory for bundles that came by an update, as ``NAME-VERSION.limpet``."""
DOWNLOADS = "downloads"
"""Folder in the state directory: a folder for each pipeline, which its deployer alone may change."""
REQUESTS = "requests"
"""Folder in the state directory for requests of `limpet model`, a file for each pipeline."""

UnixTime = Annotated[float, Meta(ge=0, le=1e11)]
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


class Update(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Where the update of one pipeline is, and which models the pipeline has.

    ``desired`` is the request as it came, with what this Limpet does not know of it; ``request`` is what it
    understood. ``boots``: starts of the daemon in this stage. ``good`` and ``previous`` are ``None`` for the model
    of the configuration. ``serial``: the highest one seen. ``tried``: attempts of the stage that failed and are
    repeated.
    """

    pipeline: Annotated[str, Meta(max_length=64)]
    stage: UpdateStage = "idle"
    since: UnixTime = 0.0
    reason: Reason = ""
    boots: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    tried: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    desired: msgspec.Raw = msgspec.Raw(b"")
    request: DesiredModel | None = None
    local: bool = False
    """Whether the request came from this device: from a person who may write its state directory."""
    signed: bool = False
    """Whether the request itself was signed by an operator's key."""
    candidate: Deployed | None = None
    good: Deployed | None = None
    previous: Deployed | None = None
    serial: Annotated[int, Meta(ge=0, le=1 << 53)] = 0


class Updates(msgspec.Struct, kw_only=True):
    """All that is kept: an update for each pipeline, and the highest version of each model that was good."""

    pipelines: Annotated[dict[str, Update], Meta(max_length=10_000)] = {}
    highest: Annotated[dict[BundleName, BundleVersion], Meta(max_length=10_000)] = {}
    latest: UnixTime = 0.0
    """The latest time that this device has known. Its clock may be set back; expiry counts from here."""
    spent: Annotated[dict[str, int], Meta(max_length=4)] = {}
    """Bytes fetched on a day (``2026-11-28``), for the budget of a metered link."""
    format: Annotated[int, Meta(ge=1, le=1)] = 1
