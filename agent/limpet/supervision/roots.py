"""New roots of trust that come over MQTT, and what this device trusts, for its health.

A reader in a sandbox reads and checks roots. The supervisor writes those that follow on the last one, as opaque
bytes. Each process that verifies something checks the whole chain again, from the root in the configuration on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import structs

from limpet.contracts.trust import TrustReport
from limpet.device import state_files
from limpet.trust.settings import FOLDER, name_of, trust_of
from limpet.wire.border import cleaned
from limpet.wire.fork_records import ReadRoots, RootsRead

if TYPE_CHECKING:
    from limpet.config import Config
    from limpet.supervision.helpers import Helpers

LARGEST_PAYLOAD = 1 << 20
"""Bytes of the roots in one message."""
READING = 20.0
"""Seconds for a reader to read roots."""
UNSIGNED = TrustReport(models="unsigned")


class Heard(Protocol):
    """What the supervisor does about roots."""

    def root_taken(self, version: int) -> None:
        """Take note of a new root, which is stored. All models must be examined again."""

    def root_refused(self, reason: str) -> None:
        """Take note that a root was not taken."""


class Roots:
    """Reads, checks and stores roots. ``report`` is for the health of the device."""

    def __init__(self, helpers: Helpers) -> None:
        self._helpers = helpers
        self._config: Config | None = None
        self._heard: Heard | None = None
        self.report = UNSIGNED

    def use(self, config: Config, heard: Heard) -> None:
        """Take a configuration, at the start and after a reload, and find out what it trusts."""
        self._config, self._heard = config, heard
        if config.trust is None:
            self.report = UNSIGNED
            return
        if self.report.models == "unsigned":
            self.report = TrustReport(models="signed")  # What it is follows with the answer.
        self._ask(b"")

    def take(self, payload: bytes) -> None:
        """Take what came on ``trust/desired``: a JSON array of roots. An empty payload changes nothing."""
        if not payload:
            return
        if self._config is None or self._config.trust is None:
            self._refuse(
                "this device has no root of trust that a new one could follow. Run: limpet trust enrol FILE"
            )
        elif len(payload) > LARGEST_PAYLOAD:
            self._refuse(f"the roots have {len(payload)} bytes; at most {LARGEST_PAYLOAD}")
        else:
            self._ask(payload)

    def _refuse(self, reason: str) -> None:
        if self._heard is not None:
            self._heard.root_refused(reason)

    def _ask(self, payload: bytes) -> None:
        if self._config is None or (trust := trust_of(self._config)) is None:
            return
        self._helpers.start("trust", ReadRoots(trust, payload), RootsRead, READING, self._answer)

    def _answer(self, read: RootsRead | None, reason: str) -> None:
        if self._config is None or self._config.trust is None:  # reloaded meanwhile
            return
        if read is None:
            self._refuse(f"the process that reads roots failed: {reason}")
            return
        if read.refused:
            self._refuse(cleaned(read.refused))
        folder = self._config.device.state / FOLDER
        try:
            for root in read.new:
                folder.mkdir(parents=True, exist_ok=True)
                state_files.replace(folder / name_of(root.version), root.document)
        except OSError as error:
            self._refuse(f"{folder}: {error.strerror}; the new root is not stored")
            return
        self.report = structs.replace(read.report, problem=cleaned(read.report.problem))
        if read.new and self._heard is not None:
            self._heard.root_taken(read.new[-1].version)
