"""What the documentation shows must work: TOML, the example plugin, links, boards, the service unit."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import site_pages
from limpet import config, plugins
from limpet.contracts.fields import WindowSpec
from limpet.contracts.messages import DeviceHealth, PipelineHealth
from limpet.contracts.stage import Spec
from limpet.delivery import reporters
from limpet.deployment.assignments import sources_alone
from limpet.errors import ConfigError, SourceError
from limpet.filling import fill
from limpet.inference import planning
from limpet_convert import project
from support.stages import transformed

if TYPE_CHECKING:
    from msgspec import Struct

    from limpet.plugins import Group

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


BOARDS = sorted(ROOT.glob("firmware-configs/*/limpet.toml"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


TOML = [
    pytest.param(text, id=f"{name(page)}-{n}") for page in PAGES for n, text in enumerate(blocks(page, "toml"), 1)
]


RECORDINGS = ROOT / "agent" / "limpet" / "demo_data"
"""Recordings that pages play, beside their configuration."""
SENSOR = {"kind": "serial", "port": "/dev/null", "channels": ["a"]}


def whole(fragment: dict[str, Any]) -> dict[str, Any]:
    """Complete what a page shows to a configuration: a device, a source and a pipeline where it has none."""
    pipelines = {
        name: {"source": "s", "model": "m", **table}
        for name, table in fragment.get("pipelines", {"p": {}}).items()
    }
    named = {table["source"]: SENSOR for table in pipelines.values()}
    sources = {"s": SENSOR, **named, **fragment.get("sources", {})}
    return {"device": {"id": "d"}, "jsonl": {}, **fragment, "sources": sources, "pipelines": pipelines}


def check(wanted: config.Config, *, unknown: frozenset[str] = frozenset()) -> list[str]:
    """Return what is wrong with the keys of every plugin; models, which no page has, are not looked for."""
    problems: list[str] = []
    try:
        reporters.resolve(wanted)
    except ConfigError as error:
        problems += error.problems
    for name, source in wanted.sources.items():
        if source.kind not in unknown:
            try:
                planning.plan_source(sources_alone(wanted, [name]), name)
            except ConfigError as error:
                problems += error.problems
    for name, pipeline in wanted.pipelines.items():
        tables: list[tuple[Group, dict[str, Any]]] = [("transforms", table) for table in pipeline.transforms or []]
        tables += [("decoders", pipeline.decoder)] if pipeline.decoder else []
        tables += [("postprocess", table) for table in pipeline.postprocess or []]
        for group, table in tables:
            options = {key: value for key, value in table.items() if key != "kind"}
            fill(plugins.load(group, table["kind"]).Config, options, name, wanted.base, problems)
    return problems


@pytest.mark.parametrize("text", TOML)
def test_toml_on_a_page_is_a_configuration(text: str, tmp_path: Path) -> None:
    tables = tomllib.loads(text)
    if "bundle" in tables:
        for path in (tables["model"]["path"], tables["data"]["calibration"], tables["data"]["test"]):
            (tmp_path / path).mkdir(parents=True)
        assert project.build(tables, tmp_path / "convert.toml").bundle.name
    else:
        assert check(config.build(whole(tables), RECORDINGS), unknown=frozenset({"thermal"})) == []


def test_a_page_with_a_mistake_would_be_found() -> None:
    wanted = config.build(whole({"sources": {"x": {**SENSOR, "boud": 9600}}}), ROOT)
    assert any("boud" in problem for problem in check(wanted))


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.parent.name)
def test_board_configuration(path: Path) -> None:
    assert check(config.read(path)) == []
    assert (path.parent / "README.md").exists()


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> list[str]:
    """Return the anchors that a forge and the site make of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]+))?\)", prose(page))
    assert [link for link, _ in links if not (page.parent / link).exists()] == []
    pages = [(page.parent / link if link else page, anchor) for link, anchor in links if anchor]
    assert [anchor for target, anchor in pages if anchor not in anchors(target)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_has_one_title_and_no_anchor_twice(page: Path) -> None:
    assert page.read_text().startswith("# ")
    assert len(re.findall(r"^# ", prose(page), re.MULTILINE)) == 1
    assert [anchor for anchor, times in Counter(anchors(page)).items() if times > 1] == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for part in (entry if isinstance(entry, list) else entry.values()) for page in pages(part)]

    docs = ROOT / "docs"
    found = pages(site_pages.navigation(docs))
    assert sorted(found) == sorted(str(page.relative_to(docs)) for page in docs.rglob("*.md"))
    assert found[0] == "index.md"


