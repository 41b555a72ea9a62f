"""Results, counts and times in words, short enough for a line. Texts that come from outside are cleaned here."""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from limpet.contracts.detected_events import KeywordEvent, ObjectEvent, ZoneEvent
from limpet.contracts.drift_words import described
from limpet.contracts.outputs import (
    Anomaly,
    Classification,
    Cluster,
    Detections,
    Embedding,
    Keypoints,
    Keyword,
    Labels,
    Regression,
    Segmentation,
    Tensors,
)
from limpet.contracts.source import SOURCE_FAULTS
from limpet.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from limpet.contracts.detected_events import DetectedEvent
    from limpet.contracts.drift import MonitorsHealth
    from limpet.contracts.savings import Saver, Saving

LONGEST = 200
"""Characters of a text from outside."""
SHOWN = 8
"""Quantities, labels or causes of one result or pipeline that are named."""
BARS = "▁▂▃▄▅▆▇█"


class Result(NamedTuple):
    """A result in words.

    ``alarm``: it is one that a person should see. ``shares``: classes with their scores, best first. ``numbers``
    by name are what is worth a curve, and ``limit`` is what the only one is compared with.
    """

    text: str
    alarm: bool = False
    shares: tuple[tuple[str, float], ...] = ()
    numbers: tuple[tuple[str, float], ...] = ()
    limit: float | None = None


def is_picture(shape: Sequence[int]) -> bool:
    """Whether samples of this shape are frames: height, width and colours."""
    return len(shape) == 3 and shape[2] in {1, 3}


def samples(shape: Sequence[int]) -> str:
    """Return what samples of this shape are called."""
    return "frames" if is_picture(shape) else "samples"


def form(shape: Sequence[int]) -> str:
    """Return what samples of this shape are like; "" if that is not known yet."""
    if 0 in shape or not shape:
        return ""
    sizes = [str(size)[:12] for size in shape[:4]]
    if is_picture(shape):
        return f"picture {sizes[1]} x {sizes[0]}"
    if len(shape) == 1:
        return f"{sizes[0]} channel{'' if shape[0] == 1 else 's'}"
    return f"input {' x '.join(sizes)}"


def cleaned(text: str, longest: int = LONGEST) -> str:
    """Return a text from outside in one line of printable characters."""
    text = text[: longest + 1]
    return printable(" ".join(text.split()))[:longest] + ("…" if len(text) > longest else "")


def result(output: Any) -> Result:
    """Return a decoder's output in words. A mapping of another shape is shown as JSON."""
    for kind, describe in _KINDS:
        try:
            known: Any = msgspec.convert(output, kind)
        except (msgspec.ValidationError, RecursionError):
            continue
        learns = isinstance(output, dict) and output.get("untrained") is True
        described: Result = describe(known)
        return described._replace(text=f"{described.text} (still learning)") if learns else described
    try:
        return Result(cleaned(msgspec.json.encode(output).decode()))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return Result("a result that cannot be shown")


def _classification(output: Classification) -> Result:
    shares = tuple((cleaned(one.label, 40), one.score) for one in output.top[:SHOWN] if one.score is not None)
    possible = output.set or []
    others = f" of {', '.join(cleaned(one, 40) for one in possible[:SHOWN])}" if len(possible) > 1 else ""
    if output.label is not None and not output.abstained:
        return Result(f"{cleaned(output.label, 40)}{_percent(output.score)}{others}", shares=shares)
    best = f": {shares[0][0]}{_percent(shares[0][1])}" if shares else ""
    return Result(f"unsure{best}{others}", shares=shares)


def _anomaly(output: Anomaly) -> Result:
    if output.score is None:
        return Result("no score", alarm=output.anomalous)
    text = f"{'ANOMALY' if output.anomalous else 'normal'} {number(output.score)} of {number(output.threshold)}"
    return Result(text, output.anomalous, numbers=(("score", output.score),), limit=output.threshold)


def detected_event(details: DetectedEvent) -> str:
    """Return the words for an event that a decoder or a postprocess stage detected."""
    if isinstance(details, KeywordEvent):
        return f"{details.label} {details.score:.0%}"
    what = f"{details.label} {details.id}"
    if isinstance(details, ObjectEvent):
        return f"{what} is there" if details.type == "new" else f"{what} {_CHANGES[details.type]}"
    if isinstance(details, ZoneEvent):
        return f"{what} {details.type} {details.zone}"
    return f"{what} crossed {details.line} {details.direction}"


