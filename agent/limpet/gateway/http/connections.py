"""How many connections there may be, in all and for one client."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from limpet.gateway.access.limits import share

if TYPE_CHECKING:
    from limpet.gateway.access.peers import Connection


class Connections:
    """Counts connections. ``most``: in all. Clients of this device may have 3/4 of them each, others 1/4."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[Connection] = set()
        self._by_client: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Count a connection in. ``False`` if there are too many."""
        most = max(share(self._most, near=connection.loopback), 1)
        if len(self._open) >= self._most or self._by_client[connection.key] >= most:
            return False
        self._open.add(connection)
        self._by_client[connection.key] += 1
        return True

    def release(self, connection: Connection) -> None:
        """Count a connection out that is closed. Doing so twice is no error."""
        if connection not in self._open:
            return
        self._open.remove(connection)
        self._by_client[connection.key] -= 1
        if not self._by_client[connection.key]:
            del self._by_client[connection.key]
