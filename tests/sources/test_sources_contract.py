"""What every source must do, third parties' too."""

from __future__ import annotations

import inspect
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet import plugins
from limpet.contracts.data import Samples
from limpet.contracts.fields import WindowSpec
from limpet.contracts.frame import whole
from limpet.contracts.needs import Needs
from limpet.inference.window import Windower
from limpet.worker.mailbox import Mailbox
from sources.outside import camera
from support import pictures, videos
from support.microphone import NAME, Microphone, ramp
from support.ptys import Board
from support.web_camera import WebCamera

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.contracts.data import SampleSpec
    from limpet.contracts.frame import FrameForm


@contextmanager
def board(path: Path) -> Iterator[dict[str, Any]]:
    """Send a line now and then, some of them bad, until left."""
    done = threading.Event()

    def send(node: Board) -> None:
        for n in range(10_000):
            if done.wait(0.005):
                return
            node.send(b"%d,%d\n" % (n, -n) if n % 7 else b"bad\n")

    with Board(path / "node") as node:
        sender = threading.Thread(target=send, args=(node,))
        sender.start()
        try:
            yield {"port": str(node.path), "channels": ["a", "b"]}
        finally:
            done.set()
            sender.join()


@contextmanager
def recording(path: Path) -> Iterator[dict[str, Any]]:
    values = np.arange(400, dtype=np.float32).reshape(-1, 2)
    values[5] = np.nan
    np.save(path / "r.npy", values)
    yield {"path": path / "r.npy", "rate": 200.0, "loop": True}


@contextmanager
def moving_square(path: Path) -> Iterator[dict[str, Any]]:  # noqa: ARG001 - it has no files
    yield {"rate": 200.0}


@contextmanager
def microphone(path: Path) -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        device = Microphone(path / "mic", ramp())
        device.stumble()
        for name, value in device.environment.items():
            patch.setenv(name, value)
        yield {"device": NAME}


@contextmanager
def folder_of_pictures(path: Path) -> Iterator[dict[str, Any]]:
    pictures.fill(path, 120, damaged=range(6, 120, 7))
    yield {"path": path}


@contextmanager
def web_camera(path: Path) -> Iterator[dict[str, Any]]:  # noqa: ARG001 - it has no files
    pictures = videos.jpegs(8)
    with WebCamera([*pictures, pictures[0][:200]], rate=100) as server:
        yield {"url": f"http://127.0.0.1:{server.port}/stream"}


LIVE: dict[str, Callable[[Path], Any]] = {
    "serial": board,
    "replay": recording,
    "audio": microphone,
    "images": folder_of_pictures,
    "camera": web_camera,
    "outside": moving_square,
}
"""A context manager for each kind, which yields a configuration of a source that has samples, some of them bad."""

kinds = pytest.mark.parametrize("kind", [*plugins.names("sources"), "outside"])


def load(kind: str) -> Any:
    return camera if kind == "outside" else plugins.load("sources", kind)


@contextmanager
def opened(kind: str, path: Path) -> Iterator[tuple[SampleSpec, Iterator[Samples], Counter[str]]]:
    source: plugins.Source = load(kind)
    dropped: Counter[str] = Counter()
    with LIVE[kind](path) as table:
        config = source.Config(**table)
        with source.open(config, dropped) as samples:
            yield source.describe(config), samples, dropped


@kinds
def test_it_has_the_form_of_a_plugin(kind: str) -> None:
    source = load(kind)
    assert list(inspect.signature(source.describe).parameters) == ["config"]
    assert list(inspect.signature(source.open).parameters) == ["config", "dropped"]


@kinds
def test_it_says_what_it_needs_while_the_device_is_away(kind: str, tmp_path: Path) -> None:
    source: plugins.Source = load(kind)
    with LIVE[kind](tmp_path) as table:
        config = source.Config(**table)
    assert isinstance(source.needs(config), Needs)


@kinds
def test_samples_are_as_described(kind: str, tmp_path: Path) -> None:
    with opened(kind, tmp_path) as (spec, samples, _):
        assert spec.channels == () or len(spec.channels) == spec.shape[-1]
        for _ in range(20):
            block = next(samples)
            if spec.frames:
                assert block.values.shape == (len(block),)
                assert all(fits_form(frame.form, spec.shape) for frame in block.values)
            else:
                assert block.values.shape == (len(block), *spec.shape)
                assert block.values.dtype == spec.dtype
            assert block.monotonic_ns.dtype == block.wall_ns.dtype == np.int64
            assert block.monotonic_ns.shape == block.wall_ns.shape == (len(block),)


