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
    """How one class of messages is kept."""

    keep: Keep
    """`"durable"`: on the disk at once. `"spill"`: on the disk if the broker is away or late. `"memory"`: never on
    the disk."""
    max_bytes: Bytes
    """Bytes on the disk, where batches are compressed."""
    max_age: Seconds
    """Seconds for which a message is kept."""
    when_full: WhenFull = "drop-oldest"
    """`"drop-oldest"` of the pipelines with most messages; `"keep-every-nth"` thins them, oldest first; `"refuse"`
    drops new ones."""
    nth: Annotated[int, Meta(ge=2)] = 10
    """For `"keep-every-nth"`: one message in so many stays."""


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
    """The outbox keeps messages until the broker acknowledges them."""

    events: EventRules = msgspec.field(default_factory=EventRules)
    """Rules for events."""
    results: ResultRules = msgspec.field(default_factory=ResultRules)
    """Rules for results."""
    memory_bytes: Annotated[int, Meta(ge=65_536)] = 16 * MIB
    """Bytes that may be in memory and not on the disk."""
    min_free_bytes: Annotated[int, Meta(ge=0)] = 64 * MIB
    """Free bytes that the outbox leaves on the disk."""
    spill_after: Seconds = 2.0
    """Seconds without acknowledgement after which `"spill"` writes to the disk."""
