"""Where messages wait until the broker has acknowledged them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

Class: TypeAlias = Literal["event", "result"]
CLASSES: tuple[Class, ...] = ("event", "result")
"""In the order in which they are sent. Retained state is not kept here: of that only the newest matters."""


class Entry(NamedTuple):
    """One message. ``items`` is the number of results in it, ``born`` its ``time.monotonic``."""

    kind: Class
    topic: str
    payload: bytes
    qos: int
    items: int
    born: float

    @property
    def size(self) -> int:
        """Bytes that it is charged with."""
        return len(self.payload) + len(self.topic)


class Parcel(NamedTuple):
    """An entry on its way. ``token`` names it when it is acknowledged."""

    token: int
    entry: Entry


class Outbox(Protocol):
    """Used by one thread. ``depth`` messages of ``size`` bytes are held, those taken among them.

    ``shed`` counts the results and events that a bound pushed out, by cause.
    """

    depth: int
    size: int
    shed: Counter[str]

    def put(self, entry: Entry) -> None:
        """Keep a message."""

    def take(self, count: int) -> list[Parcel]:
        """Return up to ``count`` messages to send next, each once; they stay here until acknowledged."""

    def ack(self, tokens: Iterable[int]) -> None:
        """Forget messages that were taken and need not be sent again."""

    def oldest(self) -> float | None:
        """Return the ``born`` of the oldest message held."""
