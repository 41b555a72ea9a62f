"""What the devices say that a bundle is sent to: who lacks chunks, and how far the update is. No I/O.

Anyone who may publish at the broker can write what comes here. So it is bounded, and a message counts only for the
device that its topic names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.chunks import MissingChunks
from limpet.contracts.messages import ModelReported
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Collection

    from limpet.contracts.updates import UpdateReport

LARGEST_MESSAGE = 1 << 18
"""Bytes of a message that is read."""
MOST_DEVICES = 100_000

OVER = frozenset({"good", "failed", "rolled_back"})
"""Stages after which no more happens without another request."""


class Fleet:
    """Devices by their ids. ``expected``: those to wait for; if empty, all that request chunks.

    ``sha256`` is that of the file. ``asked_at`` is when a device last requested something.
    """

    def __init__(self, sha256: str, expected: Collection[str], now: float) -> None:
        self.asked_at = now
        self.asked: set[str] = set()
        self._sha256 = sha256
        self._expected = frozenset(expected)
        self._reports: dict[str, UpdateReport] = {}

    def take_missing(self, device: str, payload: bytes, now: float) -> MissingChunks:
        """Take what a device lacks. ``UnreadableError``."""
        with reading(f"what {device} lacks"):
            missing = msgspec.json.decode(_bounded(payload), type=MissingChunks)
        if missing.ranges or missing.needs_list:
            self.asked_at = now
            if len(self.asked) < MOST_DEVICES:
                self.asked.add(device)
        return missing

    def take_reported(self, device: str, payload: bytes) -> str:
        """Take how far a device is. Return what is new about this file in words. ``UnreadableError``."""
        with reading(f"the report of {device}"):
            update = msgspec.json.decode(_bounded(payload), type=ModelReported).update
        if update is None or update.sha256 != self._sha256 or not self._is_ours(device):
            return ""
        before = self._reports.get(device)
        self._reports[device] = update
        if before and before.stage == update.stage:
            return ""
        return f"{device}: {update.stage}{f' ({update.reason})' if update.reason else ''}"

    def _is_ours(self, device: str) -> bool:
        return device in self._reports or device in self._expected or len(self._reports) < MOST_DEVICES

    def has_reported(self, device: str) -> bool:
        """Whether a device has reported about this file."""
        return device in self._reports

    def unfinished(self) -> list[str]:
        """Return the devices that are neither good nor failed."""
        stages = {device: report.stage for device, report in self._reports.items()}
        return sorted(one for one in self._expected or self.asked if stages.get(one) not in OVER)

    def silent(self) -> list[str]:
        """Return the devices that are waited for and have not reported about this file."""
        return sorted(self._expected - set(self._reports))

    def failed(self) -> list[str]:
        """Return the devices that did not get to good."""
        bad = [device for device, report in self._reports.items() if report.stage in OVER - {"good"}]
        return sorted(one for one in bad if not self._expected or one in self._expected)

    def is_over(self) -> bool:
        """Whether all devices that are waited for are good or failed. There must be one."""
        return bool(self._expected or self.asked) and not self.unfinished()


def _bounded(payload: bytes) -> bytes:
    if len(payload) > LARGEST_MESSAGE:
        raise ValueError(f"it has {len(payload)} bytes; {LARGEST_MESSAGE} is the limit")
    return payload
