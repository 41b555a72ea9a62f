"""The life of a connection, decided without one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from limpet.delivery.mqtt.connection_machine import BREAKS, GOOD, ConnectionMachine
from limpet.delivery.mqtt.connection_state import (
    TRANSITIONS,
    Accepted,
    Begin,
    Connect,
    ConnectionState,
    Crashed,
    Due,
    Exchange,
    Failed,
    Leave,
    Left,
    LogLine,
    Lost,
    PauseOver,
    Refused,
    SecretReplaced,
    StopRequested,
    Subscribe,
    Subscribed,
    Wait,
)
from limpet.delivery.mqtt.negotiation import FULL
from limpet.delivery.mqtt.subscriptions import ENDS, REST, Subscriptions

if TYPE_CHECKING:
    from limpet.delivery.mqtt.connection_state import Instruction, Stimulus

ROOT = "limpet/press-07"
COMMANDS = f"{ROOT}/command/+"
ACCEPTED = Accepted("5", retain=True, wildcards=True, qos=1)


def machine(*, commands: bool = True, dialects: tuple[str, ...] = (), protocol: Any = "5") -> ConnectionMachine:
    return ConnectionMachine("limpet-press-07", protocol, 60.0, Subscriptions(ROOT, dialects, commands=commands))


def last(instructions: list[Instruction]) -> Instruction:
    return instructions[-1]


def logged(instructions: list[Instruction]) -> list[str]:
    return [each.text for each in instructions if isinstance(each, LogLine)]


def online(made: ConnectionMachine, now: float = 0.0) -> list[Instruction]:
    """Bring a machine online; return the instructions of the last step."""
    made.handle(PauseOver(), now)
    done = made.handle(ACCEPTED, now)
    while isinstance(last(done), Subscribe):
        done = made.handle(Subscribed(last(done).topic), now)  # type: ignore[union-attr]
    return done


def test_it_connects_subscribes_and_then_says_that_it_is_online() -> None:
    made = machine(dialects=("homeassistant/status",))
    assert made.handle(PauseOver(), 0.0) == [Connect("5", FULL, clean=False)]
    assert made.handle(ACCEPTED, 0.0) == [Subscribe(COMMANDS)]
    assert made.state is ConnectionState.SUBSCRIBING
    assert made.handle(Subscribed(COMMANDS), 0.0) == [Subscribe("homeassistant/status")]
    begin, log, exchange = made.handle(Subscribed("homeassistant/status"), 0.0)
    assert (begin, log) == (Begin(), LogLine("connected with MQTT 5", logging.INFO))
    assert exchange == Exchange(GOOD)  # when the log of failures is to be forgotten
    assert (made.state, made.connections, made.missing) == (ConnectionState.ONLINE, 1, [])


def test_without_a_subscription_it_asks_for_no_session() -> None:
    made = machine(commands=False)
    assert made.handle(PauseOver(), 0.0) == [Connect("5", FULL, clean=True)]
    assert made.handle(ACCEPTED, 0.0)[0] == Begin()


def test_pauses_grow_until_a_connection_was_good() -> None:
    made, now = machine(), 0.0
    pauses = []
    for _ in range(4):
        made.handle(PauseOver(), now)
        pause = last(made.handle(Failed("no route"), now))
        assert isinstance(pause, Wait)
        pauses.append(pause.seconds)
    assert all(whole / 2 <= seconds <= whole for seconds, whole in zip(pauses, (1, 2, 4, 8), strict=True))
    online(made, 100.0)
    short = last(made.handle(Lost("the connection broke"), 100.0 + GOOD / 2))
    assert isinstance(short, Wait)
    assert short.seconds >= 8
    online(made, 200.0)
    good = last(made.handle(Lost("the connection broke"), 200.0 + GOOD))
    assert isinstance(good, Wait)
    assert good.seconds <= 1


def test_a_failure_is_logged_once_until_a_connection_was_good() -> None:
    made = machine()
    made.handle(PauseOver(), 0.0)
    assert logged(made.handle(Failed("no route"), 0.0)) == ["no route"]
    made.handle(PauseOver(), 1.0)
    assert logged(made.handle(Failed("no route"), 1.0)) == []
    online(made, 2.0)
    made.handle(Due(), 2.0 + GOOD)
    made.handle(Lost("gone"), 3.0 + GOOD)
    made.handle(PauseOver(), 4.0 + GOOD)
    assert logged(made.handle(Failed("no route"), 4.0 + GOOD)) == ["no route"]


def test_a_version_that_the_broker_lacks_is_replaced_at_once() -> None:
    made = machine(protocol="auto")
    made.handle(PauseOver(), 0.0)
    assert made.handle(Refused("unsupported", 0x84), 0.0) == [Connect("3.1.1", FULL, clean=False)]
    assert made.state is ConnectionState.CONNECTING


def test_a_subscription_that_ends_connections_is_left_out_and_tried_again_later() -> None:
    made = machine()
    for _ in range(ENDS):
        made.handle(PauseOver(), 0.0)
        assert made.handle(ACCEPTED, 0.0) == [Subscribe(COMMANDS)]
        made.handle(Lost("the connection broke", "closed"), 0.0)
    made.handle(PauseOver(), 0.0)
    done = made.handle(ACCEPTED, 0.0)
    assert Begin() in done
    assert logged(done)[-1] == f"the broker does not give: subscription to {COMMANDS}"
    made.handle(Due(), GOOD)
    assert last(made.handle(Due(), GOOD)) == Exchange(REST)
    assert made.handle(Due(), REST) == [Subscribe(COMMANDS)]
    assert made.state is ConnectionState.RESUBSCRIBING
    assert isinstance(last(made.handle(Subscribed(COMMANDS), REST)), Exchange)
    assert (made.state, made.missing) == (ConnectionState.ONLINE, [])


def test_a_refused_subscription_is_logged_and_named() -> None:
    made = machine()
    made.handle(PauseOver(), 0.0)
    made.handle(ACCEPTED, 0.0)
    assert "refused" in logged(made.handle(Subscribed(COMMANDS, "refused"), 0.0))
    assert made.missing == [f"subscription to {COMMANDS}"]


def test_what_cannot_be_read_costs_the_session() -> None:
    made = machine()
    for clean in (False, False, True, True):
        connect = last(made.handle(PauseOver(), 0.0))
        assert isinstance(connect, Connect)
        assert connect.clean is clean
        made.handle(ACCEPTED, 0.0)
        made.handle(Subscribed(COMMANDS), 0.0)
        made.handle(Lost("it sends what is not MQTT", "unreadable"), 0.0)


def test_breaks_without_a_reason_suggest_another_client_of_the_same_id() -> None:
    made = machine()
    for number in range(BREAKS):
        assert "same client_id" not in made.last_disconnect
        online(made, 10.0 * number)
        made.handle(Lost("the connection broke", "closed", used=True), 10.0 * number)
    assert "another client may use the same client_id 'limpet-press-07'" in made.last_disconnect


@pytest.mark.parametrize(
    ("lost", "what"),
    [
        (Lost("x", "closed", used=False), "it was not used"),
        (Lost("x", "closed", code=0x8B, used=True), "the broker gave a reason"),
        (Lost("x", "silent", used=True), "the network was at fault"),
    ],
)
def test_other_breaks_suggest_nothing(lost: Lost, what: str) -> None:
    made = machine()
    for _ in range(2 * BREAKS):
        online(made)
        made.handle(lost, 0.0)
    assert made.last_disconnect == "x", what


def test_a_stop_leaves_in_order_and_a_replaced_secret_connects_again() -> None:
    made = machine()
    online(made)
    assert made.handle(SecretReplaced(), 1.0) == [Leave(stopped=False)]
    assert isinstance(last(made.handle(Left(), 1.0)), Wait)
    assert made.last_disconnect == "a secret was replaced"
    online(made, 2.0)
    assert made.handle(StopRequested(), 3.0) == [Leave(stopped=True)]
    assert made.handle(Left(), 3.0) == []
    assert (made.state, made.last_disconnect) == (ConnectionState.STOPPED, "stopped")


def test_a_stop_between_two_attempts_ends_it_at_once() -> None:
    made = machine()
    assert made.handle(StopRequested(), 0.0) == []
    assert made.state is ConnectionState.STOPPED


def test_a_stimulus_that_may_not_come_is_refused() -> None:
    with pytest.raises(KeyError):
        machine().handle(ACCEPTED, 0.0)


def test_every_state_is_reached_and_only_stopped_has_no_way_on() -> None:
    reached = {state for allowed in TRANSITIONS.values() for state in allowed}
    assert reached == set(ConnectionState)
    assert {state for state, _ in TRANSITIONS} == set(ConnectionState) - {ConnectionState.STOPPED}


OUTCOMES: dict[type[Any], st.SearchStrategy[Any]] = {
    Accepted: st.builds(Accepted, st.just("5"), st.booleans(), st.booleans(), st.integers(0, 1)),
    Refused: st.builds(Refused, st.just("no"), st.sampled_from([0, 0x84, 0x87, 0x90, 0x9A, 0x9B])),
    Lost: st.builds(
        Lost, st.just("lost"), st.sampled_from(["", "closed", "unreadable", "silent"]), st.just(0), st.booleans()
    ),
    Failed: st.builds(Failed, st.sampled_from(["a", "b"]), st.sampled_from(["", "unreadable"])),
}


class Life(RuleBasedStateMachine):
    """Whatever comes that may come, one instruction with an outcome follows, and it is the last."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = machine(dialects=("a", "b"), protocol="auto")
        self.now = 0.0
        self.instructions: list[Instruction] = [Wait(0.0)]

    @rule(data=st.data(), seconds=st.floats(0, 5000))
    def step(self, data: st.DataObject, seconds: float) -> None:
        if self.machine.state is ConnectionState.STOPPED:
            return
        self.now += seconds
        kinds = [kind for state, kind in TRANSITIONS if state is self.machine.state]
        kind = data.draw(st.sampled_from(kinds))
        stimulus: Stimulus
        instruction = last(self.instructions)
        if kind is Subscribed:
            assert isinstance(instruction, Subscribe)
            stimulus = Subscribed(instruction.topic, data.draw(st.sampled_from(["", "no"])))
        else:
            stimulus = data.draw(OUTCOMES.get(kind, st.builds(kind)))
        self.instructions = self.machine.handle(stimulus, self.now)
        if self.machine.state is ConnectionState.STOPPED:
            assert self.instructions == []
            return
        *first, outcome = self.instructions
        assert all(isinstance(each, LogLine | Begin) for each in first)
        expected = {
            ConnectionState.WAITING: Wait,
            ConnectionState.CONNECTING: Connect,
            ConnectionState.SUBSCRIBING: Subscribe,
            ConnectionState.ONLINE: Exchange,
            ConnectionState.RESUBSCRIBING: Subscribe,
            ConnectionState.LEAVING: Leave,
        }
        assert isinstance(outcome, expected[self.machine.state])
        if isinstance(outcome, Exchange):
            assert outcome.until >= self.now
        if isinstance(outcome, Wait):
            assert 0 < outcome.seconds <= 60
        if isinstance(stimulus, Crashed):
            assert self.machine.state is ConnectionState.WAITING


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=30)
