from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limpet.errors import ModelError
from limpet.models.tflite import model_file, model_graph
from limpet.models.tflite.model_file import Signature
from limpet.runtimes import tflite
from support import models
from support.flatfile import Graph, Op, Tensor, Writer, write

if TYPE_CHECKING:
    from collections.abc import Callable

DAMAGE = Path(__file__).parents[1] / "support" / "damage.py"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.tflite"


def test_inputs_outputs_and_quantization(path: Path) -> None:
    file = model_file.read(models.dense(path, 3, 2, batch=-1))
    (taken,), (given_,) = file.inputs, file.outputs
    assert (taken.name, taken.shape, taken.dtype) == ("input", (-1, 3), "int8")
    assert (given_.name, given_.shape, given_.scale, given_.zero_point) == ("output", (-1, 2), (0.0625,), (3,))
    assert (file.size, file.text) == (path.stat().st_size, "made by Limpet's tests")


def test_ops_and_signatures(path: Path) -> None:
    assert model_file.read(models.unknown(path, "FlexErf")).ops == ("FlexErf",)
    file = model_file.read(models.methods(path))
    assert file.ops == ("builtin 0",)
    assert file.signatures == {"twice": Signature(0, ("x",), ("y",)), "squared": Signature(1, ("x",), ("y",))}


def test_metadata(path: Path) -> None:
    said = model_file.read(models.described(path)).description
    assert (said.name, said.text, said.version, said.licence) == ("pets", "tells pets apart", "v7", "Apache-2.0")
    assert (said.mean, said.std, said.label_file) == ((127.0,), (128.0,), "labels.txt")
    assert (said.input_names, said.output_names) == (("image",), ("probability",))
    assert model_file.read(path).min_runtime_version == "1.5.0"


def test_a_version_that_is_none_is_left_out(path: Path) -> None:
    models.dense(path, metadata={"min_runtime_version": b"UNKNOWN\0\0"})
    assert not model_file.read(path).min_runtime_version


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"TFL3", "too few"), (b"\x08\0\0\0TFL2" + bytes(99), "b'TFL2'"), (bytes(99), "not b'TFL3'")],
)
def test_what_is_no_model_is_refused(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        model_file.read(path)


def test_a_missing_file_is_refused(path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        model_file.read(path)


def test_every_truncation_is_refused(path: Path) -> None:
    whole = models.dense(path, 3, 3).read_bytes()
    # What follows the last vector is padding.
    for length in range(len(whole) - 4):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            model_file.read(path)


@pytest.mark.parametrize("make", [models.described, models.methods, models.svdf, models.accumulator, models.conv])
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_refused_or_harmless(
    path: Path, make: Callable[[Path], Path], changes: list[tuple[int, int]]
) -> None:
    content = bytearray(make(path).read_bytes())
    for at, value in changes:
        content[at % len(content)] = value
    path.write_bytes(content)
    with suppress(ModelError):  # Anything else is a bug.
        assert model_file.read(path).size == len(content)


def odd(path: Path, *, buffers: int = 1, buffer: int = 0, op: bool = True, metadata: int | None = None) -> Path:
    """Write a model that is doubled input to output, or with no ``op`` its input, with a table of ``buffers``."""
    writer = Writer()
    tensors = [
        writer.table(at_0=writer.array((1, 4)), i8_1=0, u32_2=buffer, at_3=writer.string(name), bool_8=True)
        for name in ("in", "out")
    ]
    add = writer.table(
        u32_0=0, at_1=writer.array([0, 0]), at_2=writer.array([1]), u8_3=11, at_4=writer.table(i8_0=0)
    )
    graph = writer.table(
        at_0=writer.vector(tensors),
        at_1=writer.array([0]),
        at_2=writer.array([int(op)]),
        at_3=writer.vector([add] if op else []),
    )
    codes = writer.vector([writer.table(i8_0=0, i32_2=1, i32_3=0)] if op else [])
    content = writer.vector([writer.table() for _ in range(buffers)])
    fields = {"at_1": codes, "at_2": writer.vector([graph]), "at_4": content}
    if metadata is not None:
        entry = writer.table(at_0=writer.string("TFLITE_METADATA"), u32_1=metadata)
        fields["at_6"] = writer.vector([entry])
    path.write_bytes(writer.finish(writer.table(u32_0=3, **fields), b"TFL3"))
    return path


@pytest.mark.parametrize(
    "form",
    [{"buffers": 0}, {"buffers": 1}, {"op": False}, {"metadata": 7}],
    ids=["no buffers", "one buffer", "no ops", "metadata in no buffer"],
)
def test_what_the_runtime_loads_is_not_refused(path: Path, form: dict[str, Any]) -> None:
    file = model_file.read(odd(path, **form))
    assert (file.inputs[0].name, file.outputs[0].shape) == ("in", (1, 4))
    with tflite.open(path, tflite.Config()) as model:
        assert model.run([np.ones(4, np.float32)])[0].shape == (1, 4)


def test_a_buffer_that_is_not_there_is_refused(path: Path) -> None:
    with pytest.raises(ModelError, match="buffer 3 of 1 is referred to"):
        model_file.read(odd(path, buffer=3))


def test_metadata_that_cannot_be_read_does_not_refuse_the_model(path: Path) -> None:
    file = model_file.read(models.dense(path, metadata={"TFLITE_METADATA": b"what is this?"}))
    assert "TFLITE_METADATA cannot be read" in file.description.problem
    assert file.description.label_file == ""


def test_parts_that_many_others_refer_to_do_not_take_for_ever(path: Path) -> None:
    """A million tensors in 100 graphs, all of them the same table in the file."""
    writer = Writer()
    tensor = writer.table(at_0=writer.array([1]), at_3=writer.string("t" * 10_000))
    graph = writer.table(at_0=writer.vector([tensor] * 10_000))
    content = writer.finish(writer.table(u32_0=3, at_2=writer.vector([graph] * 100)), b"TFL3")
    path.write_bytes(content)
    with pytest.raises(ModelError, match="refer to each other so often"):
        model_file.read(path)
    with pytest.raises(ModelError, match="refer to each other so often"):
        model_graph.read(content)


def test_graphs_that_run_each_other_end(path: Path) -> None:
    tensors = [Tensor("go", (1,), "bool"), Tensor("done", (1,), "bool")]
    loop = Op(119, [0], [1], (92, {"i32_0": 1, "i32_1": 0}))
    path.write_bytes(write([Graph(tensors, [loop], [0], [1])] * 2))
    assert not model_file.read(path).ports[""].state


def test_a_damaged_model_does_not_bring_the_runtime_down(tmp_path: Path) -> None:
    """In a process of its own, where a crash shows. What is not refused may well give wrong numbers."""
    run = subprocess.run(
        [sys.executable, DAMAGE, tmp_path], capture_output=True, text=True, timeout=100, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    refused, ran = map(int, run.stdout.split())
    assert refused > ran > 0
