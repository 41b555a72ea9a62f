"""What the supervisor writes into the audit journal, and what health has of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.audit.entry import What, Who
from limpet.contracts.messages import AuditHealth
from limpet.errors import LimpetError
from limpet.sha256 import sha256
from limpet.text_file import LARGEST
from limpet.untrusted import read_linked_file
from limpet.wording import short_hash

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.audit.journal import Journal
    from limpet.contracts.assignment import ModelFile
    from limpet.contracts.trust import TrustReport
    from limpet.supervision.commands import Received
    from limpet.updates.state import Update

QUERIES = frozenset({"ping", "health"})
"""Commands that change nothing. If they are obeyed, they are counted and have no line of their own."""


class Auditing:
    """Turns what happens in the supervisor into lines of the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._active: dict[str, tuple[str, int]] = {}
        self._trusted = ""

    def commanded(self, received: Received, error: str) -> None:
        """Record a command that was obeyed, or refused with an ``error``."""
        command = received.command
        if command.name in QUERIES and not error:
            self._journal.count(command.name)
            return
        what = What(command=command.name, reason=f"refused: {error}" if error else "obeyed")
        self._journal.record("command", what, pipeline=received.pipeline, who=received.who)

    def ran(self, pipeline: str, model: str, version: int, file: ModelFile | None) -> None:
        """Record that a pipeline runs another model than before. ``file``: what it was assigned last."""
        if self._active.get(pipeline) == (model, version):
            return
        self._active[pipeline] = model, version
        is_that = file is not None and (file.name, file.version) == (model, version)
        identity = file.sha256 if file is not None and is_that else ""
        self._journal.record("activated", What(model=model, version=version, sha256=identity), pipeline=pipeline)

    def configured(self, path: Path, error: str = "") -> None:
        """Record that a configuration file was taken, or refused with an ``error``."""
        event = "config_refused" if error else "config_taken"
        self._journal.record(event, What(sha256=_hash_of(path), reason=error))

    def rooted(self, version: int, error: str = "") -> None:
        """Record that a root of trust is in force, or that one was refused with an ``error``."""
        event = "root_refused" if error else "root_taken"
        self._journal.record(event, What(version=version, reason=error))

    def trusts(self, report: TrustReport) -> None:
        """Record whose models run here, at the start and when that changes. Without a root there is no line."""
        roles = [
            f"{name}: {role.threshold} of {', '.join(map(short_hash, role.keys))}"
            for name, role in report.roles.items()
        ]
        trusted = f"{report.models}, root {report.root}; {'; '.join(roles)}" if report.root else ""
        if trusted == self._trusted:
            return
        self._trusted = trusted
        self._journal.record("trust", What(version=report.root, reason=trusted or "no root of trust any more"))

    def health(self) -> AuditHealth | None:
        """Return the head of the journal, ``None`` if it has no line."""
        head = self._journal.head
        return AuditHealth(seq=head.seq, sha256=head.sha256, lost=self._journal.lost) if head.seq else None


def of_update(update: Update, event: str, text: str) -> tuple[What, Who]:
    """Return what a step of an update is about, and whose keys signed that.

    A refused request is about no model of this device. A candidate that is gone is known by its request alone.
    """
    at_work = update.stage not in {"idle", "good", "rolled_back"}
    about = update.candidate or (None if at_work or event == "update_refused" else update.good)
    if about is not None:
        what = What(model=about.model, version=about.version, sha256=about.sha256, reason=text)
        return what, Who(keys=about.signed_by)
    if at_work and event != "update_refused" and update.request is not None:
        version = update.request.version
        return What(
            model=update.request.model, version=version if isinstance(version, int) else None, reason=text
        ), Who()
    return What(reason=text), Who()


def _hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, empty if it cannot be read."""
    try:
        data = read_linked_file(path, LARGEST)
    except (OSError, LimpetError):
        return ""
    digest = sha256(len(data))
    digest.update(data)
    return digest.hexdigest()
