"""Frames that move: a camera that pans and zooms over photographs, as H.264, as MJPEG, and as a web camera.

The videos are played by the source ``replay``; the source ``camera`` reads MJPEG over HTTP. The maker's code gets
the same frames, decoded by FFmpeg. Each model runs twice: with the transforms of its bundle, and with
``like = "any"``, where libswscale scales a frame while it converts the colours.
"""

from __future__ import annotations

import io
import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import av
from PIL import Image

from limpet.models import bundle as bundles
from models import measured, photographs
from support.broker import listener, mosquitto, wait_until
from support.daemon import daemon as running
from support.web_camera import WebCamera

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from models.entry import Model
    from support.broker import Listener
    from support.daemon import Daemon

WIDTH, HEIGHT, FRAMES, RATE = 640, 480, 8, 5
"""Frames of each photograph, and frames a second."""
PATIENCE = 240.0
RESULTS = 4
"""Results after which the newest is of the picture that the web camera shows now, and of none before."""
KINDS = ("h264", "mjpeg", "camera")


class Live(NamedTuple):
    """What Limpet says of the frames of a kind: as the bundle is, and with ``like = "any"``."""

    frames: Path
    outputs: list[Any]
    any_outputs: list[Any]


def film(names: Sequence[str]) -> Iterator[Image.Image]:
    """Yield the frames: the part that is shown gets smaller, and moves from the left top corner on."""
    for name in names:
        picture = photographs.photograph(name)
        for number in range(FRAMES):
            zoom = 1 - 0.2 * number / (FRAMES - 1)
            width = min(picture.width, picture.height * WIDTH / HEIGHT) * zoom
            height = width * HEIGHT / WIDTH
            left, top = ((picture.width - width) * 0.5, (picture.height - height) * number / (FRAMES - 1) * 0.6)
            yield picture.resize(
                (WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height)
            )


def limpet(model: Model, bundle: Path, folder: Path) -> dict[str, Live]:
    """Return what Limpet says of each kind, and where the maker's code finds the frames."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shown = list(film(model.film))
    _encode(folder / "h264.mp4", shown, "libx264", "yuv420p", {"crf": "18"})
    _encode(folder / "mjpeg.avi", shown, "mjpeg", "yuvj420p", {"qmin": "2", "qmax": "4"})
    jpegs = [_jpeg(one) for one in shown]
    _decode(folder / "h264", [folder / "h264.mp4"])
    _decode(folder / "mjpeg", [folder / "mjpeg.avi"])
    _decode(folder / "camera", [io.BytesIO(one) for one in jpegs])
    text = _transforms(bundle, folder)
    with (
        mosquitto(folder / "broker") as broker,
        listener(broker.port) as heard,
        WebCamera(rate=RATE, then="stall") as camera,
    ):
        taken: dict[str, list[Any]] = {"camera-own": [], "camera-any": []}
        camera.pictures = _until_seen(jpegs, heard, taken)
        config = folder / "limpet.toml"
        sources = {
            "h264": f'kind = "replay"\npath = "{folder / "h264.mp4"}"\nspeed = "flat-out"',
            "mjpeg": f'kind = "replay"\npath = "{folder / "mjpeg.avi"}"\nspeed = "flat-out"',
            "camera": f'kind = "camera"\nurl = "http://127.0.0.1:{camera.port}/stream"',
        }
        name = bundle.name.rpartition("-")[0]
        config.write_text(
            measured.device(bundle, broker.url, folder / "state")
            + "".join(_pipelines(kind, table, name, text) for kind, table in sources.items())
        )
        with running(config) as daemon:
            wait_until(lambda: _complete(daemon, heard, taken, len(shown)), PATIENCE)
            assert daemon.stop() == 0, daemon.log[-2000:]
        taken |= {name: _outputs(heard, name) for name in heard.results() if name not in taken}
        return {kind: Live(folder / kind, taken[f"{kind}-own"], taken[f"{kind}-any"]) for kind in KINDS}


def _until_seen(jpegs: Sequence[bytes], heard: Listener, taken: dict[str, list[Any]]) -> Iterator[bytes]:
    """Yield each picture until all pipelines of the camera have seen it; keep what each says of it then.

    The latest frame wins, so which frames a pipeline takes depends on how busy the machine is.
    """
    for jpeg in jpegs:
        before = {name: len(heard.results()[name]) for name in taken}
        while any(len(heard.results()[name]) < before[name] + RESULTS for name in taken):
            yield jpeg
        for name, outputs in taken.items():
            outputs.append(_outputs(heard, name)[-1])


def _pipelines(kind: str, table: str, name: str, transforms: str) -> str:
    return f"""
[sources.{kind}]
{table}

[pipelines.{kind}-own]
source = "{kind}"
model = "{name}"

[pipelines.{kind}-any]
source = "{kind}"
model = "{name}"
transforms = {transforms}
"""


def _transforms(bundle: Path, folder: Path) -> str:
    """Return the bundle's transforms in TOML, without the library whose numbers they have."""
    left_out = ("like", "method", "antialias")
    tables = [
        ", ".join(f"{key} = {json.dumps(value)}" for key, value in one.items() if key not in left_out)
        for one in bundles.load(bundle, folder / "cache").manifest.transforms
    ]
    return "[" + ", ".join(f"{{ {table} }}" for table in tables) + "]"


def _complete(daemon: Daemon, heard: Listener, taken: dict[str, list[Any]], count: int) -> bool:
    failed = [message.json for message in heard.on("event/+") if message.json["event"] == "failed"]
    if failed or daemon.process.poll() is not None:
        raise RuntimeError(f"a pipeline failed: {failed} {daemon.log[-1500:]}")
    results = heard.results()
    played = all(len(results[f"{kind}-{how}"]) >= count for kind in ("h264", "mjpeg") for how in ("own", "any"))
    return played and all(len(outputs) >= count for outputs in taken.values())


def _outputs(heard: Listener, name: str) -> list[Any]:
    return [one["output"] for one in sorted(heard.results()[name], key=lambda one: one["sample"])]


def _encode(path: Path, shown: Sequence[Image.Image], codec: str, pixels: str, options: dict[str, str]) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        for picture in shown:
            frame = av.VideoFrame.from_image(picture).reformat(format=pixels)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _decode(folder: Path, files: Sequence[Any]) -> None:
    """Write each frame as FFmpeg decodes it and makes RGB of it."""
    folder.mkdir()
    count = 0
    for file in files:
        with av.open(file if isinstance(file, io.BytesIO) else str(file)) as container:
            for frame in container.decode(video=0):
                Image.fromarray(frame.to_ndarray(format="rgb24")).save(folder / f"{count:03}.png")
                count += 1
