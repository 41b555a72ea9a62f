"""Records within the limit on bytes that would be many times as large as objects in the supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from attacker_attempts import Attempts
from attacker_records import heartbeat, own, result, transition

if TYPE_CHECKING:
    from collections.abc import Callable

    from attacker_border import Border

ATTEMPTS = Attempts()
MOST = (1 << 21) - 2000
"""Bytes of a record, nearly."""
KEYS = [f"{number:04x}" for number in range(1 << 16)]


def _with(record: dict[str, Any], key: str, value: bytes) -> bytes:
    """Return a record with one more field, given as msgpack."""
    encoded = msgspec.msgpack.encode(record)
    return bytes([encoded[0] + 1]) + encoded[1:] + msgspec.msgpack.encode(key) + value


def _many(item: bytes, number: int) -> bytes:
    return b"\xdd" + number.to_bytes(4, "big") + item * number


MADE: dict[str, Callable[[], Any]] = {
    "190,000 results of no bytes": lambda: _with(
        {"type": "Results"}, "items", _many(b"\x9a\xa0\xa0\0\xa0\xc2\0\0\0\0\xc0", MOST // 11)
    ),
    "65,536 pipelines in one heartbeat": lambda: heartbeat(own(), {}) | {"pipelines": {key: {} for key in KEYS}},
    "700,000 parts of a sandbox": lambda: _with(
        transition(own(), "running"), "sandbox", _many(b"\xa2ab", MOST // 3)
    ),
    "65,536 ops that were left to the CPU": lambda: transition(
        own(), "running", placement={"op_share": 1, "left": dict.fromkeys(KEYS, 1)}
    ),
    "an output of 130,000 lists": lambda: result(own(), output=[[]] * 130_000),
    "an output of control characters": lambda: result(own(), output="\1" * 130_000),
    "times before 1970 and after 2200": lambda: result(own(), wall_ns=-(1 << 63), sample=(1 << 63) - 1),
    "the largest counts": lambda: heartbeat(
        own(), {"queue": 1 << 40}, errors=1 << 40, discarded=1 << 40, looked_at=1, clipped=1 << 40
    ),
}


def _attempt(make: Callable[[], Any]) -> Callable[[Border], None]:
    def attack(border: Border) -> None:
        for _ in range(8):
            border.record(make())

    return attack


ATTEMPTS.update({name: _attempt(make) for name, make in MADE.items()})
