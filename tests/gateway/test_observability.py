"""The rules and the dashboard in packaging/observability name metrics that there are."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from limpet.gateway.metrics.exposition import name_of
from limpet.gateway.metrics.families import families
from limpet.gateway.metrics.inference import inference_families
from support.figures import figures, served

if TYPE_CHECKING:
    from limpet.gateway.metrics.family import Family

FOLDER = Path(__file__).parents[2] / "packaging" / "observability"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
REPORTERS = {"mqtt": {"kind": "mqtt", "connected": True, "refused": {"too large": 1}, "shed": {"size": 1}}}
_SUFFIXES = {
    "counter": ("_total",),
    "info": ("_info",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gauge": ("",),
}


def _families() -> list[Family]:
    return [
        *families(figures()),
        *families(figures(reporters=REPORTERS)),
        *inference_families(served()),
    ]


def _names() -> set[str]:
    found = _families()
    return {name_of(family) + suffix for family in found for suffix in _SUFFIXES[family.kind]}


def _used(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w:])limpet_\w+", text))


def _dashboard() -> dict[str, Any]:
    return json.loads((FOLDER / "limpet-dashboard.json").read_text())


def test_rules_take_metrics_that_there_are() -> None:
    used = {
        name
        for group in yaml.safe_load((FOLDER / "limpet.rules.yml").read_text())["groups"]
        for rule in group["rules"]
        for name in _used(rule["expr"])
    }
    assert len(used) >= 20
    assert used - _names() == set()


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    dashboard = _dashboard()
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    queries += [one["definition"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    queries += [one["expr"] for one in dashboard["annotations"]["list"]]
    assert len(queries) > 30
    assert _used(" ".join(queries)) - _names() == set()


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = _dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_the_page_of_metrics_lists_all_of_them() -> None:
    rows = re.findall(r"^\| `(limpet_\w+)` \| \w+ \| .*? \| (.*?) \|$", PAGE.read_text(), re.MULTILINE)
    found = _families()
    assert dict(rows) == {
        name_of(family) + _SUFFIXES[family.kind][0].replace("_bucket", ""): family.text for family in found
    }
