"""Decides what happens to the connection to a broker: a stimulus in, instructions out. No I/O, no clock.

``Sender`` carries the instructions out. Each ``handle`` returns one that ends in the next stimulus, until the
state is ``STOPPED``. Those without an outcome, ``LogLine``, ``Begin`` and ``Unsubscribe``, come before it.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Literal

from limpet.backoff import Backoff
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
    Unsubscribe,
    Wait,
)
from limpet.delivery.mqtt.negotiation import Negotiation

if TYPE_CHECKING:
    from limpet.delivery.mqtt.connection_state import End, Instruction, Stimulus
    from limpet.delivery.mqtt.subscriptions import Subscriptions

GOOD = 10.0
"""Seconds after which a connection counts as good: the next pause is then the shortest again."""

UNREADABLE_ENDS = 2
"""Connections in a row that end with something unreadable, after which the broker's session is given up."""

BULK_REST = 600.0
"""Seconds without chunks after something unreadable came while they were wanted: it may have been one of them."""

BREAKS, BREAKS_WITHIN = 3, 600.0
"""After so many connections in so many seconds, another client with the same id is suspected. The broker accepted
them and then closed them without a reason. Not every broker gives one.
"""

MOST_LOGGED = 1000
"""Lines of the log that are remembered; the reasons of a broker may vary without end."""


