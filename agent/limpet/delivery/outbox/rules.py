"""The configuration of the outbox."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MIB = 1024 * 1024
DAY = 86_400.0

Keep = Literal["memory", "spill", "durable"]
WhenFull = Literal["drop-oldest", "keep-every-nth", "refuse"]
Bytes = Annotated[int, Meta(ge=1024)]
Seconds = Annotated[float, Meta(gt=0)]


class Rules(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How one class of messages is kept.

    ``keep``: "durable" writes to the disk at once, "spill" what is not acknowledged within ``spill_after``
    seconds, "memory" never. ``max_bytes`` bounds the class, ``max_age`` is in seconds.
    ``when_full``: "drop-oldest" sheds the oldest of the pipelines that hold most, "keep-every-nth" all but every
    ``nth`` message of a pipeline, oldest first, and "refuse" what comes.
    """

    keep: Keep
    max_bytes: Bytes
    max_age: Seconds
    when_full: WhenFull = "drop-oldest"
    nth: Annotated[int, Meta(ge=2)] = 10


class EventRules(Rules, kw_only=True, forbid_unknown_fields=True):
    """Events are few, and must not be lost."""

    keep: Keep = "durable"
    max_bytes: Bytes = 16 * MIB
    max_age: Seconds = 30 * DAY


class ResultRules(Rules, kw_only=True, forbid_unknown_fields=True):
    """Results touch the disk only when the broker is away or late. A day of ten a second takes about 100 MiB."""

    keep: Keep = "spill"
    max_bytes: Bytes = 256 * MIB
    max_age: Seconds = 7 * DAY


class OutboxRules(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The outbox. Times are in seconds.

    ``memory_bytes`` bounds what is in memory and not on the disk. Nothing is written while the disk
    has less than ``min_free_bytes`` free.
    """

    events: EventRules = msgspec.field(default_factory=EventRules)
    results: ResultRules = msgspec.field(default_factory=ResultRules)
    memory_bytes: Annotated[int, Meta(ge=65_536)] = 16 * MIB
    min_free_bytes: Annotated[int, Meta(ge=0)] = 64 * MIB
    spill_after: Seconds = 2.0
