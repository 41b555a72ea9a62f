"""Decides how to try to connect: with which version of MQTT, and with how much of a last will. No I/O.

Brokers without retained messages or QoS 1 refuse a last will that asks for them. In MQTT 5 they say so. In 3.1.1
they close the connection without an answer, as brokers do that are starting or know another version only.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

MqttVersion: TypeAlias = Literal["5", "3.1.1"]

UNSUPPORTED_VERSION = 0x84
TOPIC_INVALID = 0x90
RETAIN_UNSUPPORTED = 0x9A
QOS_UNSUPPORTED = 0x9B


class WillOptions(NamedTuple):
    """What a last will asks of the broker. ``present``: there is one at all."""

    present: bool = True
    retain: bool = True
    qos: int = 1

    def missing(self) -> list[str]:
        """Return what a user misses because the will asks for less, in words."""
        if not self.present:
            return ["last will: `status` does not change when the connection breaks"]
        missing = [] if self.retain else ["retained last will"]
        return missing if self.qos else [*missing, "QoS 1 of the last will"]


FULL = WillOptions()
REDUCED = (
    WillOptions(retain=False),
    WillOptions(retain=False, qos=0),
    WillOptions(present=False, retain=False, qos=0),
)
_ROUND = (FULL, FULL, *REDUCED)
"""Wills tried in turn while the broker closes the connection without an answer."""


class Negotiation:
    """``version`` and ``will`` are those of the present attempt."""

    def __init__(self, protocol: Literal["auto", "5", "3.1.1"]) -> None:
        self.version: MqttVersion = "3.1.1" if protocol == "3.1.1" else "5"
        self.will = FULL
        self._auto = protocol == "auto"
        self._has_5 = False
        self._silent = 0
        self._accepted: WillOptions = FULL
        self._is_sure = True

    def start(self) -> None:
        """Choose version and will of the next attempt."""
        versions = 2 if self._auto and not self._has_5 else 1
        if versions == 2:
            self.version = "3.1.1" if self._silent % 2 else "5"
        wills: tuple[WillOptions, ...] = (self._accepted,) if self._is_sure else (FULL, self._accepted)
        place = self._silent // versions
        if self._accepted == FULL or place >= len(wills):
            wills = _ROUND
        self.will = wills[place % len(wills)]

    def refused(self, code: int) -> bool:
        """Take in a refusal, 0 for one without a reason; return whether to try another way at once."""
        if code == 0:
            self._silent += 1
            return False
        if code == UNSUPPORTED_VERSION and self._auto and self.version == "5" and not self._has_5:
            self.version = "3.1.1"
            return True
        reduced = self.will
        if code == RETAIN_UNSUPPORTED:
            reduced = self.will._replace(retain=False)
        elif code == QOS_UNSUPPORTED:
            reduced = self.will._replace(qos=0)
        elif code == TOPIC_INVALID:
            reduced = REDUCED[-1]
        changed = reduced != self.will
        self.will = reduced
        return changed

    def accepted(self) -> None:
        """Take in a connection."""
        self._has_5 = self._has_5 or self.version == "5"
        # A broker that accepts a will after silence may have just started: the full will is tried once more.
        self._is_sure = self.will == self._accepted or not self._silent
        self._accepted = self.will
        self._silent = 0