class ConnectionMachine:
    """``connections`` counts connections, ``last_disconnect`` says why the last one ended.

    ``missing`` has in words what the present broker does not give.
    """

    def __init__(
        self,
        client_id: str,
        protocol: Literal["auto", "5", "3.1.1"],
        longest_pause: float,
        subscriptions: Subscriptions,
    ) -> None:
        self.state = ConnectionState.WAITING
        self.connections = 0
        self.last_disconnect = ""
        self.missing: list[str] = []
        self._client_id = client_id
        self._negotiation = Negotiation(protocol)
        self._backoff = Backoff(1.0, longest_pause)
        self._failures = 0
        self._subscriptions = subscriptions
        self._accepted = Accepted("5", retain=True, wildcards=True, qos=1)
        self._accepted_at = 0.0
        self._to_subscribe: list[str] = []
        self._not_heard: list[str] = []
        self._active: list[str] = []
        self._unreadable_ends = 0
        self._breaks: deque[float] = deque(maxlen=BREAKS)
        self._logged: set[str] = set()
        self._stops = False

    def handle(self, stimulus: Stimulus, now: float) -> list[Instruction]:
        """Take a stimulus in, and return what to do. ``KeyError`` if it may not come in this state."""
        allowed = TRANSITIONS[self.state, type(stimulus)]
        self.state, instructions = self._react(stimulus, now)
        assert self.state in allowed
        return instructions

    def _react(self, stimulus: Stimulus, now: float) -> tuple[ConnectionState, list[Instruction]]:  # noqa: C901, PLR0911 - one case for each
        match stimulus:
            case PauseOver():
                self._negotiation.start()
                return self._connect()
            case Accepted():
                return self._accept(stimulus, now)
            case Refused() if self._negotiation.refused(stimulus.code):
                self._note_end(stimulus.end)
                return self._connect()
            case Refused() | Failed():
                self._note_end(stimulus.end)
                return self._pause(self._log(stimulus.reason))
            case Subscribed():
                return self._subscribed(stimulus, now)
            case Due():
                return self._resubscribe_or_exchange(now)
            case SecretReplaced() | StopRequested():
                return self._stop(stopped=isinstance(stimulus, StopRequested))
            case Lost():
                return self._lost(stimulus, now)
            case Left():
                return self._left(now)
            case Crashed():
                return self._pause([])

    # --- connecting

    def _connect(self) -> tuple[ConnectionState, list[Instruction]]:
        """Try the next version and will. Without a subscription, a session at the broker is useless."""
        given_up = self._unreadable_ends >= UNREADABLE_ENDS
        text = "it keeps a message that cannot be read; its session, with commands that wait, is given up"
        logs = self._log(text) if given_up else []
        clean = given_up or not self._subscriptions.wanted()
        return ConnectionState.CONNECTING, [
            *logs,
            Connect(self._negotiation.version, self._negotiation.will, clean),
        ]

    def _note_end(self, end: End) -> None:
        """Count a failed attempt that ended with something unreadable. Other failures reset no count."""
        self._unreadable_ends += end == "unreadable"

    def _accept(self, accepted: Accepted, now: float) -> tuple[ConnectionState, list[Instruction]]:
        self._negotiation.accepted()
        self._accepted, self._accepted_at = accepted, now
        self.connections += 1
        wanted = self._subscriptions.wanted(wildcards=accepted.wildcards)
        self._not_heard = [topic for topic in wanted if self._subscriptions.is_left_out(topic, now)]
        self._to_subscribe = [topic for topic in wanted if topic not in self._not_heard]
        self._active = []
        return self._next_subscription(ConnectionState.SUBSCRIBING, [], now)

    # --- subscribing

    def _subscribed(self, answer: Subscribed, now: float) -> tuple[ConnectionState, list[Instruction]]:
        self._to_subscribe.remove(answer.topic)
        self._subscriptions.answered(answer.topic)
        logs: list[Instruction] = []
        self._not_heard = [topic for topic in self._not_heard if topic != answer.topic]
        if answer.refusal:
            self._not_heard.append(answer.topic)
            logs = self._log(answer.refusal)
        else:
            self._active.append(answer.topic)
        if self.state is ConnectionState.RESUBSCRIBING and not answer.refusal:
            self.missing = [what for what in self.missing if answer.topic not in what]
        return self._next_subscription(self.state, logs, now)

    def _next_subscription(
        self, state: ConnectionState, logs: list[Instruction], now: float
    ) -> tuple[ConnectionState, list[Instruction]]:
        if self._to_subscribe:
            topic = self._to_subscribe[0]
            return state, [*logs, Subscribe(topic, self._subscriptions.qos(topic))]
        if state is ConnectionState.SUBSCRIBING:
            # After ``online``, clients can send commands.
            logs += [Begin(), *self._log(f"connected with MQTT {self._accepted.version}", logging.INFO)]
            logs += self._name_missing()
        return ConnectionState.ONLINE, [*logs, self._exchange(now)]

    def _name_missing(self) -> list[Instruction]:
        """Say once what the broker does not give."""
        missing = self._negotiation.will.missing()
        if not self._accepted.retain:
            missing.append("retained messages: state is seen only by clients that listen already")
        if not self._accepted.qos:
            missing.append("QoS 1: messages may be lost on the way to the broker")
        missing += [f"subscription to {topic}" for topic in self._not_heard]
        is_new = missing and missing != self.missing
        self.missing = missing
        return [LogLine(f"the broker does not give: {'; '.join(missing)}")] if is_new else []

    # --- online

    def _exchange(self, now: float) -> Exchange:
        """Publish until there is something else to do."""
        good_at = self._accepted_at + GOOD if self._logged else math.inf
        due = self._subscriptions.next_due(self._wanted())
        return Exchange(max(now, min(good_at, due)))

    def _resubscribe_or_exchange(self, now: float) -> tuple[ConnectionState, list[Instruction]]:
        if self._logged and now - self._accepted_at >= GOOD:
            self._logged.clear()  # the next failure is logged again
        everything = self._wanted()
        wanted = [topic for topic in everything if not self._subscriptions.is_left_out(topic, now)]
        gone = [topic for topic in self._active if topic not in wanted]
        again = [topic for topic in wanted if self._subscriptions.is_due_again(topic)]
        self._active = [topic for topic in self._active if topic not in (*gone, *again)]
        self._not_heard = [topic for topic in self._not_heard if topic in everything]
        # What the broker refused is tried again on the next connection.
        refused = [topic for topic in self._not_heard if not self._subscriptions.was_left_out(topic)]
        self._to_subscribe = [topic for topic in wanted if topic not in self._active and topic not in refused]
        done: list[Instruction] = [Unsubscribe(tuple(gone))] if gone else []
        state = ConnectionState.RESUBSCRIBING if self._to_subscribe else ConnectionState.ONLINE
        return self._next_subscription(state, done, now)

    def _wanted(self) -> list[str]:
        return self._subscriptions.wanted(wildcards=self._accepted.wildcards)

    def is_subscribed(self, topic: str) -> bool:
        """Whether a subscription is active on the present connection."""
        return topic in self._active

    # --- the end of a connection

    def _stop(self, *, stopped: bool) -> tuple[ConnectionState, list[Instruction]]:
        self._stops = stopped
        if self.state is ConnectionState.WAITING:
            return ConnectionState.STOPPED, []
        return ConnectionState.LEAVING, [Leave(stopped)]

    def _left(self, now: float) -> tuple[ConnectionState, list[Instruction]]:
        self._unreadable_ends = 0
        self._reset_pause(now, learned=False)
        if self._stops:
            self.last_disconnect = "stopped"
            return ConnectionState.STOPPED, []
        self.last_disconnect = "a secret was replaced"
        return self._pause([LogLine("a secret was replaced; connecting again", logging.INFO)])

    def _lost(self, lost: Lost, now: float) -> tuple[ConnectionState, list[Instruction]]:
        if self.state in {ConnectionState.SUBSCRIBING, ConnectionState.RESUBSCRIBING}:
            self._subscriptions.ended(self._to_subscribe[0], now)
        if lost.end == "unreadable":
            for topic in filter(self._subscriptions.is_bulk, self._active):
                self._subscriptions.leave_out(topic, now + BULK_REST)
        self._unreadable_ends = self._unreadable_ends + 1 if lost.end == "unreadable" else 0
        if lost.used and lost.end == "closed" and not lost.code:
            self._breaks.append(now)
        logs = self._log(lost.reason)
        self.last_disconnect = lost.reason
        if len(self._breaks) == BREAKS and now - self._breaks[0] <= BREAKS_WITHIN:
            self.last_disconnect = (
                f"{lost.reason} again and again; another client may use the same client_id {self._client_id!r}: "
                "give each device its own id"
            )
            # No event: while a message is suspected, none is added.
            logs += self._log(self.last_disconnect, event=False)
        self._reset_pause(now, learned=lost.learned)
        return self._pause(logs)

    def _reset_pause(self, now: float, *, learned: bool) -> None:
        """Make the pause short again after a good connection, or one that narrowed a search."""
        if learned or now - self._accepted_at >= GOOD:
            self._failures = 0

    def _pause(self, logs: list[Instruction]) -> tuple[ConnectionState, list[Instruction]]:
        self._failures += 1
        return ConnectionState.WAITING, [*logs, Wait(self._backoff.pause(self._failures))]

    def _log(self, text: str, level: int = logging.WARNING, *, event: bool = True) -> list[Instruction]:
        """Return the instruction to log a line, once until a connection has been good."""
        if text in self._logged:
            return []
        if len(self._logged) >= MOST_LOGGED:
            self._logged.clear()
        self._logged.add(text)
        return [LogLine(text, level, event and level >= logging.WARNING)]
