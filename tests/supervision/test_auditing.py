"""What the supervisor writes into the audit journal. No daemon."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from limpet.audit import file as journal_file
from limpet.audit.entry import Entry, decode
from limpet.audit.journal import Journal
from limpet.audit.sentences import sentence
from limpet.contracts.assignment import ModelFile
from limpet.contracts.trust import TrustedRole, TrustReport
from limpet.supervision.auditing import Auditing, of_update
from limpet.supervision.commands import Received
from limpet.updates.state import Update
from support.update_world import bundle, request

if TYPE_CHECKING:
    from limpet.contracts.messages import Reply


class Command:
    def __init__(self, name: str) -> None:
        self.name, self.payload, self.answers = name, b"", "operators/anna"

    def reply(self, reply: Reply) -> None:
        """Take no answer."""


class Desk:
    def __init__(self, state: Path) -> None:
        self.state = state
        self.journal = Journal(state, "1-abcdef")
        self.auditing = Auditing(self.journal)

    @property
    def lines(self) -> list[Entry]:
        path = self.state / journal_file.NAME
        return [decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_command_that_changes_nothing_is_counted_unless_it_was_refused(desk: Desk) -> None:
    desk.auditing.commanded(Received("mqtt", Command("ping")), "")
    desk.auditing.commanded(Received("mqtt", Command("ping")), "too many commands")
    desk.auditing.commanded(Received("mqtt", Command("restart"), "press"), "")
    first, second = desk.lines
    assert (first.what.command, first.what.reason) == ("ping", "refused: too many commands")
    assert (second.what.reason, second.pipeline, second.who.topic) == ("obeyed", "press", "operators/anna")
    desk.journal.close()
    assert desk.lines[-1].what.counts == {"ping": 1}


def test_a_model_is_recorded_when_another_one_runs(desk: Desk) -> None:
    file = ModelFile(Path("motion-8.limpet"), "motion", 8, "a" * 64)
    for version in (8, 8, 7):
        desk.auditing.ran("press", "motion", version, file)
    assert [(one.event, one.what.version, one.what.sha256) for one in desk.lines] == [
        ("activated", 8, "a" * 64),
        ("activated", 7, ""),
    ]


def test_a_configuration_is_recorded_with_its_hash_and_what_is_wrong_with_it(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "limpet.toml"
    desk.auditing.configured(path, "there is no such file")
    path.write_text("[device]")
    desk.auditing.configured(path)
    refused, taken = desk.lines
    assert (refused.event, refused.what.sha256, refused.what.reason) == (
        "config_refused",
        "",
        "there is no such file",
    )
    assert (taken.event, taken.what.sha256) == ("config_taken", hashlib.sha256(b"[device]").hexdigest())


def test_a_root_of_trust_is_recorded_when_it_is_another_one(desk: Desk) -> None:
    desk.auditing.trusts(TrustReport(models="unsigned"))
    for root in (1, 1, 2):
        roles = {"targets": TrustedRole(["a" * 64, "b" * 64], 2)}
        desk.auditing.trusts(TrustReport(models="signed", root=root, roles=roles))  # type: ignore[arg-type]
    desk.auditing.trusts(TrustReport(models="unsigned"))
    assert [(one.event, one.what.reason) for one in desk.lines] == [
        ("trust", f"signed, root 1; targets: 2 of {'a' * 16}, {'b' * 16}"),
        ("trust", f"signed, root 2; targets: 2 of {'a' * 16}, {'b' * 16}"),
        ("trust", "no root of trust any more"),
    ]


def test_health_has_the_head_and_what_was_lost(desk: Desk) -> None:
    assert desk.auditing.health() is None
    desk.journal.record("start")
    health = desk.auditing.health()
    assert health is not None
    assert (health.seq, health.sha256, health.lost) == (1, desk.journal.head.sha256, 0)


def test_a_step_of_an_update_names_its_own_model_and_not_the_good_one() -> None:
    good, new = bundle("motion", 7), bundle("motion", 8)
    wanted = request(new)
    fetched = Update(pipeline="p", stage="downloading", good=good, request=wanted)
    tried = Update(pipeline="p", stage="trial", good=good, candidate=new, request=wanted)
    failed = Update(pipeline="p", stage="failed", good=good, request=wanted)
    back = Update(pipeline="p", stage="rolled_back", good=good, request=wanted)
    about = {
        update.stage: of_update(update, "update_" + update.stage, "")[0]
        for update in (fetched, tried, failed, back)
    }
    assert {stage: what.version for stage, what in about.items()} == {
        "downloading": 8,
        "trial": 8,
        "failed": 8,
        "rolled_back": 7,
    }
    assert (about["failed"].sha256, about["trial"].sha256) == ("", new.sha256)
    assert of_update(tried, "update_trial", "")[1].keys == new.signed_by


def test_a_refused_request_is_about_no_model_of_the_device() -> None:
    update = Update(pipeline="p", stage="good", good=bundle("motion", 7))
    assert of_update(update, "update_refused", "too old")[0].model == ""
    assert of_update(update, "update_good", "")[0].version == 7


def test_the_version_of_a_new_root_is_shown(desk: Desk) -> None:
    desk.auditing.rooted(2)
    assert sentence(desk.lines[0]).endswith("root taken; root 2")
