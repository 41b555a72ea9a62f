"""How fast the backlog may go out, and how many bytes an hour may cost. The caller brings the time."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from limpet.bucket import Bucket


class ReplayRules(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How what piled up while the broker was away goes out.

    ``fresh``: whether new results go before or after it; "last" keeps everything in order. It begins after a
    random pause of up to a tenth of the outage, at most ``jitter`` seconds, and goes on at
    ``messages_per_second``, each with up to a whole batch of results.
    """

    fresh: Literal["first", "last"] = "last"
    messages_per_second: Annotated[float, Meta(gt=0)] = 100.0
    jitter: Annotated[float, Meta(ge=0)] = 10.0


def replay(messages_per_second: float) -> Bucket:
    """Make a bucket of messages: a second's worth may go at once, so that a short break is made up for at once."""
    return Bucket(messages_per_second, messages_per_second)


def budget(bytes_per_hour: int) -> Bucket:
    """Make a bucket of bytes of which no hour gets more: a quarter saved up, three quarters over the hour."""
    return Bucket(bytes_per_hour * 0.75 / 3600, bytes_per_hour * 0.25)