@kinds
def test_times_and_ordinals_go_on(kind: str, tmp_path: Path) -> None:
    due, last, count = 0, 0, 0
    with opened(kind, tmp_path) as (_, samples, _):
        while count < 60:
            block = next(samples)
            count += len(block)
            assert block.gap or block.index == due or not len(block)
            assert block.index >= due
            due = block.index + len(block)
            for stamp in block.monotonic_ns.tolist():
                assert last <= stamp <= time.monotonic_ns()
                last = stamp
            age = time.monotonic_ns() - block.monotonic_ns
            np.testing.assert_allclose(time.time_ns() - block.wall_ns, age, rtol=0, atol=10e9)


@kinds
def test_what_is_bad_is_dropped_counted_and_leaves_a_gap(kind: str, tmp_path: Path) -> None:
    with opened(kind, tmp_path) as (_, samples, dropped):
        while not next(block for block in samples if len(block)).gap:
            pass
        assert dropped.total() > 0
        assert all(type(count) is int and count > 0 for count in dropped.values())


@kinds
def test_it_closes_and_opens_again(kind: str, tmp_path: Path) -> None:
    source: plugins.Source = load(kind)
    with LIVE[kind](tmp_path) as table:
        for _ in range(2):
            with source.open(source.Config(**table), Counter()) as samples:
                assert next(block for block in samples if len(block)).index < 5


@kinds
def test_a_block_stays_as_it_is_as_long_as_something_refers_to_it(kind: str, tmp_path: Path) -> None:
    """Windows are views of blocks, and several pipelines see the same block."""
    with opened(kind, tmp_path) as (_, samples, _):
        kept = [block for block, _ in zip(samples, range(40), strict=False)]
        seen = [copied(block) for block in kept]
        for _ in range(40):
            next(samples)
        for block, before in zip(kept, seen, strict=True):
            for now, then in zip(copied(block), before, strict=True):
                np.testing.assert_array_equal(now, then)


@kinds
def test_nobody_else_needs_to_write_to_its_samples(kind: str, tmp_path: Path) -> None:
    with opened(kind, tmp_path) as (spec, samples, _):
        windower = None if spec.frames else Windower(WindowSpec(size=1), spec)
        windows = 0
        while windows < 20:
            block = next(samples)
            block.values.setflags(write=False)
            # Frames become windows when they are developed.
            windows += len(copied(block)[:-2]) if windower is None else sum(1 for _ in windower.push(block))


def copied(block: Samples) -> list[np.ndarray[Any, Any]]:
    if block.values.dtype != object:
        return [array.copy() for array in (block.values, block.monotonic_ns, block.wall_ns)]
    pixels = [frame.developer(whole(frame.form))(frame).copy() for frame in block.values]
    return [*pixels, block.monotonic_ns.copy(), block.wall_ns.copy()]


def fits_form(form: FrameForm, shape: tuple[int, ...]) -> bool:
    """Whether a frame is as a source has described."""
    wanted = zip(shape, (form.height, form.width, 3), strict=True)
    return all(described in {-1, found} for described, found in wanted)


def test_frames_reach_a_window_without_a_copy_and_their_buffers_come_back() -> None:
    buffers = camera.Buffers(3)
    mailbox = Mailbox(1, 1 << 20, wait=False)
    windower = Windower(WindowSpec(size=1), camera.describe(camera.Config()))
    for index in range(20):
        frame = buffers.take()
        assert frame is not None
        frame[...] = index
        at = frame.ctypes.data
        stamps = np.array([index])
        mailbox.put(Samples(frame[np.newaxis], stamps, stamps, index))
        del frame
        if index % 3 == 2:
            block = mailbox.get(0)
            assert block is not None
            (window,) = windower.push(block)
            assert window.values.ctypes.data == at
            assert (window.values == index).all()
            del block, window
    assert mailbox.dropped == 20 - 6 - len(mailbox)
    assert len(buffers) == 3 - len(mailbox)


def test_a_camera_whose_buffers_are_all_out_drops_frames_and_goes_on() -> None:
    dropped: Counter[str] = Counter()
    with camera.open(camera.Config(rate=1000, buffers=2, torn=1000), dropped) as frames:
        kept = [next(frames) for _ in range(4)]
        assert [len(block) for block in kept] == [1, 1, 0, 0]
        assert dropped == {"no_buffer": 2}
        del kept[0]
        after = next(frames)
        assert (len(after), after.gap, after.index) == (1, True, 4)
