"""Commands: which are obeyed, how many, and what is answered if no worker does."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from limpet.audit.entry import Who
from limpet.contracts.commands import REQUESTS
from limpet.contracts.messages import FeedbackTaken, Right, Undone
from limpet.supervision.commands import AT_ONCE, Commands, Received
from limpet.wire.records import (
    NIL,
    Ask,
    EnrolLabel,
    ForgetLabel,
    RawAnswered,
    RunWindows,
    SetLogLevel,
    SetThreshold,
    UndoLabels,
)
from support import reports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.commands import Feedback, Undo
    from limpet.contracts.messages import Reply
    from limpet.updates.stimuli import Ordered


class Command:
    """A command as a reporter brings it, and the answers that it got."""

    def __init__(self, name: str, **arguments: Any) -> None:
        self.name, self.payload, self.answers = name, json.dumps(arguments).encode(), "operators/anna"
        self.replies: list[Reply] = []

    def reply(self, reply: Reply) -> None:
        self.replies.append(reply)

    @property
    def error(self) -> str:
        (reply,) = self.replies
        assert reply.ok is (not reply.error)
        return reply.error


class Workers:
    """Workers of the pipeline ``press``, which remember what they were asked."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self.restarted: list[str] = []
        self.ordered: list[Ordered] = []
        self.files = 0
        self.undone: list[tuple[int | None, Who]] = []
        self.lessons: list[tuple[EnrolLabel | ForgetLabel, Who]] = []

    def restart(self, pipeline: str) -> None:
        if pipeline != "press":
            raise KeyError(pipeline)
        self.restarted.append(pipeline)

    def feedback(self, feedback: Feedback) -> FeedbackTaken:
        if isinstance(feedback.truth, float):
            raise ValueError("feedback.tolerance: missing")
        return FeedbackTaken(known=True, right=Right(old=True, new=feedback.truth is None))

    def undo(self, undo: Undo, who: Who) -> Undone:
        if undo.pipeline != "press":
            raise KeyError(undo.pipeline)
        if undo.number == 9:
            raise ValueError("adaptation 9 is not in force; there are 1, 2")
        self.undone.append((undo.number, who))
        return Undone(numbers=[1, 2], labels=0 if undo.number else 2)

    def taught(self, taught: EnrolLabel | ForgetLabel, who: Who) -> None:
        self.lessons.append((taught, who))

    def order(self, pipeline: str, ordered: Ordered) -> str:
        if pipeline != "press":
            raise KeyError(pipeline)
        self.ordered.append(ordered)
        return "there is no other model" if ordered.order == "rollback" else ""

    def ask(self, pipeline: str, ask: Ask, fds: tuple[int, ...] = ()) -> None:
        if pipeline != "press":
            raise KeyError(pipeline)
        self.asked.append(ask)
        self.files += len(fds)

    def ask_all(self, ask: Ask) -> None:
        self.asked.append(ask)


class Desk:
    def __init__(self, *allowed: str) -> None:
        self.workers = Workers()
        self.woken = 0
        self.recorded: list[tuple[str, str, str, str]] = []
        self.commands = Commands(
            reports.ORIGIN, allowed or list(REQUESTS), self.workers, reports.device_health, self._wake, self._note
        )

    def _wake(self) -> None:
        self.woken += 1

    def _note(self, received: Received, error: str) -> None:
        self.recorded.append((received.name, received.reporter, received.pipeline, error))

    def do(self, name: str, **arguments: Any) -> Command:
        command = Command(name, **arguments)
        self.commands.take("mqtt", command)
        self.commands.tend()
        return command


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


def test_a_command_of_another_thread_wakes_the_main_thread_and_is_obeyed_there() -> None:
    desk = Desk()
    command = Command("ping")
    desk.commands.take("mqtt", command)
    assert (desk.woken, command.replies) == (1, [])
    desk.commands.tend()
    assert command.replies[0].result == {"boot": "boot1", "version": "0.1.0"}


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("reboot", {}, "there is no command 'reboot'"),
        ("restart", {"pipeline": "press"}, "not allowed here: 'restart' is not among device.commands"),
        ("ping", {"x": 1}, "the payload is not what 'ping' takes"),
        ("capture", {"pipeline": "pump"}, "no pipeline 'pump' is running"),
    ],
)
def test_what_is_refused_is_answered(name: str, arguments: dict[str, Any], error: str) -> None:
    desk = Desk("ping", "capture")
    assert error in desk.do(name, **arguments).error
    assert (desk.workers.asked, desk.workers.restarted) == ([], [])


def test_more_than_a_burst_is_turned_away_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    commands = [desk.do("health") for _ in range(2 * int(AT_ONCE))]
    refused = [command for command in commands if command.error]
    assert len(refused) >= AT_ONCE - 1
    assert all("too many commands" in command.error for command in refused)
    assert caplog.text.count("too many commands") == 1


def test_a_flood_through_one_reporter_takes_nothing_from_another() -> None:
    desk = Desk()
    flood = [desk.do("ping") for _ in range(2 * int(AT_ONCE))]
    assert any(command.error for command in flood)
    other = Command("ping")
    desk.commands.take("api", other)
    desk.commands.tend()
    assert other.replies[0].ok


