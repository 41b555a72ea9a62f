"""Limits on what clients send: how often, and how much at once. Decides, without I/O."""

from __future__ import annotations

from collections import Counter, OrderedDict

from limpet.bucket import Bucket

TOO_MANY = "too many requests; send fewer a second"
TOO_LARGE = "too many large requests at once"
"""Why a request is refused that ``Rates`` or ``Budget`` does not allow."""
MOST_CLIENTS = 1024
"""Clients whose rates are remembered. The one that was seen last longest ago is forgotten."""


class Rates:
    """At most ``rate`` events a second from each client, and ``burst`` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def allows(self, client: str, now: float) -> bool:
        """Count an event of a client at a monotonic time. ``False`` if it is one too many."""
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self._buckets[client] = Bucket(self._rate, self._burst)
            while len(self._buckets) > MOST_CLIENTS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(client)
        if bucket.level(now) < 1:
            return False
        bucket.spend(1)
        return True


class Budget:
    """Bytes of large requests that may be in memory at once. ``most``: in all.

    ``client`` is the key of a client. Each may have its share alone: others can send while it is slow.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._by_client: Counter[str] = Counter()

    def take(self, client: str, size: int, *, near: bool) -> bool:
        """Take bytes, until ``give``. ``False`` if there are not so many.

        ``near``: the client is on this device.
        """
        of_client = self._by_client[client] + size
        if self._taken + size > self._most or of_client > share(self._most, near=near):
            return False
        self._taken += size
        self._by_client[client] = of_client
        return True

    def give(self, client: str, size: int) -> None:
        """Give bytes back."""
        self._taken -= size
        self._by_client[client] -= size
        if not self._by_client[client]:
            del self._by_client[client]


def share(most: int, *, near: bool) -> int:
    """Return how much one client may have: 3/4 if it is on this device, as many programs are one client there."""
    return most * 3 // 4 if near else most // 4
