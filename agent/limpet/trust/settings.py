"""What a process needs to know to decide whom it trusts. No cryptography here: the supervisor imports this."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from limpet.device import state_files
from limpet.untrusted import reading
from limpet.updates.state import NAME, Updates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from limpet.config import Config

FOLDER = "trust"
"""Folder in the state directory: newer roots as ``N.root.json``, and ``accepted.json``."""
_ACCEPTED = "accepted.json"
MOST_ACCEPTED = 256
"""Models that are remembered as once accepted, the newest ones."""
_LARGEST = 1 << 20
_LARGEST_UPDATES = 64 << 20

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """Where the root of trust is, and what is known about time and models.

    ``anchor``: the root's file in the configuration. ``chain``: the folder with newer roots. ``latest``: the
    latest time in seconds since 1970 that this device has known. ``accepted``: SHA-256 of manifests that were
    accepted while their signature and the root were in date. They still run after an expiry. ``signed_requests``:
    whether requests over the network must be signed.
    """

    anchor: Path
    chain: Path
    latest: float = 0.0
    accepted: tuple[Digest, ...] = ()
    signed_requests: bool = False

    def now(self) -> datetime:
        """Return the time from which expiry counts. A clock that was never set, or set back, does not count."""
        return datetime.fromtimestamp(min(max(time.time(), self.latest), 1e11), timezone.utc)


def name_of(version: int) -> str:
    """Return the name of a newer root's file in the state directory."""
    return f"{version}.root.json"


class _Accepted(msgspec.Struct):
    manifests: Annotated[list[Digest], Meta(max_length=MOST_ACCEPTED)]
    format: Annotated[int, Meta(ge=1, le=1)] = 1


def trust_of(config: Config) -> Trust | None:
    """Return what a configuration trusts; ``None`` without a root: local models then run unsigned."""
    if config.trust is None:
        return None
    folder = config.device.state / FOLDER
    return Trust(
        anchor=config.trust.root,
        chain=folder,
        latest=_latest(config),
        accepted=tuple(accepted(folder)),
        signed_requests=config.trust.signed_requests,
    )


def accepted(folder: Path) -> list[str]:
    """Return the manifests that were accepted in date, the newest last. A file that cannot be read has none."""
    try:
        found = state_files.read(folder / _ACCEPTED, _Accepted, _LARGEST, None, "")
    except OSError:
        return []
    return found.manifests if found else []


def accept(folder: Path, manifests: Iterable[str]) -> None:
    """Remember manifests as accepted in date. ``OSError`` if they cannot be written."""
    before = accepted(folder)
    new = [one for one in dict.fromkeys(manifests) if one not in before]
    if not new:
        return
    folder.mkdir(parents=True, exist_ok=True)
    state_files.replace(folder / _ACCEPTED, msgspec.json.encode(_Accepted([*before, *new][-MOST_ACCEPTED:])))


def _latest(config: Config) -> float:
    try:
        with reading(NAME):
            found = state_files.read(config.device.state / NAME, Updates, _LARGEST_UPDATES, None, "")
    except OSError:
        return 0.0
    return found.latest if found else 0.0
