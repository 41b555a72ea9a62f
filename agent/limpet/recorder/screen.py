"""What `limpet record` shows. Pure functions from a session to lines of text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.source import SOURCE_FAULTS
from limpet.recorder.plot import drawable
from limpet.untrusted import printable
from limpet.watch.words import curve, fitted, padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array
    from limpet.recorder.session import Session

_MOST_WRAPPED = 6
_NAME = 12
_VALUE = 11


def frame(session: Session, title: str, rate: float, labels: Sequence[str], size: tuple[int, int]) -> list[str]:
    """Return the lines of the live view, none wider or more than ``size`` (columns, lines) allows.

    ``rate``: samples a second of late.
    """
    width, height = size
    lines = [
        f"{title}  {clock(session.elapsed)}",
        f"samples {session.samples:,}  rate {rate:.1f}/s  gaps {session.gaps}  {megabytes(session.size)}",
        f"dropped {counted(session.dropped)}",
        f"label   {session.label or '(none)'}",
    ]
    if session.away is not None:
        lines += textwrap.wrap(f"no samples: {session.away}", max(20, width - 1))[:_MOST_WRAPPED]
    chosen = "  ".join(f"{number} {label}" for number, label in enumerate(labels[:9], 1))
    keys = f"keys    {chosen}  0 none  q end" if labels else "keys    q end"
    rows = channels(session.channels, session.recent, width, height - len(lines) - 2)
    return [fitted(printable(line).replace("\n", " "), width - 1) for line in [*lines, *rows, keys]]


def channels(names: Sequence[str], values: Array, width: int, most: int) -> list[str]:
    """Return a line for each channel: its name, its last value and a sparkline."""
    if not len(values):
        return []
    shown = names if len(names) <= most else names[: max(0, most - 1)]
    bars = max(8, min(60, width - _NAME - _VALUE - 3))
    lines = [
        f"{padded(printable(name), _NAME)} {values[-1, at]:>{_VALUE}.5g} {sparkline(values[:, at], bars)}"
        for at, name in enumerate(shown)
    ]
    if len(shown) < len(names):
        lines.append(f"... and {len(names) - len(shown)} more channels")
    return lines


def sparkline(values: Array, width: int) -> str:
    """Draw values from their lowest to their highest, at most ``width`` characters."""
    limited = drawable(values)
    parts = np.array_split(limited, min(width, len(limited)))
    return curve(float(part.mean()) for part in parts)


def line(session: Session, rate: float) -> str:
    """Return the line that is printed now and then where there is no terminal."""
    label = f", label {session.label}" if session.label else ""
    text = (
        f"{clock(session.elapsed)} {session.samples:,} samples, {rate:.1f}/s{label}, "
        f"dropped {counted(session.dropped)}"
    )
    return printable(text if session.away is None else f"{text}, no samples: {session.away}")


def summary(session: Session) -> list[str]:
    """Return what is printed at the end: the files, and samples and seconds of each label."""
    lines = [f"{one.path}: {one.samples:,} samples, {one.seconds:.1f} s" for one in session.done]
    if not session.done:
        return lines
    if session.dropped:
        lines.append(f"dropped {counted(session.dropped)}")
    if session.unknown_labels:
        lines.append(f"{session.unknown_labels:,} values of the label channel have no label")
    lines += ["", f"{'label':20} {'seconds':>10} {'samples':>10}"]
    lines += [
        f"{label or '(none)':20} {session.label_seconds.get(label, 0.0):>10.1f} {session.labelled[label]:>10,}"
        for label in sorted(session.labelled, key=lambda one: (not one, one))
    ]
    return [printable(one) for one in lines]


def counted(dropped: dict[str, int]) -> str:
    """Return what was dropped, by cause, and how often something was wrong with the device."""
    named = [
        f"{cause} {count:,}{' times' if cause in SOURCE_FAULTS else ''}"
        for cause, count in sorted(dropped.items())
        if count
    ]
    return ", ".join(named) or "0"


def clock(seconds: float) -> str:
    """Return a duration as ``h:mm:ss``."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def megabytes(size: int) -> str:
    """Return a size in MB."""
    return f"{size / 1e6:.1f} MB"
