"""The states of the connection to a broker, the stimuli that move it, and the instructions that follow."""

from __future__ import annotations

import logging
from enum import Enum
from typing import Literal, TypeAlias

import msgspec

from limpet.delivery.mqtt.negotiation import MqttVersion, WillOptions


class ConnectionState(Enum):
    """``WAITING``: between two attempts to connect. ``RESUBSCRIBING``: online, and trying a topic left out before.

    ``LEAVING``: the last messages go out.
    """

    WAITING = "waiting"
    CONNECTING = "connecting"
    SUBSCRIBING = "subscribing"
    ONLINE = "online"
    RESUBSCRIBING = "resubscribing"
    LEAVING = "leaving"
    STOPPED = "stopped"


End: TypeAlias = Literal["", "closed", "unreadable", "silent", "unacknowledged"]
"""How a connection ended: the broker closed it, sent what could not be read, stopped answering, or answered
everything but one message."""


# --- stimuli


class PauseOver(msgspec.Struct, frozen=True):
    """It is time to connect."""


class Accepted(msgspec.Struct, frozen=True):
    """The broker accepted the connection. What it takes: retained messages, wildcards, the highest QoS."""

    version: MqttVersion
    retain: bool
    wildcards: bool
    qos: int


class Refused(msgspec.Struct, frozen=True):
    """The broker refused the connection with a reason code of MQTT 5; 0: it closed it without an answer."""

    reason: str
    code: int
    end: End = ""


class Failed(msgspec.Struct, frozen=True):
    """No connection could be made."""

    reason: str
    end: End = ""


class Subscribed(msgspec.Struct, frozen=True):
    """The broker answered a subscription. ``refusal`` is empty if it accepted it."""

    topic: str
    refusal: str = ""


class Due(msgspec.Struct, frozen=True):
    """The time has come that ``Exchange`` named, or other subscriptions are wanted."""


class SecretReplaced(msgspec.Struct, frozen=True):
    """A certificate, a key or the password is another one."""


class StopRequested(msgspec.Struct, frozen=True):
    """The reporter closes."""


class Lost(msgspec.Struct, frozen=True):
    """The connection ended, with this reason code of the broker, 0 for none.

    ``used``: the broker had acknowledged messages on it. ``learned``: its end says more about a suspected message.
    """

    reason: str
    end: End = ""
    code: int = 0
    used: bool = False
    learned: bool = False


class Left(msgspec.Struct, frozen=True):
    """The last messages are sent, and the connection is closed."""


class Crashed(msgspec.Struct, frozen=True):
    """A bug ended the connection. It is logged already."""


Stimulus: TypeAlias = (
    PauseOver
    | Accepted
    | Refused
    | Failed
    | Subscribed
    | Due
    | SecretReplaced
    | StopRequested
    | Lost
    | Left
    | Crashed
)


# --- instructions


class Wait(msgspec.Struct, frozen=True):
    """Wait, then say ``PauseOver``."""

    seconds: float


class Connect(msgspec.Struct, frozen=True):
    """Connect. ``clean``: without the session that the broker has kept."""

    version: MqttVersion
    will: WillOptions
    clean: bool


class Subscribe(msgspec.Struct, frozen=True):
    """Subscribe to a topic."""

    topic: str
    qos: int = 1


class Unsubscribe(msgspec.Struct, frozen=True):
    """Give subscriptions up."""

    topics: tuple[str, ...]


class Begin(msgspec.Struct, frozen=True):
    """Publish ``online`` and the state of everything first."""


class Exchange(msgspec.Struct, frozen=True):
    """Publish and receive until something happens, or say ``Due`` at a ``time.monotonic``."""

    until: float


class Leave(msgspec.Struct, frozen=True):
    """Send the last messages and close the connection. ``stopped``: with ``offline``, as the daemon stops."""

    stopped: bool


class LogLine(msgspec.Struct, frozen=True):
    """Log a line. ``event``: report it as an event, too."""

    text: str
    level: int = logging.WARNING
    event: bool = False


Instruction: TypeAlias = Wait | Connect | Subscribe | Unsubscribe | Begin | Exchange | Leave | LogLine

_S = ConnectionState
TRANSITIONS: dict[tuple[ConnectionState, type[Stimulus]], tuple[ConnectionState, ...]] = {
    (_S.WAITING, PauseOver): (_S.CONNECTING,),
    (_S.WAITING, StopRequested): (_S.STOPPED,),
    (_S.WAITING, Crashed): (_S.WAITING,),
    (_S.CONNECTING, Accepted): (_S.SUBSCRIBING, _S.ONLINE),
    (_S.CONNECTING, Refused): (_S.CONNECTING, _S.WAITING),
    (_S.CONNECTING, Failed): (_S.WAITING,),
    (_S.CONNECTING, Crashed): (_S.WAITING,),
    (_S.SUBSCRIBING, Subscribed): (_S.SUBSCRIBING, _S.ONLINE),
    (_S.SUBSCRIBING, Lost): (_S.WAITING,),
    (_S.SUBSCRIBING, Crashed): (_S.WAITING,),
    (_S.ONLINE, Due): (_S.ONLINE, _S.RESUBSCRIBING),
    (_S.ONLINE, SecretReplaced): (_S.LEAVING,),
    (_S.ONLINE, StopRequested): (_S.LEAVING,),
    (_S.ONLINE, Lost): (_S.WAITING,),
    (_S.ONLINE, Crashed): (_S.WAITING,),
    (_S.RESUBSCRIBING, Subscribed): (_S.RESUBSCRIBING, _S.ONLINE),
    (_S.RESUBSCRIBING, Lost): (_S.WAITING,),
    (_S.RESUBSCRIBING, Crashed): (_S.WAITING,),
    (_S.LEAVING, Left): (_S.WAITING, _S.STOPPED),
    (_S.LEAVING, Lost): (_S.WAITING,),
    (_S.LEAVING, Crashed): (_S.WAITING,),
}
"""Which stimulus may come in which state, and the states that it may lead to."""
