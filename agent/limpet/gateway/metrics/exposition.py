"""Metrics as Prometheus reads them: its own text format, and OpenMetrics. No I/O.

``prometheus_client`` writes OpenMetrics, too. For 20 pipelines it takes 25 ms, in which the gateway serves no
one else. The tests read what this module writes with its parsers, and with promtool.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from limpet.gateway.metrics.family import BOUNDS, Durations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from limpet.gateway.metrics.family import Family

_UNITS = {"s": "seconds", "By": "bytes", "Cel": "celsius", "1": "ratio", "": ""}
_BOUNDS = (*(f'le="{bound!r}"' for bound in BOUNDS), 'le="+Inf"')


class Format(NamedTuple):
    """A text format, and the media type that names it."""

    media_type: str
    is_open: bool


TEXT = Format("text/plain; version=0.0.4; charset=utf-8", is_open=False)
OPEN_METRICS = Format("application/openmetrics-text; version=1.0.0; charset=utf-8", is_open=True)


def accepted(accept: str) -> Format:
    """Return the format that the header ``Accept`` prefers: OpenMetrics only if it is named."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights[kind] = max(weights.get(kind, 0.0), _weight(parameters))
    is_open = weights.get("application/openmetrics-text", 0.0)
    return OPEN_METRICS if is_open and is_open >= weights.get("text/plain", 0.0) else TEXT


def _weight(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def name_of(family: Family) -> str:
    """Return Prometheus' name of a metric, without ``_total``, ``_info`` or ``_bucket``."""
    name, unit = family.name.replace(".", "_"), _UNITS[family.unit]
    return f"{name}_{unit}" if unit else name


def write(families: Iterable[Family], form: Format) -> bytes:
    """Return the metrics as text."""
    lines: list[str] = []
    for family in families:
        lines += _family(family, is_open=form.is_open)
    if form.is_open:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _family(family: Family, *, is_open: bool) -> Iterator[str]:
    name, kind = name_of(family), family.kind
    sample = f"{name}{_SUFFIX.get(kind, '')}"
    # In Prometheus' own format, a family has the name of its samples, and it knows no info.
    title = name if is_open else sample
    yield f"# TYPE {title} {kind if is_open or kind != 'info' else 'gauge'}"
    if is_open and (unit := _UNITS[family.unit]):
        yield f"# UNIT {title} {unit}"
    yield f"# HELP {title} {_escaped(family.text)}"
    for labels, value in family.points:
        if isinstance(value, Durations):
            yield from _histogram(name, labels, value)
        else:
            yield f"{sample}{_braced(_pairs(labels))} {_number(value)}"


_SUFFIX = {"counter": "_total", "info": "_info"}


def _histogram(name: str, labels: Mapping[str, str], value: Durations) -> Iterator[str]:
    pairs = _pairs(labels)
    before = f"{name}_bucket{{{pairs}," if pairs else f"{name}_bucket{{"
    total = 0
    for bound, total in zip(_BOUNDS, accumulate(value.counts), strict=True):
        yield f"{before}{bound}}} {total}"
    yield f"{name}_count{_braced(pairs)} {total}"
    yield f"{name}_sum{_braced(pairs)} {_number(value.total_s)}"


def _pairs(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items())


def _braced(pairs: str) -> str:
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    """Return a label's value. Half characters, which UTF-8 cannot have, are replaced."""
    return _escaped(text).replace('"', '\\"').encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if value in {float("inf"), float("-inf")}:
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if value != value else repr(value)  # noqa: PLR0124 - so it is not a number
