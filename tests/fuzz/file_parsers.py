"""Files that people bring: recordings, models, bundles, configurations."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import itertools
import shutil
import wave
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fuzz.registry import Prepared, parser
from limpet import config
from limpet.contracts.data import TensorSpec
from limpet.contracts.frame import whole
from limpet.delivery import reporters
from limpet.deployment.local import examined
from limpet.inference import single
from limpet.models import bundle as bundles
from limpet.models import golden
from limpet.models.tflite import model_file, model_graph
from limpet.recordings import folder as recordings_folder
from limpet.recordings import writing
from limpet.sources import _jpeg, _picture, replay
from support import bundles as made
from support import models, pictures, videos

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

BLOCKS = 50
"""Blocks that are taken of a recording."""


def _written(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    """Return what writes an input to a file and reads that."""

    def take(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return take


def _play(path: Path) -> None:
    wanted = replay.Config(path=path, speed="flat-out")
    replay.describe(wanted)
    with replay.open(wanted, Counter()) as samples:
        for _ in itertools.islice(samples, BLOCKS):
            pass


_TABLE = [
    b"time,ax,ay\n0,1,2\n0.01,3,4\n0.02,5,6\n",
    b"# made by hand\nax;ay\n1,5;2,5\n",
    b"timestamp,a\n2026-11-28T07:00:00Z,1\n2026-11-28T07:00:01Z,NA\n",
    b"ax,ay\n1,2\n3,4\n",
]


@parser("recording csv")
def _csv(folder: Path) -> Prepared:
    return Prepared(_TABLE, _written(folder / "recording.csv", _play))


@parser("recording csv.gz")
def _gz(folder: Path) -> Prepared:
    return Prepared([gzip.compress(text, mtime=0) for text in _TABLE], _written(folder / "r.csv.gz", _play))


@parser("recording npy")
def _npy(folder: Path) -> Prepared:
    corpus = []
    for array in (np.zeros((4, 3), np.float32), np.arange(5), np.zeros((2, 4, 4, 3), np.uint8)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        corpus.append(buffer.getvalue())
    return Prepared(corpus, _written(folder / "recording.npy", _play))


@parser("recording wav")
def _wav(folder: Path) -> Prepared:
    corpus = []
    for width in (1, 2, 3, 4):
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(width)
            file.setframerate(16000)
            file.writeframes(bytes(range(48)) * width)
        corpus.append(buffer.getvalue())
    return Prepared(corpus, _written(folder / "recording.wav", _play))


@parser("picture")
def _picture_file(folder: Path) -> Prepared:  # noqa: ARG001 - it is decoded from memory
    pixels = pictures.pixels(0, 24, 32)
    corpus = [pictures.encoded(pixels, kind) for kind in ("PNG", "JPEG", "BMP", "WEBP")]
    corpus.append(pictures.encoded(Image.fromarray(pixels).quantize(16), "GIF"))
    corpus.append(pictures.encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG", progressive=True))
    corpus.append(pictures.encoded(np.full((9, 7), 40_000, np.uint16), "PNG"))
    return Prepared(corpus, _picture.decode)


_RECORDINGS = (
    b'{"format":1,"recordings":[{"file":"a.csv","source":"imu","kind":"serial","channels":["ax","ay"],"units":["g",'
    b'"g"],"rate":10.0,"samples":9,"seconds":0.9,"started":"2026-11-28T13:40:00Z","complete":true,"dropped":'
    b'{"crc":2},"gaps":[0.5],"spans":[{"label":"sit","begin":0.0,"end":0.4}]}]}'
)


@parser("recordings json")
def _recordings(folder: Path) -> Prepared:
    def read(path: Path) -> None:
        recordings_folder.encode(recordings_folder.read(path.parent))

    return Prepared([_RECORDINGS], _written(folder / "recordings.json", read))


@parser("recording interrupted")
def _interrupted(folder: Path) -> Prepared:
    """The description and the file of a recording after a crash, with a NUL between them."""
    entry = _RECORDINGS[len(b'{"format":1,"recordings":[') : -len(b"]}")]
    lines = b"time,ax,ay\n" + b"".join(b"0.%d00000,1.5,2\n" % n for n in range(9))
    description = b'{"recording":' + entry + b',"size":%d}' % len(lines)

    def take(data: bytes) -> None:
        known, _, text = data.partition(b"\0")
        (folder / "a.running.json").write_bytes(known)
        (folder / "a.csv").write_bytes(text)
        (folder / "recordings.json").unlink(missing_ok=True)
        list(writing.recover(folder))
        recordings_folder.read(folder)

    return Prepared([description + b"\0" + lines + b"1.000000,3,4\n1.1"], take)


@parser("model tflite")
def _tflite(folder: Path) -> Prepared:
    whole = folder / "whole.tflite"
    makers: tuple[Any, ...] = (
        models.dense, models.conv, models.two, models.methods, models.accumulator, models.described, models.text,
    )  # fmt: skip
    corpus = [make(whole).read_bytes() for make in makers]

    def read(path: Path) -> None:
        model_file.read(path)
        model_graph.read(path.read_bytes())

    return Prepared(corpus, _written(folder / "model.tflite", read))


@parser("model tflite metadata")
def _metadata(folder: Path) -> Prepared:
    """The metadata of a sound model, with room for what is put in its place."""
    room = 4096
    mark = bytes(range(256)) * (room // 256)
    model = models.dense(folder / "whole.tflite", metadata={"TFLITE_METADATA": mark}).read_bytes()
    at = model.index(mark)
    path = folder / "model.tflite"

    def take(data: bytes) -> None:
        path.write_bytes(model[:at] + data[:room].ljust(room, b"\0") + model[at + room :])
        bundles.load(path, folder / "cache")

    return Prepared([models.tflite_metadata(127.0, 128.0), models.tflite_metadata(0.0, 0.0, "x" * 100)], take)


@parser("bundle")
def _bundle(folder: Path) -> Prepared:
    return Prepared(_bundles(folder), _written(folder / "c-1.limpet", lambda path: _load(path, folder / "cache")))


@parser("bundle under examination")
def _examined(folder: Path) -> Prepared:
    """Whatever a bundle is, its examination has an answer."""

    def take(path: Path) -> None:
        found = examined(path)
        assert found.problem or (found.name and found.sha256)

    return Prepared(_bundles(folder), _written(folder / "c-1.limpet", take))


def _bundles(folder: Path) -> list[bytes]:
    """Return a plain bundle, and one with all that a bundle may have."""
    model = models.dense(folder / "dense.tflite").read_bytes()
    vectors = made.golden([np.zeros((1, 1, 3))], [np.zeros((1, 1, 3))])
    plain = made.bundle(folder / "a-1.limpet", {"model.tflite": model}).read_bytes()
    full = made.bundle(
        folder / "b-1.limpet",
        {"model.tflite": model, "labels.txt": b"cat\ndog\n", "golden.npz": vectors},
        labels="labels.txt",
        golden="golden.npz",
    ).read_bytes()
    return [plain, full]


def _load(path: Path, cache: Path) -> None:
    try:
        bundles.load(path, cache)
    finally:
        shutil.rmtree(cache, ignore_errors=True)


@parser("manifest")
def _manifest(folder: Path) -> Prepared:
    """A manifest in a sound zip, up to the plan that is made of it."""
    model = models.dense(folder / "dense.tflite", 3, 3).read_bytes()
    members = {"model.tflite": model, "labels.txt": b"cat\ndog\n"}
    inputs = [{"name": "input", "shape": [1, 3], "dtype": "int8", "channels": ["a", "b", "c"]}]
    full = {
        "inputs": inputs,
        "labels": "labels.txt",
        "window": {"size": 4, "hop": 2, "max_gap": 0.5},
        "transforms": [{"kind": "normalise", "mean": [1, 2, 3], "std": 2.0}, {"kind": "statistics"}],
        "decoder": {"kind": "classify", "threshold": 0.5},
        "rate": 100.0,
        "tolerance": {"absolute": 0.1},
        "variants": [{"runtime": "coreml", "model": "model.mlpackage.zip"}],
    }
    path = folder / "motion-3.limpet"

    def take(data: bytes) -> None:
        made.zipped(path, [("manifest.json", data), *members.items()])
        bundles.manifest_of(path)
        single.plan_model(path, None, ["cpu"], folder)

    plain = made.manifest(members, inputs=inputs, labels="labels.txt", decoder={"kind": "regress"})
    return Prepared([plain, made.manifest(members, **full)], take)


class _Model:
    """A model that says of itself what golden vectors are checked against."""

    inputs = (TensorSpec("input", (1, 3), np.dtype(np.float32)),)
    outputs = (TensorSpec("output", (1, 3), np.dtype(np.float32)),)

    def reset(self) -> None:
        """Nothing is remembered."""

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        return [np.zeros((1, 3), np.float32) for _ in inputs]


@parser("golden vectors")
def _golden(folder: Path) -> Prepared:
    model: Any = _Model()
    sound = bundles.load(models.dense(folder / "dense.tflite", int8=False), folder / "cache")

    def read(path: Path) -> None:
        golden.check_golden(sound.__class__(sound.manifest, sound.model, golden=path), model)

    corpus = [made.golden([np.zeros((n, 1, 3))], [np.ones((n, 1, 3))]) for n in (1, 4)]
    return Prepared(corpus, _written(folder / "golden.npz", read))


_TOML = """
[device]
id = "d"
state = "state"
[mqtt]
url = "mqtt://127.0.0.1"
[sources.s]
kind = "replay"
path = "r.csv"
[pipelines.p]
source = "s"
model = "m.tflite"
window = { size = 3 }
decoder = { kind = "regress" }
"""
_TOML_2 = """
[device]
id = "d"
commands = ["ping"]
[jsonl]
path = "o.jsonl"
[sources.s]
kind = "serial"
port = "x"
channels = ["a"]
range = [0, 1]
[delegates.g]
kind = "gpu"
options = { a = "b" }
[governor]
hot = 80.0
[pipelines.p]
source = "s"
model = "m"
delegates = ["g", "cpu"]
ladder = [{ every = 2 }]
"""


@parser("configuration")
def _toml(folder: Path) -> Prepared:
    take = _written(folder / "limpet.toml", lambda path: reporters.resolve(config.read(path)))
    return Prepared([_TOML.encode(), _TOML_2.encode()], take)


if importlib.util.find_spec("coremltools"):

    @parser("model mlmodel")
    def _mlmodel(folder: Path) -> Prepared:
        from limpet.models.coreml import specification

        coremltools = specification.library()
        corpus = []
        for kind in ("neuralNetwork", "neuralNetworkClassifier"):
            spec = coremltools.proto.Model_pb2.Model()
            spec.specificationVersion = 4
            getattr(spec, kind).SetInParent()
            array = spec.description.input.add(name="motion").type.multiArrayType
            array.shape.extend((1, 6, 20))
            array.dataType = array.ArrayDataType.Value("FLOAT32")
            array.shapeRange.sizeRanges.add(lowerBound=1, upperBound=-1)
            image = spec.description.input.add(name="photo").type.imageType
            image.height, image.width = 48, 64
            spec.description.output.add(name="scores").type.dictionaryType.stringKeyType.SetInParent()
            spec.description.metadata.userDefined["labels"] = '["gull", "tern"]'
            corpus.append(spec.SerializeToString())
        return Prepared(corpus, _written(folder / "model.mlmodel", specification.read))


@parser("head of a jpeg")
def _jpeg_head(folder: Path) -> Prepared:  # noqa: ARG001 - it needs no file
    def take(data: bytes) -> None:
        with contextlib.suppress(ValueError):
            width, height = _jpeg.size(data)
            assert 0 < width < 1 << 16
            assert 0 < height < 1 << 16

    return Prepared(videos.jpegs(2), take)


@parser("video")
def _video(folder: Path) -> Prepared:
    corpus = [
        videos.write(folder / name, 6, codec).read_bytes()
        for name, codec in (("a.mkv", "libx264"), ("b.mp4", "libx264"), ("c.avi", "mjpeg"))
    ]
    return Prepared(corpus, _written(folder / "video.mkv", _develop))


def _develop(path: Path) -> None:
    with replay.open(replay.Config(path=path, speed="flat-out"), Counter()) as blocks:
        for block in itertools.islice(blocks, BLOCKS):
            for frame in block.values:
                with contextlib.suppress(ValueError):
                    frame.developer(whole(frame.form))(frame)
