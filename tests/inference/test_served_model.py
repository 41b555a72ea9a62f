"""A model as clients use it: they get its outputs, and nothing else is written into the memory."""

from __future__ import annotations

import mmap
from contextlib import ExitStack
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.contracts.data import TensorSpec
from limpet.inference.served_model import Identity, ServedModel
from limpet.inference.served_outputs import to_real, to_stored
from limpet.inference.served_rows import SIZE, Rows
from limpet.runtimes import tflite
from limpet.wire.guest_records import Infer, Inferred, Placed
from limpet.wire.guest_socket import Wanted
from support import models

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

IDENTITY = Identity("dense", 1, "0" * 64, "tflite")
BATCHED = IDENTITY._replace(rows=64)
MEMORY = 1 << 14


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.dense(tmp_path_factory.mktemp("served") / "dense.tflite", inputs=3, outputs=3, batch=-1)


@pytest.fixture(scope="module")
def dense(path: Path, stack: ExitStack) -> tflite.TFLiteModel:
    return loaded(path, stack, 1)


@pytest.fixture(scope="module")
def batched(path: Path, dense: tflite.TFLiteModel, stack: ExitStack) -> ServedModel:
    """A model of one window, with a copy that takes several."""
    return ServedModel(BATCHED, dense, dense, Rows(lambda size: loaded(path, stack, size)))


def loaded(path: Path, stack: ExitStack, size: int) -> tflite.TFLiteModel:
    model = stack.enter_context(tflite.open(path, tflite.Config(), shapes=[(size, 3)]))
    assert isinstance(model, tflite.TFLiteModel)
    return model


