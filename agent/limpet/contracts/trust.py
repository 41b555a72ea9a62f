"""What a device trusts, as ``trust`` of its health and as ``limpet trust show --json`` prints it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

KeyId = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""SHA-256 of a key, as TUF computes it."""
RoleName = Literal["root", "models", "operators"]
"""Keys that sign roots, models and requests. In a root's file they are ``root``, ``targets`` and ``timestamp``."""


class TrustedRole(msgspec.Struct, frozen=True):
    """The keys of a role, and how many of them must sign."""

    keys: Annotated[list[KeyId], Meta(max_length=32)]
    threshold: Annotated[int, Meta(ge=1, le=32)]


class TrustReport(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What this device trusts.

    ``models`` is ``signed`` if there is a root: then unsigned models do not run. Otherwise it is ``unsigned``:
    models from local files run unsigned. ``root``: version of the newest root. After ``expires``, the device
    takes no new model. ``problem``: what is wrong with the root, such as an expiry in the next 30 days.
    """

    models: Literal["signed", "unsigned"]
    root: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    expires: datetime | None = None
    roles: dict[RoleName, TrustedRole] = {}
    problem: Annotated[str, Meta(max_length=1000)] = ""
