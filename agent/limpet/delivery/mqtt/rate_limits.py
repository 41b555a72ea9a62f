"""Limits how fast the backlog goes out, and how many bytes go out an hour. No I/O: the caller brings the time."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from limpet.bucket import Bucket


class ReplayRules(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the backlog goes out: what came while the broker was away."""

    fresh: Literal["first", "last"] = "last"
    """`"last"` keeps all messages in order. `"first"`: new results go before those that waited."""
    messages_per_second: Annotated[float, Meta(gt=0)] = 100.0
    """Messages a second, each with up to `batch_count` results."""
    jitter: Annotated[float, Meta(ge=0)] = 10.0
    """Longest random wait in seconds before it begins. The wait is at most a tenth of the outage."""


def replay(messages_per_second: float) -> Bucket:
    """Make a bucket of messages. The messages of one second may go at once, as after a short break."""
    return Bucket(messages_per_second, messages_per_second)


def budget(bytes_per_hour: int) -> Bucket:
    """Make a bucket of bytes. No hour gets more: a quarter may be saved up, the rest comes over the hour."""
    return Bucket(bytes_per_hour * 0.75 / 3600, bytes_per_hour * 0.25)
