"""An executor that was taken over, as its worker sees it: it costs its model the delegate, and nothing else."""

from __future__ import annotations

import mmap
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.data import TensorSpec
from limpet.contracts.messages import Placed
from limpet.errors import ModelError
from limpet.executor.process import lay_out
from limpet.wire.channel import Channel
from limpet.wire.executor_records import Opened
from limpet.wire.memory_file import anonymous_file, seal
from limpet.wire.stream import LENGTH
from limpet.worker.executor_link import ANSWER_TIMEOUT, ExecutorLink, Expected, check_output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

TENSOR = TensorSpec("x", (1, 3), np.dtype(np.float32))
QUANTIZED = TensorSpec("y", (-1, 2), np.dtype(np.int8), (0.5,), (0,))
EXPECTED = Expected((TENSOR,), (TENSOR, QUANTIZED), 1.0)
PLACES = lay_out([TENSOR, TENSOR, QUANTIZED])
SIZE = PLACES[-1][0] + PLACES[-1][1]


class Executor:
    """The other end of a link."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.channel: Channel[Any] = Channel(ours, Any)
        self.link = ExecutorLink(1, "board", EXPECTED, time.monotonic() + 10)
        self.link.connect(theirs)
        self.memory: mmap.mmap

    def open(self, *, shrinkable: bool = False, size: int = SIZE, **changes: Any) -> None:
        opened = msgspec.structs.replace(Opened(Placed(1.0), 0.01, 0.01, PLACES, 2), **changes)
        with memory(size, shrinkable=shrinkable) as file:
            self.memory = mmap.mmap(file.fileno(), 0)
            self.channel.send(opened, (file.fileno(),))

    def answer(self, *outputs: Any, error: str = "") -> None:
        self.channel.send({"type": "Done", "error": error, "outputs": list(outputs)})

    def close(self) -> None:
        self.link.close()
        self.channel.close()


@contextmanager
def memory(size: int, *, shrinkable: bool) -> Iterator[IO[bytes]]:
    with anonymous_file() as file:
        file.truncate(size)
        if not shrinkable:
            seal(file)
        yield file


@pytest.fixture
def executor() -> Iterator[Executor]:
    made = Executor()
    yield made
    made.close()


@pytest.fixture
def opened(executor: Executor) -> Executor:
    executor.open()
    assert executor.link.poll()
    return executor


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


GIVEN = [np.zeros((1, 3), np.float32)]
FITS = ["<f4", [1, 3]], ["|i1", [5, 2]]


def test_an_executor_that_answers_as_it_should_is_used(opened: Executor) -> None:
    opened.answer(*FITS)
    first, second = opened.link.run(GIVEN)
    assert (first.shape, second.shape) == ((1, 3), (5, 2))


def test_outputs_do_not_change_while_they_are_decoded(opened: Executor) -> None:
    opened.answer(*FITS)
    first, _ = opened.link.run(GIVEN)
    opened.memory[:] = b"\xff" * SIZE
    assert first.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    "changes",
    [
        {"places": PLACES[:2]},
        {"places": [*PLACES, (0, 4)]},
        {"outputs": 1},
        {"outputs": -1},
        {"places": [(0, 1 << 40), *PLACES[1:]]},
        {"places": [(-8, 64), *PLACES[1:]]},
        {"places": [(1 << 62, 1 << 62), *PLACES[1:]]},
        {"run_s": float("nan")},
        {"run_s": -1.0},
        {"recheck_s": float("inf")},
        {"placed": Placed(2.0)},
        {"placed": Placed(1.0, device="\n" * 10)},
        {"placed": Placed(1.0, sandbox=["x"] * 1000)},
        {"size": 16},
    ],
)
def test_memory_and_figures_that_cannot_be_right_are_refused(executor: Executor, changes: dict[str, Any]) -> None:
    before = open_files()
    executor.open(**changes)
    with pytest.raises(ModelError):
        executor.link.poll()
    executor.memory.close()
    executor.link.close()
    assert open_files() == before - 1


def test_memory_that_could_be_taken_away_is_refused(executor: Executor) -> None:
    executor.open(shrinkable=True)
    with pytest.raises(ModelError, match="take away"):
        executor.link.poll()


def test_a_file_that_is_no_memory_is_refused(executor: Executor) -> None:
    with socket.socket() as other:
        executor.channel.send(Opened(Placed(1.0), 0.01, 0.01, PLACES, 2), (other.fileno(),))
        with pytest.raises(ModelError):
            executor.link.poll()


def test_no_memory_and_too_much_of_it_are_refused(executor: Executor) -> None:
    executor.channel.send(Opened(Placed(1.0), 0.01, 0.01, PLACES, 2))
    with pytest.raises(ModelError, match="no memory"):
        executor.link.poll()
    executor.channel.send(Opened(Placed(1.0), 0.01, 0.01, PLACES, 2), tuple([0] * 200))
    with pytest.raises(ModelError, match="file descriptors"):
        executor.link.poll()


def test_a_worker_waits_no_longer_than_it_may_be_silent_itself(executor: Executor) -> None:
    executor.open(run_s=1e9)
    assert executor.link.poll()
    started = time.monotonic()
    with pytest.raises(ModelError, match="does not answer"):
        executor.link.run(GIVEN)
    assert time.monotonic() - started < 10 * max(ANSWER_TIMEOUT, EXPECTED.timeout)


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [FITS[0]],
        [*FITS, FITS[0]],
        [["|O", [1, 3]], FITS[1]],
        [[">f4", [1, 3]], FITS[1]],
        [["<i8", [1, 3]], FITS[1]],
        [["<f4,<f4", [1, 3]], FITS[1]],
        [["<f4" * 1000, [1, 3]], FITS[1]],
        [["\0", [1, 3]], FITS[1]],
        [["<f4", [3]], FITS[1]],
        [["<f4", [1, 4]], FITS[1]],
        [["<f4", [-1, -3]], FITS[1]],
        [FITS[0], ["|i1", [-4, 2]]],
        [FITS[0], ["|i1", [1 << 40, 2]]],
        [FITS[0], ["|i1", [1 << 62, 2]]],
        [FITS[0], ["|i1", [0] * 10_000]],
    ],
)
def test_outputs_that_the_model_cannot_give_are_refused(opened: Executor, outputs: list[Any]) -> None:
    opened.answer(*outputs)
    with pytest.raises(ModelError) as refused:
        opened.link.run(GIVEN)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"x" * 50, b"\x91" * 9999, msgspec.msgpack.encode({"type": "Fork"})]
)
def test_garbage_is_a_failed_delegate(opened: Executor, data: bytes) -> None:
    opened.channel.socket.sendall(LENGTH.pack(len(data)) + data)
    with pytest.raises(ModelError, match="could not be read"):
        opened.link.run(GIVEN)


def test_a_record_without_end_is_a_failed_delegate(opened: Executor) -> None:
    opened.channel.socket.sendall(LENGTH.pack(0xFFFFFFFF))
    with pytest.raises(ModelError, match="the limit is"):
        opened.link.run(GIVEN)


def test_what_it_says_is_printable(opened: Executor) -> None:
    opened.answer(error="\x1b[31mno\n" * 1000)
    with pytest.raises(ModelError) as refused:
        opened.link.run(GIVEN)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) <= 1000


@given(
    st.text(max_size=6) | st.sampled_from(["<f4", "|i1", "<f8", "|u1"]),
    st.lists(st.integers(-(1 << 63), 1 << 63) | st.sampled_from([1, 2, 3]), max_size=4),
    st.sampled_from([TENSOR, QUANTIZED]),
)
def test_an_output_that_is_let_pass_fits_its_place(name: str, shape: list[int], spec: TensorSpec) -> None:
    room = 64
    try:
        check_output((name, tuple(shape)), room, spec)
    except ModelError:
        return
    assert np.dtype(name) in {spec.dtype, np.dtype(np.float32)}
    assert np.empty(shape, name).nbytes <= room
