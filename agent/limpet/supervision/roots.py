"""New roots of trust that come over MQTT, and what this device trusts, for its health.

A reader in a sandbox reads and checks roots. The supervisor writes those that follow on the last one, as opaque
bytes. Each process that verifies something checks the whole chain again, from the root in the configuration on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from limpet.contracts.trust import TrustReport
from limpet.device import state_files
from limpet.trust.settings import FOLDER, trust_of
from limpet.wire.border import cleaned
from limpet.wire.fork_records import ReadRoots, RootsRead

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.config import Config
    from limpet.supervision.helpers import Helpers

log = logging.getLogger(__name__)

READING = 20.0
"""Seconds for a reader to read roots."""
UNSIGNED = TrustReport(models="unsigned")


class Roots:
    """Reads, checks and stores roots. ``report`` is for the health of the device.

    ``changed`` is called after a new root is stored: all models must then be examined again. ``refused`` is called
    with the reason if a root is not taken, ``stored`` with the new version.
    """

    def __init__(
        self,
        helpers: Helpers,
        *,
        changed: Callable[[], object],
        stored: Callable[[int], object],
        refused: Callable[[str], object],
    ) -> None:
        self._helpers = helpers
        self._changed = changed
        self._stored = stored
        self._refused = refused
        self._config: Config | None = None
        self.report = UNSIGNED

    def use(self, config: Config) -> None:
        """Take a configuration, at the start and after a reload, and find out what it trusts."""
        self._config = config
        if config.trust is None:
            self.report = UNSIGNED
        else:
            self._ask(b"")

    def take(self, payload: bytes) -> None:
        """Take what came on ``trust/desired``: a JSON array of roots. An empty one withdraws nothing."""
        if not payload:
            return
        if self._config is None or self._config.trust is None:
            self._refused("this device has no root of trust that a new one could follow. Run: limpet trust enrol")
        else:
            self._ask(payload)

    def _ask(self, payload: bytes) -> None:
        if self._config is None or (trust := trust_of(self._config)) is None:
            return
        self._helpers.start("trust", ReadRoots(trust, payload), RootsRead, READING, self._answer)

    def _answer(self, read: RootsRead | None, reason: str) -> None:
        if read is None:
            self._refused(f"the process that reads roots failed: {reason}")
            return
        if self._config is None or self._config.trust is None:  # reloaded meanwhile
            return
        if read.refused:
            self._refused(cleaned(read.refused))
        folder = self._config.device.state / FOLDER
        try:
            for root in read.new:
                folder.mkdir(parents=True, exist_ok=True)
                state_files.replace(folder / f"{root.version}.root.json", root.document)
        except OSError as error:
            self._refused(f"{folder}: {error.strerror}; the new root is not stored")
            return
        self.report = read.report
        if read.new:
            log.info("trust: root %d is in force", read.new[-1].version)
            self._stored(read.new[-1].version)
            self._changed()
