"""systemd's readiness protocol, sd_notify(3)."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send a state, such as ``READY=1`` or ``WATCHDOG=1``, to systemd if it started this process."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
        end.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def watchdog_interval() -> float | None:
    """Return how often systemd wants ``WATCHDOG=1``, in seconds, halved for safety; ``None`` if it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    return int(microseconds) / 2e6 if microseconds else None
