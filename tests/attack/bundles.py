"""Hostile models and bundles. Each fails its pipeline alone, while the bystander goes on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import struct
import zipfile
from itertools import count
from typing import TYPE_CHECKING, Any

from support import bundles, models
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from attack.ground import Ground

BORDER = "the model of a pipeline"
PIPELINE = """
[sources.{name}]
kind = "replay"
path = "recording.csv"
rate = 20
loop = true

[pipelines.{name}]
source = "{name}"
model = "{model}"
deadline = 2.0
"""
BARE = 'decoder = { kind = "regress" }\n'
PATIENCE = 15.0
INPUT = {"name": "input", "shape": [1, 3], "dtype": "int8"}
_numbers = count(1)


def _manifest(**fields: Any) -> Callable[[Path], Path]:
    """Return what makes a bundle with a sound model, whose manifest has these fields."""

    def make(folder: Path) -> Path:
        members = {"model.tflite": models.dense(folder / "hostile.tflite", 3, 3).read_bytes()}
        usual = {"inputs": [INPUT], "decoder": {"kind": "regress"}}
        return bundles.bundle(_path(folder), members, **(usual | fields))

    return make


def _sound(size: int, transform: dict[str, Any]) -> Callable[[Path], Path]:
    """Return what makes a bundle that has windows of sound transformed."""
    return _manifest(rate=16_000, window={"size": size}, transforms=[transform])


def _raw(data: bytes) -> Callable[[Path], Path]:
    """Return what makes a bundle whose manifest is these bytes."""

    def make(folder: Path) -> Path:
        model = models.dense(folder / "hostile.tflite", 3, 3).read_bytes()
        return bundles.zipped(_path(folder), [("manifest.json", data), ("model.tflite", model)])

    return make


def _members(*others: tuple[str, bytes]) -> Callable[[Path], Path]:
    """Return what makes a bundle with other members, which the manifest names rightly."""

    def make(folder: Path) -> Path:
        members = {"model.tflite": models.dense(folder / "hostile.tflite", 3, 3).read_bytes(), **dict(others)}
        fields: dict[str, Any] = {"inputs": [INPUT], "decoder": {"kind": "classify"}}
        if "labels.txt" in members:
            fields["labels"] = "labels.txt"
        return bundles.bundle(_path(folder), members, **fields)

    return make


def _path(folder: Path) -> Path:
    return folder / "motion-3.limpet"


def _changed(maker: Callable[[Path], Path], *changes: tuple[int, int]) -> Callable[[Path], Path]:
    """Return what makes a bare model with some bytes changed, such that the runtime crashes."""

    def make(folder: Path) -> Path:
        path = folder / "hostile.tflite"
        data = bytearray(maker(path).read_bytes())
        for at, value in changes:
            data[at] = value
        path.write_bytes(data)
        return path

    return make


def _damaged(change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    """Return what makes a sound bundle and damages its file."""

    def make(folder: Path) -> Path:
        path = _manifest()(folder)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def _bomb(folder: Path) -> Path:
    members = [("manifest.json", bundles.manifest({})), ("model.tflite", bytes(200_000_000))]
    return bundles.zipped(_path(folder), members, zipfile.ZIP_DEFLATED)


def _link(folder: Path) -> Path:
    """A member that is a symbolic link to a secret, as an unpacker would make it."""
    target = b"../../mqtt-password"
    info = zipfile.ZipInfo("model.tflite")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(_path(folder), "w") as archive:
        archive.writestr("manifest.json", bundles.manifest({"model.tflite": target}, inputs=[INPUT]))
        archive.writestr(info, target)
    return _path(folder)


def _huge_directory(folder: Path) -> Path:
    """A file with a hole of 3 GB, which says that all of it is its directory."""
    size, end = 3 << 30, struct.Struct("<4s4H2LH")
    with _path(folder).open("wb") as file:
        file.truncate(size)
        file.seek(size - end.size)
        file.write(end.pack(b"PK\x05\x06", 0, 0, 1, 1, size - end.size, 0, 0))
    return _path(folder)


def _nested_zip(_: bytes) -> bytes:
    """A central directory that says that there are 65,535 members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"m{number}", b"")
    return buffer.getvalue()


