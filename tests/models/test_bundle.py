from __future__ import annotations

import hashlib
import os
import struct
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limpet.errors import DeployError, ModelError
from limpet.models import manifest as manifests
from limpet.models.bundle import examine, load, manifest_of
from support import bundles, models

if TYPE_CHECKING:
    from pathlib import Path

MODEL = b"TFL3 stands at offset 4 in a real one"
LABELS = "still\nwalking\ncafé\n".encode()
MEMBERS = {"model.tflite": MODEL, "labels.txt": LABELS, "golden.npz": b"vectors"}
NAMES = {"labels": "labels.txt", "golden": "golden.npz"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "motion-3.limpet"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "state" / "cache"


def test_a_bundle_is_read(path: Path, cache: Path) -> None:
    bundle = load(bundles.bundle(path, MEMBERS, **NAMES), cache)
    assert (bundle.manifest.name, bundle.manifest.version) == ("motion", 3)
    assert bundle.labels == ("still", "walking", "café")
    assert bundle.model == cache / (hashlib.sha256(MODEL).hexdigest() + ".tflite")
    assert bundle.model.read_bytes() == MODEL
    assert bundle.golden is not None
    assert bundle.golden.read_bytes() == b"vectors"
    assert bundle.signature is None


def test_labels_and_golden_vectors_may_be_absent(path: Path, cache: Path) -> None:
    bundle = load(bundles.bundle(path, {"model.tflite": MODEL}), cache)
    assert (bundle.labels, bundle.golden) == ((), None)


def test_a_cache_that_cannot_be_made_names_the_setting(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        DeployError, match=r"motion-3.limpet cannot be unpacked into .*/file/cache: .*Set device.state"
    ):
        load(bundles.bundle(path, {"model.tflite": MODEL}), tmp_path / "file" / "cache")


def test_a_signature_is_carried(path: Path, cache: Path) -> None:
    head = bundles.manifest({"model.tflite": MODEL})
    bundles.zipped(path, [("manifest.json", head), ("model.tflite", MODEL), ("signature", b"\x01\x02")])
    assert load(path, cache).signature == b"\x01\x02"


def test_the_model_is_unpacked_once(path: Path, cache: Path) -> None:
    bundles.bundle(path, MEMBERS, **NAMES)
    first = load(path, cache).model.stat()
    second = load(path, cache).model.stat()
    assert (first.st_ino, first.st_mtime_ns) == (second.st_ino, second.st_mtime_ns)
    assert sorted(file.name for file in cache.iterdir()) == sorted(
        hashlib.sha256(MEMBERS[name]).hexdigest() + suffix
        for name, suffix in (("model.tflite", ".tflite"), ("golden.npz", ".npz"))
    )


def test_threads_that_unpack_one_bundle_at_once_all_get_it_whole(path: Path, cache: Path) -> None:
    large = os.urandom(1 << 22)
    bundles.bundle(path, {"model.tflite": large})
    with ThreadPoolExecutor(4) as threads:
        loaded = list(threads.map(lambda _: load(path, cache).model.read_bytes() == large, range(8)))
    assert all(loaded)
    assert len(list(cache.iterdir())) == 1


def test_a_damaged_copy_is_replaced_but_not_in_place(path: Path, cache: Path) -> None:
    bundles.bundle(path, MEMBERS, **NAMES)
    model = load(path, cache).model
    model.write_bytes(b"x" * len(MODEL))
    with model.open("rb") as still_open:
        assert load(path, cache).model.read_bytes() == MODEL
        assert still_open.read() == b"x" * len(MODEL)


def test_two_bundles_with_one_model_share_it(tmp_path: Path, cache: Path) -> None:
    one = load(bundles.bundle(tmp_path / "a-1.limpet", {"model.tflite": MODEL}), cache)
    other = load(bundles.bundle(tmp_path / "b-1.limpet", {"model.tflite": MODEL}, name="b"), cache)
    assert one.model == other.model


HEAD = bundles.manifest(MEMBERS, **NAMES)
SOUND = [("manifest.json", HEAD), *MEMBERS.items()]
WRONG: dict[str, tuple[list[tuple[str, bytes]], str]] = {
    "no manifest": (SOUND[1:], r"first member is not manifest\.json"),
    "manifest not first": ([*SOUND[1:], SOUND[0]], r"first member is not manifest\.json"),
    "empty": ([], r"first member is not manifest\.json"),
    "member missing": (SOUND[:-1], r"'golden\.npz' is missing"),
    "member too much": ([*SOUND, ("extra.bin", b"")], r"'extra\.bin' is not named"),
    "length": ([*SOUND[:-1], ("golden.npz", b"longer vectors")], r"'golden\.npz' has 14 bytes, not 7"),
    "model's hash": (
        [SOUND[0], ("model.tflite", b"x" * len(MODEL)), *SOUND[2:]],
        r"'model\.tflite' has the sha256",
    ),
    "labels' hash": ([*SOUND[:2], ("labels.txt", b"x" * len(LABELS)), SOUND[3]], r"'labels\.txt' has the sha256"),
    "golden's hash": ([*SOUND[:-1], ("golden.npz", b"vectorz")], r"'golden\.npz' has the sha256"),
    "member twice": ([*SOUND, ("model.tflite", b"other")], r"'model\.tflite' is in it twice"),
    "up and out": ([*SOUND, ("../../etc/passwd", b"")], "plain names only"),
    "from the root": ([*SOUND, ("/etc/passwd", b"")], "plain names only"),
    "in a folder": ([*SOUND, ("folder/", b"")], "plain names only"),
    "hidden": ([*SOUND, (".hidden", b"")], "plain names only"),
    "oversize manifest": ([("manifest.json", b" " * (1 << 20) + HEAD), *SOUND[1:]], "too large: "),
    "not JSON": ([("manifest.json", b"{"), *SOUND[1:]], r"manifest\.json: "),
    "not UTF-8": ([("manifest.json", b'{"name": "\xff"}'), *SOUND[1:]], r"manifest\.json: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_the_zip_is_said(path: Path, cache: Path, case: str) -> None:
    members, reason = WRONG[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile's own, of a name that it writes twice
        bundles.zipped(path, members)
    with pytest.raises(DeployError, match=rf"motion-3\.limpet: .*{reason}"):
        load(path, cache)
    assert not list(cache.glob(".*"))


def test_members_that_are_too_large_together_are_refused_unread(path: Path, cache: Path) -> None:
    """A file with holes takes no space on the disk, but all the time that its size says to read."""
    data = bytearray(bundles.bundle(path, MEMBERS, **NAMES).read_bytes())
    entry = data.index(b"PK\x01\x02")
    for _ in range(2):
        entry = data.index(b"PK\x01\x02", entry + 1)
        data[entry + 20 : entry + 28] = struct.pack("<II", 3 << 29, 3 << 29)
    path.write_bytes(data)
    with pytest.raises(DeployError, match="too large together: 32212"):
        load(path, cache)
    with pytest.raises(DeployError, match="too large together: 32212"):
        examine(path)


def test_a_zip_that_says_that_its_directory_is_huge_is_refused_unread(path: Path, cache: Path) -> None:
    """``zipfile`` reads a directory into memory as it is. In a file with holes it costs nothing to be huge."""
    size, end = 3 << 30, struct.Struct("<4s4H2LH")
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size - end.size)
        file.write(end.pack(b"PK\x05\x06", 0, 0, 1, 1, size - end.size, 0, 0))
    for read in (examine, manifest_of, lambda path: load(path, cache)):
        with pytest.raises(DeployError, match="its directory has 32212254"):
            read(path)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "Motion!"}, r"manifest.name is "),
        ({"version": -1}, r"manifest.version is "),
        ({"format": 2}, "newer than this Limpet reads"),
        ({"colour": "red"}, "colour"),
        ({"model": "other.tflite"}, r"no length and sha256 for 'other\.tflite'"),
        ({"golden": "other.npz"}, r"no length and sha256 for 'other\.npz'"),
        ({"transforms": [{"mean": 3}]}, "need a kind"),
    ],
)
def test_what_is_wrong_with_the_manifest_is_said(
    path: Path, cache: Path, fields: dict[str, Any], reason: str
) -> None:
    bundles.bundle(path, {"model.tflite": MODEL}, **fields)
    with pytest.raises(DeployError, match=reason):
        load(path, cache)