@pytest.fixture
def thermal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """CONTRIBUTING.md's source as the module that it becomes."""
    (tmp_path / "thermal_example.py").write_text(blocks(ROOT / "CONTRIBUTING.md", "python")[0])
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("thermal_example")
    del sys.modules["thermal_example"]


def test_example_source(thermal: Any, tmp_path: Path) -> None:
    for zone, reading in ("cpu", 41_500), ("gpu", 39_000):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "temp").write_text(f"{reading}\n")
    problems: list[str] = []
    filled = fill(
        thermal.Config, {"zones": ["cpu", "gpu"], "rate": 100, "root": str(tmp_path)}, "t", tmp_path, problems
    )
    assert problems == []
    with thermal.open(filled, Counter()) as samples:
        first, second = next(samples), next(samples)
        assert first.values.shape == (1, *thermal.describe(filled).shape)
        assert first.values.tolist() == [[41.5, 39.0]]
        assert (first.index, second.index) == (0, 1)
        assert second.monotonic_ns[0] > first.monotonic_ns[0]
        (tmp_path / "gpu" / "temp").unlink()
        with pytest.raises(SourceError, match="gpu/temp"):
            next(samples)


def test_example_transform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = (code for code in blocks(ROOT / "CONTRIBUTING.md", "python") if "class Smoothed" in code)
    (tmp_path / "smoothed_example.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("smoothed_example")
    stage = module.open(module.Config(weight=0.5), Spec(shape=(1, 1), dtype=np.dtype(np.uint8)))
    levels = [np.full((1, 1), level, np.uint8) for level in (0, 8, 8)]
    assert [transformed(stage, level).item() for level in levels] == [0, 4, 6]
    stage.reset()
    assert transformed(stage, levels[-1]).item() == 8
    del sys.modules["smoothed_example"]


def verify(unit: str, folder: Path) -> str:
    path = folder / "limpet.service"
    path.write_text(unit.replace("/opt/limpet/bin/limpet", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    return done.stderr


def test_service_unit_is_understood_by_systemd(tmp_path: Path) -> None:
    unit = (ROOT / "systemd" / "limpet.service").read_text()
    assert verify(unit, tmp_path) == ""
    # Its exit status is 0 for an unknown key, so what it says is what counts.
    assert "WatchdogSecs" in verify(unit.replace("WatchdogSec", "WatchdogSecs"), tmp_path)


REFERENCE = ROOT / "docs" / "reference"


def section(level: int, title: str, text: str) -> str:
    """Return what stands under a heading, its subsections too; empty if there is no such heading."""
    found = re.search(
        rf"^{'#' * level} {re.escape(title)}\n(.*?)(?=^#{{1,{level}}} |\Z)", text, re.DOTALL | re.MULTILINE
    )
    return found[1] if found else ""


@pytest.mark.parametrize(
    "group", ["sources", "framings", "transforms", "runtimes", "decoders", "postprocess", "monitors", "reporters"]
)
def test_the_reference_has_every_key_of_every_plugin(group: Group) -> None:
    page = (REFERENCE / f"{group}.md").read_text()
    assert re.findall(r"^## `(.+)`$", page, re.MULTILINE) != []
    assert set(re.findall(r"^## `(.+)`$", page, re.MULTILINE)) == set(plugins.names(group))
    for kind in plugins.names(group):
        keys = plugins.load(group, kind).Config.__struct_fields__
        assert [key for key in keys if f"`{key}`" not in section(2, f"`{kind}`", page)] == []


@pytest.mark.parametrize(
    ("page", "struct"),
    [
        ("configuration", config.Device),
        ("configuration", config.PipelineConfig),
        ("configuration", WindowSpec),
        ("health", PipelineHealth),
        ("health", DeviceHealth),
    ],
)
def test_the_reference_has_every_field(page: str, struct: type[Struct]) -> None:
    text = (REFERENCE / f"{page}.md").read_text()
    obvious = {"device", "pipeline", "time"}
    assert [key for key in struct.__struct_fields__ if f"`{key}`" not in text and key not in obvious] == []