def test_a_worker_answers_the_command_that_asked_it_and_no_other() -> None:
    desk = Desk()
    first = desk.do("threshold", pipeline="press", value=0.5)
    second = desk.do("capture", pipeline="press")
    assert desk.workers.asked[0].what == SetThreshold("press", 0.5)
    desk.commands.answered(RawAnswered(desk.workers.asked[1].number, "", msgspec.Raw(b"[1]")))
    desk.commands.answered(RawAnswered(desk.workers.asked[0].number, "no threshold", msgspec.Raw(NIL)))
    desk.commands.answered(RawAnswered(desk.workers.asked[0].number, "again", msgspec.Raw(NIL)))
    assert (first.error, second.error, second.replies[0].result) == ("no threshold", "", msgspec.Raw(b"[1]"))


def test_windows_go_to_the_worker_in_a_file_and_one_command_at_a_time() -> None:
    desk = Desk()
    windows = {"shape": [1, 2], "values": [0.5, 1.0]}
    first = desk.do("infer", pipeline="press", windows=windows)
    assert (first.replies, desk.workers.files) == ([], 1)
    assert desk.workers.asked[0].what == RunWindows("press")
    assert desk.do("infer", pipeline="press", windows=windows).error.startswith("busy")
    assert "at most 256" in Desk().do("infer", pipeline="press", windows={"shape": [257], "values": [0.0]}).error


def test_the_log_level_is_that_of_all_processes() -> None:
    desk = Desk()
    assert not desk.do("log_level", level="ERROR").error
    assert desk.workers.asked == [Ask(0, SetLogLevel("ERROR"))]
    assert logging.getLogger().level == logging.ERROR


def test_a_restart_is_the_workers() -> None:
    desk = Desk()
    assert not desk.do("restart", pipeline="press").error
    assert desk.workers.restarted == ["press"]


def test_each_command_is_recorded_once_with_what_became_of_it() -> None:
    desk = Desk("ping", "restart", "capture")
    desk.do("restart", pipeline="press")
    desk.do("reboot")
    desk.do("capture", pipeline="press")
    assert [entry[0] for entry in desk.recorded] == ["restart", "reboot"]  # the worker has not answered yet
    desk.commands.answered(RawAnswered(1, "", msgspec.Raw(b"{}")))
    desk.do("capture", pipeline="pump")
    assert [(name, pipeline, bool(error)) for name, _, pipeline, error in desk.recorded] == [
        ("restart", "press", False),
        ("reboot", "", True),
        ("capture", "press", False),
        ("capture", "pump", True),
    ]
    assert {reporter for _, reporter, _, _ in desk.recorded} == {"mqtt"}


def test_commands_beyond_the_limit_are_recorded_as_refused() -> None:
    desk = Desk()
    for _ in range(int(AT_ONCE) + 3):
        desk.do("ping")
    assert len([1 for _, _, _, error in desk.recorded if error]) == 3


def test_adaptations_are_undone_by_who_asks() -> None:
    desk = Desk()
    assert desk.do("undo", pipeline="press", number=1).replies[0].result == Undone(numbers=[1, 2])
    assert desk.workers.undone == [(1, Who(reporter="mqtt", topic="operators/anna"))]
    assert desk.do("undo", pipeline="press", number=9).error == "adaptation 9 is not in force; there are 1, 2"
    assert desk.do("undo", pipeline="pump").error == "no pipeline 'pump' is running"


def test_labels_are_undone_by_their_worker_which_answers() -> None:
    desk = Desk()
    command = desk.do("undo", pipeline="press")
    (asked,) = desk.workers.asked
    assert (asked.what, command.replies) == (UndoLabels("press", 2), [])
    desk.commands.answered(RawAnswered(asked.number, "", msgspec.Raw(b'{"labels":{}}')))
    assert command.replies[0].result == Undone(numbers=[1, 2], labels=2)


def test_a_label_that_a_worker_has_enrolled_or_forgotten_is_noted_with_who_did_it() -> None:
    desk = Desk()
    desk.do("enrol", pipeline="press", label="Anna")
    desk.do("forget", pipeline="press", label="Anna")
    desk.do("forget", pipeline="press", label="Bert")
    enrolled, forgotten, failed = desk.workers.asked
    for asked, error in ((enrolled, ""), (forgotten, ""), (failed, "'Bert' is not enrolled")):
        desk.commands.answered(RawAnswered(asked.number, error))
    assert desk.workers.lessons == [
        (EnrolLabel("press", "Anna", 1), Who(reporter="mqtt", topic="operators/anna")),
        (ForgetLabel("press", "Anna"), Who(reporter="mqtt", topic="operators/anna")),
    ]


def test_a_person_on_the_device_needs_no_permission_in_the_configuration() -> None:
    desk = Desk("ping")
    command = Command("undo", pipeline="press", number=2)
    desk.commands.take_local(command, "root (sudo: anna)")
    desk.commands.tend()
    assert command.error == ""
    assert desk.workers.undone == [(2, Who(user="root (sudo: anna)"))]
    assert "not allowed here" in desk.do("undo", pipeline="press").error
