"""What comes to reporters from outside about models: requests, roots of trust and chunks of bundles.

Reporters deliver it as it came. Nothing in the daemon's own process parses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager


class Delivery(msgspec.Struct, frozen=True):
    """A message as it came. ``payload`` is not to be trusted.

    ``kind``: ``desired`` is a desired state of the pipeline ``name``. ``root`` is a list of roots of trust.
    ``chunk`` is a chunk of the file with the SHA-256 ``name``. ``index`` is that of the chunk, -1 for the list of
    chunks. An empty ``payload`` of a desired state withdraws it. ``retained``: the broker had kept the message, so
    it may be a copy of one that came before. ``reporter`` is the name of the reporter.
    """

    kind: Literal["desired", "root", "chunk"]
    name: str
    payload: bytes
    retained: bool
    reporter: str
    index: int = -1


class Missing(NamedTuple):
    """Which chunks of a file are missing, as ranges of indices, first and last. ``needs_list``: the list is, too.

    ``number`` rises with each statement.
    """

    number: int
    ranges: tuple[tuple[int, int], ...]
    needs_list: bool


class Wanted(NamedTuple):
    """What reporters should bring now. It is replaced, never changed.

    ``pipelines``: whose desired states, by name. ``trust``: whether roots of trust are wanted. ``chunks``: files
    by their SHA-256, with what is missing of each; ``None``: nothing is to be asked for yet.
    """

    pipelines: frozenset[str]
    trust: bool
    chunks: Mapping[str, Missing | None]


NOTHING = Wanted(frozenset(), trust=False, chunks={})


class Deliveries(Protocol):
    """Where reporters deliver to. For any thread."""

    @property
    def wanted(self) -> Wanted:
        """What is wanted now."""

    def watching(self, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Have ``wake`` called after each change of ``wanted``. It must not block."""

    def deliver(self, delivery: Delivery) -> bool:
        """Hand over a message. Return ``False`` if it is dropped: it is not wanted, or too much waits.

        Of requests and roots the newest replaces an older one that waits, so only chunks are ever too many.
        """
