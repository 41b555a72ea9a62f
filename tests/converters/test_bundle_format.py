"""docs/reference/bundle-format.md: its example is a bundle, and it names every key of the manifest."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import msgspec
import pytest

import schemas
from limpet import cli
from limpet.contracts.fields import TensorInfo, WindowSpec
from limpet.models import bundle as bundles
from limpet.models.manifest import Limits, Manifest, Requires, Variant, VersionRange
from support import models

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/bundle-format.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", [Manifest, TensorInfo, Variant, WindowSpec, Requires, Limits, VersionRange])
def test_the_page_names_every_key(kind: type[msgspec.Struct]) -> None:
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert {field.name for field in msgspec.structs.fields(kind)} <= named


def test_the_example_is_a_bundle_that_the_device_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    models.dense(Path("motion_int8.tflite"), 3, 2)
    exec(compile(example, "bundle-format.md", "exec"), {})  # noqa: S102 - our own page
    found = bundles.load(Path("motion-1.limpet"), tmp_path / "cache")
    assert found.labels == ("idle", "walking")
    assert cli.main(["inspect", "motion-1.limpet"]) == 0


@pytest.mark.parametrize("name", ["bench/models/keyword-1.limpet", "agent/limpet/demo_data/shuttle-1.limpet"])
def test_bundles_are_as_the_schema_says(name: str) -> None:
    manifest = msgspec.to_builtins(bundles.manifest_of(ROOT / name))
    jsonschema.validate(manifest, schemas.schema("manifest"))