def test_compressed_members_are_refused(path: Path, cache: Path) -> None:
    bundles.zipped(path, SOUND, zipfile.ZIP_DEFLATED)
    with pytest.raises(DeployError, match=r"'manifest\.json' is compressed"):
        load(path, cache)


def test_labels_must_be_text(path: Path, cache: Path) -> None:
    bundles.bundle(path, {"model.tflite": MODEL, "labels.txt": b"caf\xe9"}, labels="labels.txt")
    with pytest.raises(DeployError, match="utf-8"):
        load(path, cache)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_bundle_is_refused(path: Path, cache: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DeployError, match=r"motion-3\.limpet"):
        load(path, cache)


def test_a_missing_file_is_refused(path: Path, cache: Path) -> None:
    with pytest.raises(DeployError, match="No such file"):
        load(path, cache)


def test_a_cache_that_cannot_be_written_is_named(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DeployError, match="file: "):
        load(bundles.bundle(path, MEMBERS, **NAMES), tmp_path / "file")


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6), st.integers(0, 5000))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_bundle_is_refused_or_whole(
    path: Path, cache: Path, changes: list[tuple[int, int]], length: int
) -> None:
    content = bytearray(bundles.bundle(path, MEMBERS, **NAMES).read_bytes())
    for at, value in changes:
        content[at % len(content)] = value
    path.write_bytes(content[:length] if length % 3 == 0 else content)
    with suppress(DeployError):  # Anything else is a bug.
        bundle = load(path, cache)
        member = bundle.manifest.members[bundle.manifest.model]
        assert hashlib.sha256(bundle.model.read_bytes()).hexdigest() == member.sha256


