"""Every bundle of the repository is whole and computes what it says, with the real runtime."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from limpet.models import manifest as manifests
from limpet_convert import package
from limpet_convert.int8 import Int8

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["agent/limpet/demo_data/shuttle-1.limpet", "bench/models/keyword-1.limpet"])
def bundle(request: pytest.FixtureRequest) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO((ROOT / request.param).read_bytes()))


@pytest.fixture
def manifest(bundle: zipfile.ZipFile) -> manifests.Manifest:
    return manifests.parse(bundle.read("manifest.json"))


def test_members_are_what_the_manifest_says(bundle: zipfile.ZipFile, manifest: manifests.Manifest) -> None:
    assert set(bundle.namelist()) == {"manifest.json", *manifest.members}
    for name, member in manifest.members.items():
        content = bundle.read(name)
        assert (len(content), hashlib.sha256(content).hexdigest()) == (member.length, member.sha256)


def test_golden_vectors_pass(bundle: zipfile.ZipFile, manifest: manifests.Manifest) -> None:
    golden = np.load(io.BytesIO(bundle.read(manifest.golden)), allow_pickle=False)
    model = Int8(bundle.read(manifest.model))
    found = np.stack([model(one) for one in golden["input_0"]])
    assert found.shape == golden["output_0"].shape
    assert np.abs(found - golden["output_0"]).max() <= manifest.tolerance.absolute
    assert np.abs(found - golden["output_0"][::-1]).max() > manifest.tolerance.absolute


def test_packing_a_bundle_again_gives_its_bytes(
    bundle: zipfile.ZipFile, manifest: manifests.Manifest, tmp_path: Path
) -> None:
    golden = np.load(io.BytesIO(bundle.read(manifest.golden)), allow_pickle=False)
    labels = bundle.read(manifest.labels).decode().splitlines() if manifest.labels else []
    model, vectors = bundle.read(manifest.model), (golden["input_0"], golden["output_0"])
    card = bundle.read(manifest.card).decode() if manifest.card else ""
    package.write(tmp_path, manifest, model, labels=labels, inputs=vectors[:1], outputs=vectors[1:], card=card)
    assert (tmp_path / package.file_name(manifest)).read_bytes() == bundle.fp.getvalue()  # type: ignore[union-attr]
