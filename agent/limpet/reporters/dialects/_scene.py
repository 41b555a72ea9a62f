"""What a person wants to know of a camera: whether there is something, in the picture and in each zone.

And of a microphone: which results are those of keywords.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

OCCUPIED = "occupied/"
"""How the paths of occupancy begin: ``occupied/zones/NAME/any`` and ``occupied/labels/LABEL``."""

AS_EVENTS = frozenset({"keyword", "score"})
"""Values of keywords that are no entities: ``keyword`` is set in one window only, and there is an event for it.
``score`` is the highest of ``scores``."""


def hears_keywords(output: Any) -> bool:
    """Whether an output, as decoded from JSON, is that of the decoder ``keyword``, which has events."""
    return isinstance(output, dict) and "keyword" in output and isinstance(output.get("scores"), dict)


def is_scene(output: Any) -> bool:
    """Whether an output, as decoded from JSON, has objects and how many there are of each label."""
    return (
        isinstance(output, dict)
        and isinstance(output.get("counts"), dict)
        and ("detections" in output or "poses" in output)
    )


def is_tracked(output: Any) -> bool:
    """Whether the objects of an output have ids, so that there are events of them."""
    return is_scene(output) and isinstance(output.get("totals"), dict)


def occupancy(output: Any) -> Iterator[tuple[str, bool]]:
    """Yield whether each zone, and the picture for each label, has an object. Zones come first."""
    if not is_scene(output):
        return
    for zone, counts in _tables(output, "zones"):
        yield f"{OCCUPIED}zones/{zone}/any", any(map(_is_positive, counts.values()))
    for label, count in output["counts"].items():
        yield f"{OCCUPIED}labels/{label}", _is_positive(count)


def places(output: Any) -> frozenset[str]:
    """Return how the paths of each zone and each line begin. If one is not there any more, its paths are not."""
    begins = [
        begin for zone, _ in _tables(output, "zones") for begin in (f"{OCCUPIED}zones/{zone}/", f"zones/{zone}/")
    ]
    return frozenset([*begins, *(f"lines/{line}/" for line, _ in _tables(output, "lines"))])


def _tables(output: Any, key: str) -> list[tuple[str, dict[str, Any]]]:
    tables = output.get(key) if is_scene(output) else None
    if not isinstance(tables, dict):
        return []
    return [(name, counts) for name, counts in tables.items() if isinstance(counts, dict)]


def _is_positive(count: Any) -> bool:
    return isinstance(count, int) and count > 0
