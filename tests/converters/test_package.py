from __future__ import annotations

import hashlib
import io
import resource
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.fields import TensorInfo, WindowSpec
from limpet.models import manifest as manifests
from limpet.models.manifest import Manifest
from limpet_convert import package

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = Manifest(
    name="motion",
    version=3,
    inputs=[TensorInfo(name="x", shape=[-1, 2], dtype="int8", scale=[0.1], zero_point=[-3])],
    window=WindowSpec(size=4),
    decoder={"kind": "classify"},
)
MODEL = b"\x00\x01TFL3" * 50
INPUTS = [np.arange(6, dtype=np.float32).reshape(3, 1, 2), np.ones((3, 1), np.int32)]
OUTPUTS = [np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)]


def write(folder: Path) -> tuple[Manifest, bytes]:
    folder.mkdir(exist_ok=True)
    manifest = package.write(folder, MANIFEST, MODEL, labels=["still", "walking"], inputs=INPUTS, outputs=OUTPUTS)
    return manifest, (folder / "motion-3.limpet").read_bytes()


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert first == second
    assert package.write(tmp_path, MANIFEST, MODEL + b"!").members != first[0].members


def test_a_disk_that_is_full_leaves_the_bundle_that_was_there(tmp_path: Path) -> None:
    _, before = write(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            package.write(tmp_path, MANIFEST, MODEL * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [one.name for one in tmp_path.iterdir()] == ["motion-3.limpet"]
    assert (tmp_path / "motion-3.limpet").read_bytes() == before


def test_what_is_written_can_be_read_and_checked(tmp_path: Path) -> None:
    manifest, data = write(tmp_path)
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        assert bundle.namelist() == ["manifest.json", "model.tflite", "labels.txt", "golden.npz"]
        read = manifests.parse(bundle.read("manifest.json"))
        members = {name: bundle.read(name) for name in bundle.namelist()[1:]}
    assert read == manifest
    assert (read.model, read.labels, read.golden) == tuple(members)
    assert members["model.tflite"] == MODEL
    assert members["labels.txt"] == b"still\nwalking\n"
    for name, content in members.items():
        assert read.members[name].length == len(content)
        assert read.members[name].sha256 == hashlib.sha256(content).hexdigest()


def test_members_are_stored_with_neither_time_nor_user(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(write(tmp_path)[1])) as bundle:
        for info in bundle.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == 0o100644


def test_golden_vectors_keep_their_order_shape_and_type(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(write(tmp_path)[1])) as bundle:
        golden = np.load(io.BytesIO(bundle.read("golden.npz")), allow_pickle=False)
    assert list(golden) == ["input_0", "input_1", "output_0"]
    for name, array in zip(golden, [*INPUTS, *OUTPUTS], strict=True):
        assert golden[name].dtype == array.dtype
        np.testing.assert_array_equal(golden[name], array)


def test_a_model_alone_is_a_bundle_too(tmp_path: Path) -> None:
    manifest = package.write(tmp_path, MANIFEST, MODEL)
    assert list(manifest.members) == ["model.tflite"]
    assert (manifest.labels, manifest.golden) == ("", "")


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="differ in number: input_0 3, output_0 2"):
        package.write(tmp_path, MANIFEST, MODEL, inputs=INPUTS[:1], outputs=[OUTPUTS[0][:2]])
    with pytest.raises(ValueError, match="inputs and outputs"):
        package.write(tmp_path, MANIFEST, MODEL, inputs=INPUTS)
    with pytest.raises(ValueError, match="one line"):
        package.write(tmp_path, MANIFEST, MODEL, labels=["still\nwalking"])
    with pytest.raises(ValueError, match="name"):
        package.write(tmp_path, Manifest(name="../motion", version=1), MODEL)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1), min_size=1))
def test_labels_come_back_line_by_line(tmp_path_factory: pytest.TempPathFactory, labels: list[str]) -> None:
    folder = tmp_path_factory.mktemp("bundle")
    package.write(folder, MANIFEST, MODEL, labels=labels)
    with zipfile.ZipFile(folder / "motion-3.limpet") as bundle:
        assert bundle.read("labels.txt").decode().splitlines() == labels
