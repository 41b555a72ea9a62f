"""What a framing must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from limpet.contracts.data import Rows


class Framing(Protocol):
    """Bytes of a serial line to rows of channel values, without I/O.

    ``modulo``: the node's sequence counter goes from ``modulo - 1`` to 0; ``None`` if it never wraps.
    """

    modulo: int | None

    def feed(self, data: bytes) -> Rows:
        """Take the bytes that came, in pieces of any size, and return the rows that they complete.

        It never raises, counts what it cannot read by cause, and keeps no more than one frame.
        """


class FramingPlugin(Protocol):
    """``ValueError`` from ``open`` says why it cannot read such channels."""

    Config: Any

    def open(self, config: Any, channels: Sequence[str], dropped: Counter[str]) -> Framing:
        """Start again, as after opening a port: the first frame may be the rest of one."""
