"""The messages of docs/reference/mqtt.md in MessagePack, under ``limpet/DEVICE/msgpack/``.

They are smaller than JSON, and quicker to read.
"""

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
    """Return a dialect that publishes under ``root/msgpack``. Times are MessagePack timestamps."""
    return Plain(f"{root}/msgpack", msgspec.msgpack.encode, "application/vnd.msgpack")