def test_a_bare_model_describes_itself(tmp_path: Path, cache: Path) -> None:
    path = models.described(tmp_path / "My Pets.tflite", ("cat", "dog", "café"), mean=127, std=128)
    bundle = load(path, cache)
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.licence) == ("my-pets", 0, "Apache-2.0")
    assert bundle.labels == ("cat", "dog", "café")
    assert bundle.model == path
    assert manifest.transforms == [{"kind": "normalise", "mean": 127.0, "std": 128.0}]
    assert manifest.decoder == {"kind": "classify"}
    assert [tensor.name for tensor in manifest.inputs + manifest.outputs] == ["input", "output"]
    assert not cache.exists()


def test_a_bare_detector_with_labels_is_decoded_as_one(tmp_path: Path, cache: Path) -> None:
    loaded = load(models.detector(tmp_path / "pets.tflite"), cache)
    assert loaded.manifest.decoder == {"kind": "detect"}
    assert loaded.labels == ("cat", "dog")


def test_a_bare_model_without_metadata(tmp_path: Path, cache: Path) -> None:
    manifest = load(models.dense(tmp_path / "_.tflite", 4, 2, batch=-1), cache).manifest
    assert (manifest.name, manifest.transforms, manifest.decoder) == ("model", [], {})
    assert (manifest.inputs[0].shape, manifest.inputs[0].scale) == ([-1, 4], [0.0625])