def wanted(
    inputs: Sequence[np.ndarray[Any, Any]], number: int = 1, *, real: bool = False, size: int = MEMORY // 2
) -> Wanted:
    memory = mmap.mmap(-1, MEMORY)
    placed, at = [], 0
    for values in inputs:
        memory[at : at + values.nbytes] = values.tobytes()
        placed.append(Placed(values.dtype.str, list(values.shape), at))
        at += values.nbytes
    return Wanted(Infer(number, placed, MEMORY // 2, size, real), memory, perf_counter())


def answers(served: ServedModel, requests: Sequence[Wanted]) -> list[Inferred]:
    job, found = served.begin(requests), list[Inferred]()
    while not job.done:
        found += job.step()
    assert [one.number for one in found] == [one.infer.number for one in requests]
    return found


def output(inferred: Inferred, memory: mmap.mmap) -> np.ndarray[Any, Any]:
    assert inferred.problem == ""
    (one,) = inferred.outputs
    found: np.ndarray[Any, Any] = np.frombuffer(memory, one.dtype, prod(one.shape), one.offset)
    return found.reshape(one.shape).copy()


@pytest.mark.parametrize("count", [1, 2, SIZE, SIZE + 3, 64])
def test_each_window_of_a_request_has_its_own_output(batched: ServedModel, count: int) -> None:
    rows = np.arange(3 * count, dtype=np.int16).reshape(count, 3).astype(np.int8)
    request = wanted([rows])
    (answer,) = answers(batched, [request])
    assert output(answer, request.memory).tolist() == rows.tolist()


@pytest.mark.parametrize("real", [False, True])
def test_requests_that_run_together_have_their_own_outputs(batched: ServedModel, real: bool) -> None:  # noqa: FBT001
    rows = [np.array([[n, n + 1, -n]], np.int8) for n in range(SIZE)]
    requests = [wanted([row], number, real=real) for number, row in enumerate(rows)]
    for row, request, answer in zip(rows, requests, answers(batched, requests), strict=True):
        found = output(answer, request.memory)
        expected = (row.astype(np.float32) - models.ZERO_POINT) * np.float32(models.SCALE) if real else row
        assert found.tolist() == expected.tolist()


def test_a_run_of_several_windows_gives_what_single_ones_give(path: Path, stack: ExitStack) -> None:
    rows = Rows(lambda size: loaded(path, stack, size))
    assert rows.pays(2, 3600.0)
    assert not rows.pays(SIZE, 0.0)
    for values in (np.int8([[1, 2, 3]]), np.float32([[0.5, 1.0, -2.0]])):
        outputs = rows.run([[values], [values * 2]], real=values.dtype != np.int8)
        assert outputs[0][:2].tolist() == [*values.tolist(), *(values * 2).tolist()]


def test_a_model_that_cannot_take_several_windows_runs_them_one_by_one(
    tmp_path: Path, dense: tflite.TFLiteModel, stack: ExitStack
) -> None:
    closed = models.dense(tmp_path / "closed.tflite", inputs=3, outputs=3)

    def open_closed(_size: int) -> tflite.TFLiteModel:
        model = stack.enter_context(tflite.open(closed, tflite.Config()))
        assert isinstance(model, tflite.TFLiteModel)
        return model

    served = ServedModel(BATCHED, dense, dense, Rows(open_closed))
    requests = [wanted([np.full((1, 3), n, np.int8)], n) for n in range(4)]
    found = answers(served, requests)
    assert [one.batched for one in found] == [1] * 4
    assert [output(one, each.memory)[0, 0] for one, each in zip(found, requests, strict=True)] == [0, 1, 2, 3]


def test_one_wrong_request_among_several_fails_alone(batched: ServedModel) -> None:
    right = np.int8([[1, 2, 3]])
    requests = [wanted([right], 1), wanted([np.zeros((1, 4), np.int8)], 2), wanted([right], 3)]
    found = answers(batched, requests)
    assert ["has shape" in one.problem for one in found] == [False, True, False]
    assert output(found[2], requests[2].memory).tolist() == right.tolist()


def test_a_runtime_without_stored_values_gives_the_same(dense: tflite.TFLiteModel) -> None:
    values = np.arange(-128, 127, 3, dtype=np.int16).astype(np.int8).reshape(-1, 1, 1).repeat(3, axis=2)
    for row in values:
        request = wanted([row])
        (answer,) = answers(ServedModel(IDENTITY, dense), [request])
        assert output(answer, request.memory).tolist() == row.tolist()


@given(st.integers(-128, 127), st.floats(2**-20, 2**20, width=32), st.integers(-128, 127))
def test_stored_values_survive_the_way_through_real_ones(stored: int, scale: float, zero_point: int) -> None:
    tensor = TensorSpec("x", (1, 3), np.dtype(np.int8), (scale,), (zero_point,))
    values = np.full((1, 3), stored, np.int8)
    assert to_stored(to_real(values, tensor), tensor).tolist() == values.tolist()


PLACED = st.builds(
    Placed,
    st.sampled_from(["|i1", "<f4", "<i8", "|b1", "|S4", "<f2"]),
    st.lists(st.integers(0, 1 << 31) | st.integers(0, 4), max_size=4),
    st.integers(0, 1 << 28) | st.integers(0, MEMORY),
)


@settings(max_examples=100)
@given(
    st.builds(
        Infer,
        st.integers(0, 9),
        st.lists(PLACED, max_size=3) | st.lists(st.just(Placed("|i1", [1, 3], 0)), min_size=1, max_size=1),
        st.integers(0, 1 << 28) | st.integers(0, MEMORY),
        st.integers(0, 1 << 28) | st.integers(0, 64),
        st.booleans(),
    )
)
def test_whatever_is_requested_only_outputs_within_their_place_are_written(
    batched: ServedModel, infer: Infer
) -> None:
    memory = mmap.mmap(-1, MEMORY)
    memory[:] = b"\x05" * MEMORY
    (answer,) = answers(batched, [Wanted(infer, memory, perf_counter())])
    begin, end = min(infer.offset, MEMORY), min(infer.offset + infer.size, MEMORY)
    assert memory[:begin] + memory[end:] == b"\x05" * (MEMORY - (end - begin))
    if not answer.problem:
        (one,) = answer.outputs
        assert begin <= one.offset <= one.offset + prod(one.shape) <= end
