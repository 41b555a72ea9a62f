"""Log records to systemd's journal with their own fields, by its native protocol.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL: one datagram an entry. A record's attributes that begin with
``limpet_`` become fields, as ``LIMPET_PIPELINE``:
``journalctl -u limpet LIMPET_PIPELINE=motion LIMPET_EVENT=crashed``.
"""

from __future__ import annotations

import logging
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ADDRESS = "/run/systemd/journal/socket"
_PRIORITY = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
_PREFIX = "limpet_"


class JournalHandler(logging.Handler):
    """Sends to the journal. Works in forked processes, and in those that may open no socket any more."""

    def __init__(self, address: str = ADDRESS) -> None:
        super().__init__()
        self._address = address
        # Not connected: that would end with the journal's own restart.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; one that the journal does not take goes to standard error, as others do."""
        try:
            self._socket.sendto(encode(fields(record, self.format(record))), self._address)
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def fields(record: logging.LogRecord, message: str) -> dict[str, str]:
    """Return the fields of an entry."""
    own = {key.upper(): str(value) for key, value in vars(record).items() if key.startswith(_PREFIX) and value}
    return {
        "MESSAGE": message,
        "PRIORITY": str(_PRIORITY.get(record.levelname, 6)),
        "SYSLOG_IDENTIFIER": "limpet",
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        **own,
    }


def encode(entry: Mapping[str, str]) -> bytes:
    """Return an entry as the journal reads it: ``KEY=value`` lines; values of several lines after their length."""
    parts = []
    for key, text in entry.items():
        value = text.encode("utf-8", "replace")
        if b"\n" in value:
            parts.append(key.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
        else:
            parts.append(key.encode() + b"=" + value + b"\n")
    return b"".join(parts)
