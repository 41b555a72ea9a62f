"""What reporters bring about models, until the supervisor takes it: bounded, and opaque."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from msgspec import structs

from limpet.contracts.chunks import MOST_CHUNKS as MOST_INDICES
from limpet.contracts.chunks import MOST_RANGES
from limpet.contracts.deliveries import NOTHING, Missing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from limpet.contracts.deliveries import Delivery, Wanted

MOST_CHUNKS = 64
"""Chunks that may wait for the supervisor."""
LARGEST_CHUNKS = 8 << 20
"""Bytes of the chunks that may wait."""


class DeliveryInbox:
    """The ``limpet.contracts.deliveries.Deliveries`` of this daemon. ``wake`` has the supervisor look at it."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = Lock()
        self._wanted = NOTHING
        self._watchers: list[Callable[[], None]] = []
        self._states: dict[tuple[str, str, str], Delivery] = {}
        self._chunks: deque[Delivery] = deque()
        self._chunk_bytes = 0
        self._asked = 0

    # --- from a reporter's thread

    @property
    def wanted(self) -> Wanted:
        """What is wanted now."""
        return self._wanted

    @contextmanager
    def watching(self, wake: Callable[[], None]) -> Iterator[None]:
        """Have ``wake`` called after each change of ``wanted``. It must not block."""
        with self._lock:
            self._watchers.append(wake)
        try:
            yield
        finally:
            with self._lock:
                self._watchers.remove(wake)

    def deliver(self, delivery: Delivery) -> bool:
        """Hand over a message. Return ``False`` if it is dropped: it is not wanted, or too much waits."""
        with self._lock:
            taken = self._take_chunk(delivery) if delivery.kind == "chunk" else self._take_state(delivery)
        if taken:
            self._wake()
        return taken

    def _take_state(self, delivery: Delivery) -> bool:
        wanted = self._wanted.trust if delivery.kind == "root" else delivery.name in self._wanted.pipelines
        if wanted:
            key = (delivery.reporter, delivery.kind, delivery.name)
            before = self._states.pop(key, None)
            if before and before.payload == delivery.payload:  # a retained copy after the request itself
                delivery = structs.replace(delivery, retained=before.retained and delivery.retained)
            self._states[key] = delivery
        return wanted

    def _take_chunk(self, delivery: Delivery) -> bool:
        size = len(delivery.payload)
        if (
            delivery.name not in self._wanted.chunks
            or len(self._chunks) >= MOST_CHUNKS
            or self._chunk_bytes + size > LARGEST_CHUNKS
        ):
            return False
        self._chunks.append(delivery)
        self._chunk_bytes += size
        return True

    # --- from the supervisor's thread

    def take_states(self) -> list[Delivery]:
        """Take the newest requests and roots of each reporter, in the order in which they came."""
        with self._lock:
            states, self._states = list(self._states.values()), {}
        return states

    def take_chunk(self) -> Delivery | None:
        """Take the oldest chunk that came. Chunks that are left here make room for no others."""
        with self._lock:
            if not self._chunks:
                return None
            chunk = self._chunks.popleft()
            self._chunk_bytes -= len(chunk.payload)
            return chunk

    def expect(self, pipelines: Collection[str], *, trust: bool) -> None:
        """Set whose desired states are wanted, and whether roots of trust are. Default: none."""
        self._change(self._wanted._replace(pipelines=frozenset(pipelines), trust=trust))

    def want_chunks(self, sha256s: Collection[str]) -> None:
        """Set the files whose chunks are wanted. Those of other files that wait here are dropped."""
        before = self._wanted.chunks
        self._change(self._wanted._replace(chunks={each: before.get(each) for each in sha256s}))

    def ask(self, sha256: str, ranges: Sequence[tuple[int, int]], *, needs_list: bool) -> None:
        """Have reporters ask for chunks of a wanted file, and again on each new connection.

        ``ranges`` come from a deployer, which may have been taken over. Those that cannot be are left out.
        """
        if sha256 in self._wanted.chunks:
            self._asked += 1
            possible = tuple((first, last) for first, last in ranges if 0 <= first <= last < MOST_INDICES)
            missing = Missing(self._asked, possible[:MOST_RANGES], needs_list)
            self._change(self._wanted._replace(chunks={**self._wanted.chunks, sha256: missing}))

    def _change(self, wanted: Wanted) -> None:
        if wanted == self._wanted:
            return
        with self._lock:
            self._wanted = wanted
            self._chunks = deque(one for one in self._chunks if one.name in wanted.chunks)
            self._chunk_bytes = sum(len(one.payload) for one in self._chunks)
            watchers = list(self._watchers)
        for wake in watchers:
            wake()