def test_a_bare_model_whose_labels_are_gone(tmp_path: Path, cache: Path) -> None:
    metadata = {"TFLITE_METADATA": models.tflite_metadata(0, 1)}
    path = models.dense(tmp_path / "pets.tflite", int8=False, metadata=metadata)
    whole = path.read_bytes()
    assert (load(path, cache).labels, "labels 'labels.txt' could not be read" in load(path, cache).problem) == (
        (),
        True,
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other.txt", "")
    assert "labels 'labels.txt' could not be read" in load(path, cache).problem
    path.write_bytes(whole)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", "cat\ndog\n" * 100)
    assert (load(path, cache).labels[:2], load(path, cache).problem) == (("cat", "dog"), "")
    damaged = bytearray(path.read_bytes())
    damaged[len(whole) + 45 : len(whole) + 55] = bytes(10)
    path.write_bytes(damaged)
    assert (load(path, cache).labels, "could not be read" in load(path, cache).problem) == ((), True)


def test_a_damaged_bare_model(tmp_path: Path, cache: Path) -> None:
    path = models.dense(tmp_path / "model.tflite")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"model\.tflite: not a TFLite model, or damaged"):
        load(path, cache)


def test_a_manifest_from_a_bare_model_is_one_that_can_be_written(tmp_path: Path, cache: Path) -> None:
    for make in (models.dense, models.described, models.two, models.nonzero):
        manifest = load(make(tmp_path / f"{make.__name__}.tflite"), cache).manifest
        assert manifests.parse(manifests.dump(manifest)) == manifest


@pytest.mark.parametrize("what", ["link", "fifo", "directory"])
def test_what_is_no_file_in_the_cache_is_replaced_and_not_followed(tmp_path: Path, what: str) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"x")
    path = bundles.bundle(tmp_path / "m-1.limpet", {"model.tflite": b"m" * 100}, model="model.tflite")
    target = load(path, tmp_path / "cache").model
    target.unlink()
    for place in (target, target.with_name(f".{target.name}.{os.getpid()}")):
        if what == "link":
            place.symlink_to(precious)
        elif what == "fifo":
            os.mkfifo(place)
        else:
            place.mkdir()
    assert load(path, tmp_path / "cache").model.read_bytes() == b"m" * 100
    assert not target.is_symlink()
    assert precious.read_bytes() == b"x"


def test_an_examination_reads_every_member_and_unpacks_nothing(tmp_path: Path) -> None:
    path = bundles.bundle(tmp_path / "motion-3.limpet", {"model.tflite": MODEL, "other": b"x" * 100})
    found = examine(path)
    assert (found.name, found.version) == ("motion", 3)
    assert sorted(tmp_path.iterdir()) == [path]
    data = path.read_bytes()
    path.write_bytes(data.replace(b"x" * 100, b"x" * 99 + b"y"))
    with pytest.raises(DeployError, match=r"motion-3\.limpet"):
        examine(path)


def test_a_bundle_with_another_identity_is_refused(tmp_path: Path) -> None:
    path = bundles.bundle(tmp_path / "motion-3.limpet", {"model.tflite": MODEL})
    identity = examine(path).sha256
    assert load(path, tmp_path / "cache", identity).manifest.version == 3
    bundles.bundle(path, {"model.tflite": MODEL}, description="another")
    with pytest.raises(DeployError, match="changed since the models were examined"):
        load(path, tmp_path / "cache", identity)


def test_a_bare_model_with_another_identity_is_refused(tmp_path: Path) -> None:
    path = models.dense(tmp_path / "m.tflite", 3, 3)
    identity = examine(path).sha256
    assert load(path, tmp_path, identity).model == path
    models.dense(path, 3, 4)
    with pytest.raises(DeployError, match="changed since the models were examined"):
        load(path, tmp_path, identity)


def test_what_is_no_file_is_refused_at_once_in_place_of_a_bundle(tmp_path: Path) -> None:
    """A FIFO would be waited for, and a device has no end."""
    os.mkfifo(tmp_path / "fifo-1.limpet")
    (tmp_path / "zero-1.limpet").symlink_to("/dev/zero")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DeployError, match="is not a regular file"):
            manifest_of(path)