def alarms(monitors: MonitorsHealth) -> list[str]:
    """Return the alarms that hold, each in words."""
    held = [(name, one.alarm) for name, one in monitors.monitors.items() if one.alarm is not None]
    return [cleaned(described(name, alarm)) for name, alarm in held[:SHOWN]]


_CHANGES = {"update": "changed", "end": "is gone"}


def _in_zones(zones: Mapping[str, Mapping[str, int]]) -> str:
    there = [(zone, sum(counts.values())) for zone, counts in zones.items()]
    named = [f"{counted(count)} in {cleaned(zone, 40)}" for zone, count in there if count]
    return f" ({', '.join(named[:SHOWN])})" if named else ""


def _detections(output: Detections) -> Result:
    text = _counts(output.counts) + _in_zones(output.zones)
    return Result(text, numbers=(("boxes", float(min(len(output.detections), 1 << 32))),))


def _keypoints(output: Keypoints) -> Result:
    text = _counts(output.counts) + _in_zones(output.zones)
    return Result(text, numbers=(("poses", float(min(len(output.poses), 1 << 32))),))


def _segmentation(output: Segmentation) -> Result:
    there = sorted(((label, part) for label, part in output.shares.items() if part), key=lambda one: -one[1])
    shares = tuple((cleaned(label, 40), part) for label, part in there[:SHOWN])
    named = ", ".join(f"{label}{_percent(part)}" for label, part in shares)
    return Result(f"{named}{', …' if len(there) > SHOWN else ''}" or "nothing found", shares=shares)


def _counts(counts: Mapping[str, int]) -> str:
    there = [(label, count) for label, count in counts.items() if count]
    named = ", ".join(f"{counted(count)} {cleaned(label, 40)}" for label, count in there[:SHOWN])
    return f"{named}{', …' if len(there) > SHOWN else ''}" or "nothing found"


def _regression(output: Regression) -> Result:
    parts, numbers = [], []
    for name, value in list(output.values.items())[:SHOWN]:
        unit = f" {cleaned(output.units[name], 10)}" if name in output.units else ""
        between = (output.intervals or {}).get(name)
        reach = f" ({number(between[0])} to {number(between[1])})" if between else ""
        parts.append(f"{cleaned(name, 30)} {'?' if value is None else number(value)}{unit}{reach}")
        if value is not None:
            numbers.append((cleaned(name, 30), value))
    more = ", …" if len(output.values) > SHOWN else ""
    strange = ("" if output.in_range else " (out of range)") + (" (unsure)" if output.abstained else "")
    return Result(f"{', '.join(parts)}{more}{strange}", not output.in_range, numbers=tuple(numbers))


def _keyword(output: Keyword) -> Result:
    shares = tuple((cleaned(name, 40), score) for name, score in output.scores.items() if score is not None)[
        :SHOWN
    ]
    if output.keyword is not None:
        return Result(f"heard {cleaned(output.keyword, 40)}{_percent(output.score)}", alarm=True, shares=shares)
    return Result(f"listening{_percent(output.score)}", shares=shares)


def _labels(output: Labels) -> Result:
    shown = output.labels[:SHOWN]
    shares = tuple((cleaned(one.label, 40), one.score) for one in shown if one.score is not None)
    text = ", ".join(f"{cleaned(one.label, 40)}{_percent(one.score)}" for one in shown)
    return Result(f"{text}{', …' if len(output.labels) > SHOWN else ''}" or "no label applies", shares=shares)


def _cluster(output: Cluster) -> Result:
    numbers = () if output.distance is None else (("distance", output.distance),)
    if output.label is None:
        near = f", nearest {cleaned(output.nearest, 40)}" if output.nearest is not None else ""
        return Result(f"unknown{near}", alarm=True, numbers=numbers)
    return Result(f"{cleaned(output.label, 40)}, distance {number(output.distance)}", numbers=numbers)


def _embedding(output: Embedding) -> Result:
    shares = tuple((cleaned(one.label, 40), one.score) for one in output.top[:SHOWN] if one.score is not None)
    if output.label is None:
        return Result("not known" if shares else "nothing is enrolled", shares=shares)
    return Result(f"{cleaned(output.label, 40)}{_percent(output.similarity)}", shares=shares)


