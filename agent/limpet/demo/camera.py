"""``limpet demo camera``: a small video as if a camera saw it now, and the faces that are found in it."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO

import av
import numpy as np
from PIL import Image
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from limpet.demo import half_blocks
from limpet.demo.daemon import Chain, data
from limpet.demo.faces import FaceWatch
from limpet.demo.session import session
from limpet.demo.truth import truth
from limpet.errors import LimpetError
from limpet.terminal import can_draw, takes_colour
from limpet.worker.snapshot_picture import marks, put_marks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from limpet.contracts.outputs import Detections
    from limpet.demo.faces import Scoreboard

    Pictures = Sequence[NDArray[np.uint8]]

RATE = 10
"""Frames a second of the video."""
VIDEO = ".mp4"
PICTURES = (".png", ".jpg", ".jpeg")
_CODECS = ("libx264", "mpeg4")
"""Of FFmpeg, the best first. Not every build has all."""
_LARGER = 2
"""How many times larger what is written is, so that texts on it can be read."""
COLUMNS, ROWS = 64, 24
"""Characters of a picture in the terminal at most."""


def play(seconds: float | None, broker: str | None, output: Path | None, out: TextIO) -> Scoreboard:
    """Run the demo, and show it on ``out``. Default: once through the video."""
    boxes = truth().faces
    count = len(boxes) if seconds is None else max(1, round(seconds * RATE))
    watch = FaceWatch(boxes, "faces", count)
    video = data("faces.mp4")
    pictures = frames(video)
    chain = Chain(
        "camera",
        {"kind": "replay", "path": str(video), "loop": True},
        "faces",
        "face-detection-1.limpet",
    )
    with (
        session(broker, chain, watch.arrivals, watch.take) as run,
        (_live if can_draw(out) and takes_colour(out) else _plain)(out, pictures, watch) as show,
    ):
        out.write(f"{video.name}, {RATE} frames a second -> limpet run {run.configuration} -> {run.url}\n")
        run.show = show
        run.wait_for_pipeline()
        run.play(lambda: watch.sample, lambda: watch.sample >= count - 1)
        run.stop()
    if output:
        write(output, pictures[:count], watch.seen)
    return watch.scoreboard(str(output or ""))


def conclude(board: Scoreboard, out: TextIO) -> None:
    """Show the score in sentences."""
    delivered = board.latency_us.get("delivered", {}).get("p50", 0.0) / 1000
    out.write(
        f"{board.received} results. {board.faces} frames show a face: the model found {board.found} and missed "
        f"{board.missed}. False alarms: {board.false_alarms}.\n"
        f"Lost results: {board.lost}. From frame to client: {delivered:.1f} ms (median).\n"
    )
    if board.output:
        out.write(f"Written to {board.output}.\n")
    out.write("Passed.\n" if board.passed else "FAILED: something was lost, or a face was not found.\n")


def frames(path: Path) -> Pictures:
    """Return the frames of a short video in RGB, ``(height, width, 3)`` each."""
    with av.open(str(path)) as video:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in video.decode(video=0)]


def check_output(path: Path) -> None:
    """``LimpetError`` if nothing can be written there, before the demo is played for it."""
    if path.suffix.lower() not in (VIDEO, *PICTURES):
        raise LimpetError(f"--output {path}: use a name that ends with {VIDEO} for a video, or .png or .jpg")
    if not path.absolute().parent.is_dir():
        raise LimpetError(f"--output {path}: there is no folder {path.absolute().parent}")


def write(path: Path, pictures: Pictures, seen: dict[int, Detections]) -> None:
    """Write all frames with their boxes as a video, or the best one as a picture. ``LimpetError``."""
    try:
        if path.suffix.lower() == VIDEO:
            _write_video(path, [_marked(pixels, seen.get(place)) for place, pixels in enumerate(pictures)])
        else:
            best = max(seen, key=lambda place: _score(seen[place]), default=0)
            _marked(pictures[best], seen.get(best)).save(path)
    except OSError as error:
        raise LimpetError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise LimpetError(f"{path}: {error}") from error


def _score(output: Detections) -> float:
    return max((one.score for one in output.detections), default=0.0)


def _marked(pixels: NDArray[np.uint8], output: Detections | None) -> Image.Image:
    """Return a larger picture with what was found in it."""
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels).resize((_LARGER * width, _LARGER * height), Image.Resampling.BICUBIC)
    put_marks(image, marks(output))
    return image


def _write_video(path: Path, images: Sequence[Image.Image]) -> None:
    codec = next((name for name in _CODECS if name in av.codecs_available), _CODECS[-1])
    with av.open(str(path), "w") as video:
        stream: Any = video.add_stream(codec, rate=RATE)
        stream.width, stream.height = images[0].size
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast"}
        for image in images:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")))
        video.mux(stream.encode(None))


def described(output: Detections) -> str:
    """Return what was found in a frame, in words."""
    found = [
        f"{one.label} {one.score:.0%}, {one.box[0]:.0%} from the left, {one.box[1]:.0%} from the top"
        for one in output.detections
    ]
    return "; ".join(found) or "no face"


@contextmanager
def _live(out: TextIO, pictures: Pictures, watch: FaceWatch) -> Iterator[Callable[[], None]]:
    """Show each frame with its boxes."""
    console = Console(file=out)
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show() -> None:
            if not watch.fresh:
                return
            sample = watch.fresh[-1]
            watch.fresh.clear()
            place = sample % len(pictures)
            output = watch.seen[place]
            size = min(COLUMNS, console.width), min(ROWS, console.height - 3)
            drawn = half_blocks.text(pictures[place], *size, [one.box for one in output.detections])
            live.update(Group(drawn, Text(f"frame {sample}: {described(output)}", no_wrap=True)), refresh=True)

        yield show


@contextmanager
def _plain(out: TextIO, pictures: Pictures, watch: FaceWatch) -> Iterator[Callable[[], None]]:
    """Write a line when a face comes or goes, and every second."""
    del pictures
    due, before = 0.0, -1

    def show() -> None:
        nonlocal due, before
        while watch.fresh:
            sample = watch.fresh.popleft()
            output = watch.seen[sample % len(watch.boxes)]
            if len(output.detections) != before or monotonic() >= due:
                due, before = monotonic() + 1, len(output.detections)
                out.write(f"{sample / RATE:5.1f} s  {described(output)}\n")
                out.flush()

    yield show
