"""A flood of the gateway's requests takes little of a worker's time, and that is counted."""

from __future__ import annotations

import socket
from contextlib import closing

from limpet.wire.channel import Channel
from limpet.wire.guest_records import LARGEST, MOST_WAITING, Attach, FromGuest, Infer, Inferred, Placed, Serving
from limpet.wire.guest_socket import CHUNK, GuestSocket
from limpet.wire.guest_sockets import GuestSockets, Job, Serves
from limpet.wire.memory_file import anonymous_file, seal


class _Served(Serves):
    """A model that never comes to run."""

    def serving(self) -> Serving:
        return Serving("model", 1, "0" * 64, "runtime", "cpu", [], [])

    def begin(self, requests: object) -> Job:
        raise AssertionError(requests)


def test_a_flood_is_read_in_small_parts_whose_time_is_counted() -> None:
    ours, theirs = socket.socketpair()
    gateway: Channel[Inferred] = Channel(ours, FromGuest, largest=LARGEST)
    sockets = GuestSockets()
    with closing(gateway), closing(sockets):
        sockets.add(GuestSocket(theirs), _Served(), None, lambda: None, 1)
        with anonymous_file() as file:
            file.truncate(4096)
            seal(file)
            gateway.send(Attach(4096), (file.fileno(),))
        request = gateway.encode(Infer(1, [Placed("|i1", [1, 3], 0)], 0, 64))
        ours.send(request * 2000, socket.MSG_DONTWAIT)
        sockets.poll(0.0)
        first = sockets.receiving
        assert first > 0
        sockets.poll(0.0)
        assert sockets.receiving > first
        sockets.flush()
        refused = [one for one in gateway.receive() if isinstance(one, Inferred) and one.busy]
        assert 0 < len(refused) <= 2 * CHUNK // len(request) - MOST_WAITING