def _special(make: Callable[[Path], object], name: str = "hostile.tflite") -> Callable[[Path], Path]:
    def put(folder: Path) -> Path:
        path = folder / name
        make(path)
        return path

    return put


BUNDLES: dict[str, Callable[[Path], Path]] = {
    "an unknown decoder": _manifest(decoder={"kind": "evil"}),
    "a decoder with an unknown option": _manifest(decoder={"kind": "regress", "evil": 1}),
    "a decoder that does not suit the outputs": _manifest(decoder={"kind": "detect"}),
    "a decoder that is a path": _manifest(decoder={"kind": "../../evil"}),
    "an unknown transform": _manifest(transforms=[{"kind": "evil"}]),
    "a transform with an unknown option": _manifest(transforms=[{"kind": "normalise", "evil": 1}]),
    "a transform to an image of 2^40 points": _manifest(
        transforms=[{"kind": "resize", "height": 1 << 20, "width": 1 << 20}]
    ),
    "a spectrum of 2^31 bands": _sound(64, {"kind": "spectrum", "bands": 1 << 31}),
    "a spectrogram of 2^31 numbers": _sound(
        1 << 22, {"kind": "log_mel", "frame": 1, "fft": 1, "hop": 1, "bands": 512}
    ),
    "a filter of 2^38 products": _sound(1 << 22, {"kind": "filter", "taps": [0.5] * 16_384}),
    "a filter of 10^5 taps": _sound(1024, {"kind": "filter", "taps": [0] * 100_000}),
    "samples at a rate of 10^9": _sound(1 << 20, {"kind": "resample", "rate": 1e9}),
    "a filter that is not stable": _sound(1024, {"kind": "filter", "sos": [[1e308, 1, 1, 1, -3, 9]]}),
    "50,000 points of a zone": _manifest(postprocess=[{"kind": "zones", "zones": {"a": [[0, 1]] * 50_000}}]),
    "a zone a/#": _manifest(postprocess=[{"kind": "zones", "zones": {"a/#": [[0, 0], [1, 0], [1, 1]]}}]),
    "a stage that does not exist": _manifest(postprocess=[{"kind": "../evil"}]),
    "1,000 stages": _manifest(postprocess=[{"kind": "smooth", "windows": 1000}] * 1000),
    "anchors for 2^33 boxes": _manifest(
        decoder={"kind": "detect", "pixels": [16_384, 16_384], "anchors": {"strides": [1] * 32}}
    ),
    "a skeleton out of range": _manifest(decoder={"kind": "keypoints", "skeleton": [[1 << 62, -1]]}),
    "an embedding of 20,000 labels": _manifest(
        decoder={"kind": "embed", "prototypes": {f"l{number}": [0.1] for number in range(20_000)}}
    ),
    "10,000 transforms": _manifest(transforms=[{"kind": "normalise", "mean": 0.0, "std": 1.0}] * 10_000),
    "an unknown runtime": _manifest(runtime="evil"),
    "a runtime that is a module of Python": _manifest(runtime="os"),
    "a window of 2^40 samples": _manifest(window={"size": 1 << 40}),
    "a window of 2^62 samples": _manifest(window={"size": 1 << 62, "hop": 1 << 62}),
    "a window of 1e300 seconds": _manifest(window={"seconds": 1e300}),
    "a window of 1e-300 seconds": _manifest(window={"seconds": 1e-300, "size": 3}),
    "an input of 2^120 values": _manifest(inputs=[{**INPUT, "shape": [1 << 60, 1 << 60]}]),
    "an input of a negative shape": _manifest(inputs=[{**INPUT, "shape": [-7]}]),
    "an input of a type that does not exist": _manifest(inputs=[{**INPUT, "dtype": "O"}]),
    "1,000 inputs": _manifest(inputs=[INPUT] * 1000),
    "a channel that does not exist": _manifest(inputs=[{**INPUT, "channels": ["evil", "\0", "ax"]}]),
    "a rate of 1e300": _manifest(rate=1e300),
    "a name with a wildcard": _manifest(name="a/#"),
    "a version of 2^70": _manifest(version=1 << 70),
    "a manifest of a later format": _manifest(format=99),
    "a manifest with an unknown key": _manifest(evil=True),
    "a manifest that is not UTF-8": _raw(b'{"name":"\xff\xfe"}'),
    "a manifest of 100,000 nested lists": _raw(b'{"metrics":' + b"[" * 100_000),
    "a manifest of 64 MB": _raw(json.dumps({"name": "m", "version": 1, "description": "x" * 64_000_000}).encode()),
    "a manifest that is a number": _raw(b"7"),
    "a model with the wrong hash": _damaged(lambda data: data.replace(b"Limpet's tests", b"Nobody's tests")),
    "a model that is not there": _manifest(model="../../mqtt-password"),
    "a golden file that is no archive": _members(("golden.npz", b"PK\x03\x04")),
    "labels that are not UTF-8": _members(("labels.txt", b"\xff\xfe\xfa\n" * 3)),
    "labels with control characters": _members(("labels.txt", b"a\0b\n\x1b[2J\n\xe2\x80\xae\n")),
    "labels of 30 MB": _members(("labels.txt", b"x" * 30_000_000)),
    "a member ../evil": _members(("../evil", b"x")),
    "a member /tmp/evil": _members(("/tmp/evil", b"x")),  # noqa: S108 - a name in a zip
    "a member twice": lambda folder: bundles.zipped(
        _path(folder), [("manifest.json", bundles.manifest({})), ("manifest.json", bundles.manifest({}))]
    ),
    "a member that is a link": _link,
    "a zip of 200 MB of zeros": _bomb,
    "a zip of 20,000 members": _damaged(_nested_zip),
    "a zip with a directory of 3 GB": _huge_directory,
    "a zip cut in half": _damaged(lambda data: data[: len(data) // 2]),
    "a zip of garbage": _damaged(lambda data: os.urandom(len(data))),
    "a zip whose directory points outside": _damaged(lambda data: data[:-8] + b"\xff\xff\xff\x7f" + data[-4:]),
    "a model of garbage": _special(lambda path: path.write_bytes(os.urandom(4096))),
    "a model of no bytes": _special(lambda path: path.write_bytes(b"")),
    "a FIFO in place of a model": _special(os.mkfifo),
    "a folder in place of a model": _special(os.mkdir),
    "a link to /dev/zero in place of a model": _special(lambda path: path.symlink_to("/dev/zero")),
    "a FIFO in place of a bundle": _special(os.mkfifo, "motion-3.limpet"),
    "a model with a custom op": lambda folder: models.unknown(folder / "hostile.tflite", "FlexEvil"),
    "a model with an op of a later version": lambda folder: models.newer(folder / "hostile.tflite"),
    "a model of texts": lambda folder: models.text(folder / "hostile.tflite"),
    "a model that crashes the runtime when it is loaded": _changed(models.joined, (624, 2)),
    "a model that crashes the runtime when it runs": _changed(models.joined, (971, 1)),
    "a model that crashes the runtime by its variables": _changed(models.accumulator, (958, 157)),
    "a model that keeps the runtime busy for ever": _changed(models.dense, (903, 1)),
}  # fmt: skip


def run(ground: Ground, names: Iterable[str] | None = None) -> None:
    """Give each to a pipeline of its own."""
    for name in names or BUNDLES:
        number = f"b{next(_numbers)}"
        folder = ground.folder / number
        folder.mkdir()
        with ground.attempt(name, BORDER) as attempt:
            model = BUNDLES[name](folder)
            ground.spy.pipelines.add(number)
            decoder = BARE if model.suffix == ".tflite" else ""
            ground.reload(PIPELINE.format(name=number, model=f"{number}/{model.name}") + decoder)

            def first_event(number: str = number) -> dict[str, Any]:
                said = [event for event in ground.spy.said(f"event/{number}") if event["event"] != "starting"]
                return said[0] if said else {}

            with contextlib.suppress(AssertionError):
                wait_until(lambda first_event=first_event: first_event() or not ground.alive(), PATIENCE)
            event = first_event()
            if event:
                attempt.reached = "the pipeline's worker took it up"
                attempt.happened = f"{event['event']}: {event.get('reason', '')}"[:300]


def run_at_once(ground: Ground) -> None:
    """Start the daemon with many hostile bundles in its configuration from the first moment."""
    with ground.attempt("the first start with all of the manifests", BORDER) as attempt:
        parts = []
        chosen = [
            name for name in BUNDLES if name.startswith(("an unknown", "a decoder", "a transform", "a window"))
        ]
        for name in chosen:
            number = f"b{next(_numbers)}"
            folder = ground.folder / number
            folder.mkdir()
            ground.spy.pipelines.add(number)
            parts.append(PIPELINE.format(name=number, model=f"{number}/{BUNDLES[name](folder).name}"))
        ground.end()
        ground.configure(*parts)
        ground.start(attempt)
        attempt.reached = f"{len(parts)} pipelines at once"


def _crashing(folder: Path, name: str) -> Path:
    model = _changed(models.joined, (624, 2))(folder).read_bytes()
    path = folder / "crashing.limpet"
    return bundles.bundle(path, {"model.tflite": model}, name=name, version=2, decoder={"kind": "regress"})


NEWER: dict[str, Callable[[Path, str], Path]] = {
    **{
        name: lambda folder, _, make=BUNDLES[name]: make(folder)  # type: ignore[misc]
        for name in (
            "a manifest of 100,000 nested lists",
            "a manifest of 64 MB",
            "a model with the wrong hash",
            "a member that is a link",
            "a zip of 200 MB of zeros",
            "a zip of 20,000 members",
            "a zip with a directory of 3 GB",
            "a zip cut in half",
            "a zip of garbage",
            "an unknown decoder",
        )
    },
    "a model that crashes the runtime when it is loaded": _crashing,
}
"""What is put into the store as a newer version of a bundle that runs."""


def run_newer(ground: Ground, names: Iterable[str] | None = None) -> None:
    """Put each into the store as a newer version of a bundle that is at work. The older version must go on."""
    for name in names or NEWER:
        number = f"n{next(_numbers)}"
        folder = ground.folder / number
        folder.mkdir()
        store = ground.state / "models"
        model = models.dense(folder / "sound.tflite", 3, 3).read_bytes()
        fields: dict[str, Any] = {"inputs": [INPUT], "decoder": {"kind": "regress"}}
        bundles.bundle(store / f"{number}-1.limpet", {"model.tflite": model}, name=number, version=1, **fields)
        ground.spy.pipelines.add(number)
        ground.reload(PIPELINE.format(name=number, model=number))

        def results(number: str = number) -> list[Any]:
            return ground.spy.results(number)

        with ground.attempt(f"{name}, as a newer version in the store", BORDER) as attempt:
            wait_until(results, PATIENCE)
            NEWER[name](folder, number).replace(store / f"{number}-2.limpet")
            ground.reload(PIPELINE.format(name=number, model=number))

            def refused(number: str = number) -> dict[str, Any]:
                events = ground.spy.said(f"event/{number}")
                return next((one for one in events if one["event"] in {"skipped", "swap_failed"}), {})

            with contextlib.suppress(AssertionError):
                wait_until(lambda refused=refused: refused() or not ground.alive(), PATIENCE)
            if event := refused():
                attempt.reached = "it was examined"
                attempt.happened = f"{event['event']}: {event.get('reason', '')}"[:300]
            before = len(results())
            try:
                wait_until(lambda results=results, before=before: len(results()) > before, PATIENCE)
            except AssertionError:
                attempt.harmed("others_lost")