def _tensors(output: Tensors) -> Result:
    parts = [f"{cleaned(one.name, 30)} {one.shape}" for one in output.tensors[:SHOWN]]
    return Result(", ".join(parts) or "no outputs")


_KINDS: tuple[tuple[type, Any], ...] = (
    (Classification, _classification),
    (Anomaly, _anomaly),
    (Detections, _detections),
    (Keypoints, _keypoints),
    (Segmentation, _segmentation),
    (Regression, _regression),
    (Keyword, _keyword),
    (Cluster, _cluster),
    (Embedding, _embedding),
    (Tensors, _tensors),
    (Labels, _labels),
)


def _percent(score: float | None) -> str:
    return "" if score is None or not math.isfinite(score) or abs(score) > 10 else f" {score:.0%}"


def number(value: float | None) -> str:
    """Return a number with three digits."""
    if value is None or not math.isfinite(value):
        return "?"
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def counted(count: int) -> str:
    """Return a count with commas."""
    return f"{count:,}" if abs(count) < 10**15 else "very many"


def span(us: float) -> str:
    """Return a duration, from µs."""
    if not math.isfinite(us) or us < 0:
        return "?"
    if us < 999.5:
        return f"{us:.3g} µs"
    return f"{us / 1000:.3g} ms" if us < 999_500 else f"{us / 1e6:.3g} s"


def share(value: float | None) -> str:
    """Return a share as percent."""
    return "?" if value is None or not -10 < value < 1000 else f"{value:.0%}"


def rate(per_second: float | None) -> str:
    """Return how many a second."""
    return "?/s" if per_second is None or not math.isfinite(per_second) else f"{number(per_second)}/s"


def spared(savings: Mapping[Saver, Saving]) -> str:
    """Say for which share of the windows a gate, a cache, a cascade or early exit spared the model."""
    shares = [(saver, one.spared / one.windows) for saver, one in savings.items() if one.windows > 0]
    return ", ".join(f"{share:.0%} by {saver.replace('_', ' ')}" for saver, share in shares)


def causes(dropped: Mapping[str, int]) -> str:
    """Return counts of dropped samples by cause. Causes that count no samples are in ``faults``."""
    named = [
        f"{cleaned(cause, 40)} {counted(count)}"
        for cause, count in dropped.items()
        if count and cause not in SOURCE_FAULTS
    ]
    return ", ".join(named[:SHOWN]) + (", …" if len(named) > SHOWN else "") if named else "none"


def faults(dropped: Mapping[str, int]) -> str:
    """Return how often something was wrong with the source's device; "" if nothing was."""
    named = [
        f"{cause.replace('_', ' ')} {counted(count)} time{'' if count == 1 else 's'}"
        for cause, count in dropped.items()
        if count and cause in SOURCE_FAULTS
    ]
    return ", ".join(named[:SHOWN]) + (", …" if len(named) > SHOWN else "")


def curve(values: Iterable[float], low: float | None = None, high: float | None = None) -> str:
    """Return a sparkline, scaled to these bounds or to its own."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low = min(finite) if low is None else low
    high = max(finite) if high is None else high
    size = high - low
    if not math.isfinite(size) or size <= 0:
        return BARS[0] * len(finite)
    places = (min(max((value - low) / size, 0.0), 1.0) for value in finite)  # far outside, it is infinite
    return "".join(BARS[min(int(place * len(BARS)), len(BARS) - 1)] for place in places)


def bar(share: float, width: int) -> str:
    """Return a bar for a share of 0 to 1."""
    full = round(min(max(share, 0.0), 1.0) * width) if math.isfinite(share) else 0
    return "█" * full + "░" * (width - full)


def cells(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    return sum(_cells(character) for character in text)


def fitted(text: str, width: int) -> str:
    """Return a printable text that takes at most ``width`` columns."""
    if cells(text) <= width:
        return text
    kept, used = "", 0
    for character in text:
        used += _cells(character)
        if used > width - 1:
            break
        kept += character
    return kept + "…" if width > 0 else ""


def padded(text: str, width: int) -> str:
    """Return a printable text that takes ``width`` columns: cut, or with blanks behind it."""
    text = fitted(text, width)
    return text + " " * (width - cells(text))


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
