"""A sensor board at the other end of a pseudo-terminal: recorded telemetry as frames, at a steady rate."""

from __future__ import annotations

import csv
import gzip
import os
import select
import threading
import tty
from importlib import resources
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.sources.framings import cobs

if TYPE_CHECKING:
    from typing_extensions import Self

    from limpet.contracts.data import FloatArray

TICK = 0.005
"""Seconds between two writes, as a board's serial driver would flush its buffer."""


class Telemetry(NamedTuple):
    """Recorded rows, float32 ``(n, channels)``, and which of them are anomalies."""

    channels: list[str]
    rows: FloatArray
    anomalous: list[bool]


def telemetry() -> Telemetry:
    """Read the rows that the demo's model was not trained on; the last column is the recorded truth."""
    packed = resources.files("limpet").joinpath("demo_data", "shuttle-test.csv.gz").read_bytes()
    header, *body = csv.reader(gzip.decompress(packed).decode("ascii").splitlines())
    rows = np.array([line[:-1] for line in body], np.float32)
    return Telemetry(header[:-1], rows, [line[-1] == "1" for line in body])


class Board:
    """Sends ``count`` rows, ``rate`` a second, from ``start`` on. After the last row it begins again.

    ``sent`` is the number of rows that left it whole. ``port`` is what a serial port's device file would be.
    """

    def __init__(self, rows: FloatArray, count: int, rate: float) -> None:
        self.count = count
        self.sent = 0
        self._rows = rows
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, name="board", daemon=True)

    def __enter__(self) -> Self:
        # This end stays open, as a cable would, so that the line stays up while the daemon opens and closes it.
        self._line, self._far_end = os.openpty()
        tty.setraw(self._far_end)
        os.set_blocking(self._line, False)
        self.port = os.ttyname(self._far_end)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._line)
        os.close(self._far_end)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether every row was sent."""
        return self.sent == self.count

    def _send(self) -> None:
        started = monotonic()
        while not self.done and not self._stop.wait(TICK):
            due = min(self.count, int((monotonic() - started) * self._rate))
            if not self._write(b"".join(self._frame(n) for n in range(self.sent, due))):
                return
            self.sent = due

    def _frame(self, n: int) -> bytes:
        row = n % len(self._rows)
        return cobs.encode(self._rows[row : row + 1], n, int(n / self._rate * 1e6))

    def _write(self, data: bytes) -> bool:
        """Write all data, waiting while the line is full. ``False`` if ``stop`` was called meanwhile."""
        while data:
            if self._stop.is_set():
                return False
            if select.select([], [self._line], [], 0.1)[1]:
                data = data[os.write(self._line, data) :]
        return True
