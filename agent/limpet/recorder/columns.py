"""Which columns of a source are recorded. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from limpet.errors import ConfigError, SourceError
from limpet.recordings.layouts import TIME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.recorder.source_records import Described


class Columns(NamedTuple):
    """``channels`` are recorded; ``units`` has one for each, or none at all. ``label``: the column with labels."""

    channels: list[str]
    units: tuple[str, ...]
    label: int | None


def recorded(described: Described, label_channel: str, units: Sequence[str]) -> Columns:
    """Return the columns for the options ``--label-channel`` (empty for none) and ``--units``.

    ``ConfigError`` if they do not go with the source. ``SourceError`` if two channels have one name.
    """
    channels = list(described.channels)
    if len(set(channels)) < len(channels):
        raise SourceError("the source has two channels with the same name")
    label = None
    if label_channel:
        if label_channel not in channels:
            there = f"the source has no channel {label_channel!r}; it has {', '.join(channels)}"
            raise ConfigError([f"--label-channel: {there}"])
        label = channels.index(label_channel)
        del channels[label]
    if not channels:
        raise ConfigError(["--label-channel: the source has no other channel"])
    if reserved := {TIME, "label"}.intersection(channels):
        advice = " or use --label-channel label --labels ..." if "label" in reserved else ""
        raise ConfigError([f"a channel is called {min(reserved)!r}; use another name{advice}"])
    known = [unit for at, unit in enumerate(described.units) if at != label]
    chosen = tuple(units) or tuple(known)
    if chosen and len(chosen) != len(channels):
        raise ConfigError([f"--units: {len(chosen)} units for {len(channels)} channels ({', '.join(channels)})"])
    return Columns(channels, chosen, label)
