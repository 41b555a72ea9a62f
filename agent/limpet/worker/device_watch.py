"""When a worker has to start again because its device came back as another node."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from limpet.isolation import device_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from limpet.isolation.device_nodes import Node

PACE = 4.0
"""Seconds from one start to the next: a loose plug may come and go all the time. A little longer than the
average that ``limpet.supervision.slot`` allows before it counts such an end as a crash."""


class DeviceWatch:
    """The device nodes that were there before this worker entered its sandbox: the only ones that it can open."""

    def __init__(
        self, devices: Iterable[str], before: frozenset[Node], now: Callable[[], Iterable[str]] = tuple
    ) -> None:
        """``before``: what was there of ``devices``. ``now``: what the source needs now, if that can change."""
        self._devices = tuple(devices)
        self._before = before
        self._now = now
        self._not_before = monotonic() + PACE if self._before else 0.0

    def replaced(self) -> Path | None:
        """Return a node that is there now and cannot be opened; ``None`` for none, or if it is too early."""
        if not self._devices or monotonic() < self._not_before:
            return None
        devices = {*self._devices, *device_nodes.exact(self._now())}
        return next(iter(device_nodes.replaced(devices, self._before)), None)
