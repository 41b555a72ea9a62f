"""How to try to connect: with which version of MQTT, and with how much of a last will. No I/O.

Brokers without retained messages or QoS 1 refuse a last will that asks for them. In MQTT 5 they say so; in 3.1.1
they close the connection without an answer, as brokers do that are starting or know another version only.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from limpet.delivery.mqtt.connection import UNSUPPORTED_VERSION

Version: TypeAlias = Literal["5", "3.1.1"]

RETAIN_UNSUPPORTED = 0x9A
QOS_UNSUPPORTED = 0x9B
TOPIC_INVALID = 0x90


class Will(NamedTuple):
    """What of the last will is asked for."""

    there: bool = True
    retain: bool = True
    qos: int = 1

    def lost(self) -> list[str]:
        """Return what is lost, in words for a person."""
        if not self.there:
            return ["last will: `status` does not change when the connection breaks"]
        lost = [] if self.retain else ["retained last will"]
        return lost if self.qos else [*lost, "QoS 1 of the last will"]


WHOLE = Will()
LESSER = (Will(retain=False), Will(retain=False, qos=0), Will(there=False, retain=False, qos=0))
_ROUND = (WHOLE, WHOLE, *LESSER)
"""Wills tried in turn while the broker closes the connection without an answer."""


class Negotiation:
    """Decides on the next attempt. ``version`` and ``will`` are those of the attempt at hand."""

    def __init__(self, protocol: Literal["auto", "5", "3.1.1"]) -> None:
        self.version: Version = "3.1.1" if protocol == "3.1.1" else "5"
        self.will = WHOLE
        self._auto = protocol == "auto"
        self._has_5 = False
        self._silent = 0
        self._accepted: Will = WHOLE
        self._sure = True

    def start(self) -> None:
        """Choose version and will of the next attempt."""
        versions = 2 if self._auto and not self._has_5 else 1
        if versions == 2:
            self.version = "3.1.1" if self._silent % 2 else "5"
        wills: tuple[Will, ...] = (self._accepted,) if self._sure else (WHOLE, self._accepted)
        place = self._silent // versions
        if self._accepted == WHOLE or place >= len(wills):
            wills = _ROUND
        self.will = wills[place % len(wills)]

    def refused(self, code: int) -> bool:
        """Take note of a refusal, 0 for one without a word; return whether to try another way at once."""
        if code == 0:
            self._silent += 1
            return False
        if code == UNSUPPORTED_VERSION and self._auto and self.version == "5" and not self._has_5:
            self.version = "3.1.1"
            return True
        lesser = self.will
        if code == RETAIN_UNSUPPORTED:
            lesser = self.will._replace(retain=False)
        elif code == QOS_UNSUPPORTED:
            lesser = self.will._replace(qos=0)
        elif code == TOPIC_INVALID:
            lesser = LESSER[-1]
        changed = lesser != self.will
        self.will = lesser
        return changed

    def accepted(self) -> None:
        """Take note of a connection."""
        self._has_5 = self._has_5 or self.version == "5"
        # What was accepted after silence may be chance: the whole will is tried once more the next time.
        self._sure = self.will == self._accepted or not self._silent
        self._accepted = self.will
        self._silent = 0
