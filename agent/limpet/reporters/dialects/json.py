"""Limpet's own: JSON, as docs/reference/mqtt.md describes and docs/schemas/ defines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.reporters.dialects._plain import Plain

if TYPE_CHECKING:
    from limpet.contracts.messages import Origin

__all__ = ["Config", "open"]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """There is nothing to choose."""


def open(config: Config, origin: Origin, root: str) -> Plain:  # noqa: ARG001
    """Return a dialect that publishes under ``root``."""
    return Plain(root, msgspec.json.encode, "application/json")
