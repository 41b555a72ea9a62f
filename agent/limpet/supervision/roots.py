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
    from collections.abc import Callable

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
        self._asked = 0
        """Questions about what is trusted that are not answered yet."""
        self._waiting = b""
        """Roots that came meanwhile."""
        self.report = UNSIGNED

    def use(self, config: Config, heard: Heard) -> None:
        """Take a configuration, at the start and after a reload, and find out what it trusts."""
        self._config, self._heard = config, heard
        if config.trust is None:
            self.report = UNSIGNED
            return
        if self.report.models == "unsigned":
            self.report = TrustReport(models="signed")  # What it is follows with the answer.
        self._look()

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
        elif self._asked:
            self._waiting = payload
        else:
            self._ask(payload, self._take_new)

    def _refuse(self, reason: str) -> None:
        if self._heard is not None:
            self._heard.root_refused(reason)

    def _look(self) -> None:
        """Find out what is trusted. Nothing hostile is read for that, so the answer can be relied on."""
        self._asked += 1
        self._ask(b"", self._report)

    def _ask(self, payload: bytes, answer: Callable[[RootsRead | None, str], None]) -> None:
        if self._config is not None and (trust := trust_of(self._config)) is not None:
            self._helpers.start("trust", ReadRoots(trust, payload), RootsRead, READING, answer, again=2)

    def _report(self, read: RootsRead | None, reason: str) -> None:
        self._asked -= 1
        if self._config is None or self._config.trust is None:  # reloaded meanwhile
            return
        if read is None:
            self._refuse(f"the process that reads roots failed: {reason}")
        else:
            self.report = structs.replace(read.report, problem=cleaned(read.report.problem))
        if self._waiting and not self._asked:
            payload, self._waiting = self._waiting, b""
            self.take(payload)

    def _take_new(self, read: RootsRead | None, reason: str) -> None:
        """Store new roots. A reader that was taken over by them can neither replace nor skip one."""
        if self._config is None or self._config.trust is None:
            return
        if read is None:
            self._refuse(f"the process that reads roots failed: {reason}")
            return
        if read.refused:
            self._refuse(cleaned(read.refused))
        if not read.new:
            return
        before, versions = self.report.root, [root.version for root in read.new]
        if versions != list(range(before + 1, before + 1 + len(versions))):
            self._refuse(f"roots {versions} do not follow root {before}, which is in force")
            return
        folder = self._config.device.state / FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for root in read.new:
                state_files.replace(folder / name_of(root.version), root.document)
        except OSError as error:
            self._refuse(f"{folder}: {error.strerror}; the new root is not stored")
            return
        self.report = structs.replace(self.report, root=versions[-1])
        self._look()
        if self._heard is not None:
            self._heard.root_taken(versions[-1])
