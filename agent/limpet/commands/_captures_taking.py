"""What ``limpet captures pull`` takes of what a device gives: of which device, and how much."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from limpet.captures import form, ring
from limpet.commands._captures_give import store
from limpet.device import state_files
from limpet.errors import LimpetError, UnreadableError
from limpet.untrusted import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.commands._captures_give import Given

FROM = "from"
"""File in the folder of a device: the host that its captures came from over ssh."""
LEAST_BYTES = 4096
"""What each record counts at least. A file takes so much of the disk."""
MOST_PROBLEMS = 20
_LONGEST_PROBLEM = 300
_LONGEST_HOST = 300


class Taken(msgspec.Struct):
    """New captures, as ``(device, name)``, and what was wrong with others."""

    names: list[tuple[str, str]] = []
    problems: list[str] = []
    more_problems: int = 0

    def wrong(self, problem: str) -> None:
        """Take note of a problem. The first ones are named, the others are counted."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem[:_LONGEST_PROBLEM])
        else:
            self.more_problems += 1


class Taking:
    """Takes captures into a folder. ``device``: no captures of other devices are taken, if one is named.

    ``host``: a machine that gives captures of one device alone, that which it gave before. Empty if the source is
    a folder, which may have several devices. ``most``: bytes that are taken.
    """

    def __init__(self, target: Path, device: str | None, host: str, most: int) -> None:
        self._target = target
        self._host = host
        self._device = device or (_device_from(target, host) if host else None)
        self._is_named = device is not None
        self._most = most
        self.taken = Taken()

    def known(self) -> dict[str, list[str]]:
        """Return the names of captures that are here, by device: of one alone if the source is a host."""
        names: dict[str, list[str]] = {}
        for root, pipeline in ring.rings(self._target):
            if not self._host or root.name == self._device:
                found = [f"{pipeline}/{one.capture.number}" for one in ring.entries(root, pipeline)]
                names.setdefault(root.name, []).extend(found)
        return names

    def take(self, given: Iterator[Given]) -> None:
        """Take captures until the source or the limit ends. ``LimpetError``, ``OSError``."""
        left = self._most
        for one in given:
            left -= max(len(one.data) + len(one.problem), LEAST_BYTES)
            if left < 0:
                self.taken.wrong(f"--most-bytes {self._most} ends it here. Run it again for those that are left")
                return
            try:
                self._take(one)
            except UnreadableError as error:
                self.taken.wrong(str(error))

    def _take(self, given: Given) -> None:
        if given.problem:
            raise UnreadableError(given.problem)
        where = "a capture of the device"
        self._check_device(form.unpack(given.data, where).capture.device)
        capture = store(given, self._target, where)
        if capture is not None:
            self.taken.names.append((capture.device, capture.name))

    def _check_device(self, device: str) -> None:
        """See that a capture may be of this device. ``LimpetError`` if the host may not be this device at all."""
        if self._device is None and self._host:
            self._meet(device)
        if self._device is not None and device != self._device:
            raise UnreadableError(
                f"a capture of the device {device!r} is left out; those of {self._device!r} are taken"
            )
        if self._host and self._is_named:
            self._note_host(device)
            self._is_named = False

    def _meet(self, device: str) -> None:
        """Take the first capture of a host as one of its device. No other source may have used that name."""
        if (self._target / device).exists():
            raise LimpetError(
                f"{self._host} gives captures of {device!r}, and those in {self._target} came another way. "
                f"If it is that device, add: --device {device}"
            )
        self._device = device
        self._note_host(device)

    def _note_host(self, device: str) -> None:
        (self._target / device).mkdir(parents=True, exist_ok=True)
        state_files.replace(self._target / device / FROM, self._host.encode(), 0o644)


def _device_from(target: Path, host: str) -> str | None:
    """Return the device whose captures came from a host before."""
    for name in ring.pipelines(target):
        with suppress(OSError, UnreadableError):
            if read_file(target / name / FROM, _LONGEST_HOST) == host.encode():
                return name
    return None
