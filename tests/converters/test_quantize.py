"""Float models to every variant, by the quantizer that needs no TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import cli, layers, observers
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph, Tracer
from limpet_convert.quantize import left_in_float, quantize
from support import models

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("litert_quantizer", reason="there is no litert-quantizer for this machine")

SIZE = 64


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    return models.dense(tmp_path / "float.tflite", SIZE, SIZE, int8=False, layers=3).read_bytes()


@pytest.fixture
def inputs() -> Any:
    return np.random.default_rng(0).normal(size=(50, 1, SIZE)).astype(np.float32)


def off(model: bytes, made: bytes, inputs: Any) -> float:
    exact, other = Tracer(model), Tracer(made)
    return layers.distance(*(np.stack([run(one)[0] for one in inputs]) for run in (exact, other)))


@pytest.mark.parametrize(
    ("variant", "dtypes", "most"),
    [
        ("float16", {"FLOAT32"}, 1e-3),
        ("dynamic", {"FLOAT32"}, 0.02),
        ("int8", {"INT8"}, 0.02),
        ("int16x8", {"INT16"}, 1e-3),
    ],
)
def test_every_variant_computes_in_what_its_name_says_and_stays_near(
    model: bytes, inputs: Any, variant: Any, dtypes: set[str], most: float
) -> None:
    made = quantize(model, variant, observers.ranges(model, inputs))
    graph = Graph(made)
    names = {v: k for k, v in vars(graph.schema.TensorType).items()}
    assert {names[graph.subgraph.tensors[op.outputs[0]].type] for op in graph.ops} == dtypes
    assert len(made) < 0.7 * len(model)
    assert off(model, made, inputs) < most
    assert bool(left_in_float(made)) == (dtypes == {"FLOAT32"})


def test_a_range_that_is_too_narrow_clips(model: bytes, inputs: Any) -> None:
    narrow = observers.ranges(model, inputs / 4)
    assert off(model, quantize(model, "int8", narrow), inputs) > 0.3


def test_one_layer_of_a_mixture_stays_in_float(model: bytes, inputs: Any) -> None:
    graph, ranges = Graph(model), observers.ranges(model, inputs)
    middle = graph.names[graph.ops[1].outputs[0]]
    made = quantize(model, "mixed", ranges, {middle: "float"})
    assert len(left_in_float(made)) == 1
    assert off(model, made, inputs) < 0.02


def test_the_same_model_and_ranges_give_the_same_bytes(model: bytes, inputs: Any) -> None:
    first, second = (quantize(model, "int8", observers.ranges(model, inputs)) for _ in range(2))
    assert first == second


def test_what_the_quantizer_cannot_take_is_said(model: bytes) -> None:
    with pytest.raises(ConvertError, match="int8: quantizing the model: litert-quantizer: Model quant"):
        quantize(model, "int8", {})


TOML = """
[model]
path = "float.tflite"
[data]
calibration = "seen.npy"
test = "test.npy"
targets = "targets.npy"
[bundle]
name = "same"
version = 1
task = "regress"
decoder = { kind = "regress" }
[verify]
max_size_ratio = 0.6
"""


def test_the_steps_to_a_bundle_that_need_no_framework(
    model: bytes, inputs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model
    np.save(tmp_path / "seen.npy", inputs[:40, 0])
    np.save(tmp_path / "test.npy", inputs[40:, 0])
    np.save(tmp_path / "targets.npy", inputs[40:, 0])
    (tmp_path / "convert.toml").write_text(TOML)
    unsigned = tmp_path / "unsigned.toml"
    unsigned.write_text(TOML + '[sign]\nkey = "gone.key"\n')
    for command in ("run", "package"):  # told before any work is done
        assert cli.main([command, str(unsigned)]) == 1
        assert "gone.key: No such file or directory; make a key with" in capsys.readouterr().err
        assert not (tmp_path / "build").exists()
    undecodable = tmp_path / "undecodable.toml"
    undecodable.write_text(TOML.replace('"regress" }', '"regress", names = ["a"] }'))
    assert cli.main(["convert", str(undecodable)]) == 1
    assert "bundle.decoder: there are 1 names for the" in capsys.readouterr().err
    assert cli.main(["verify", str(tmp_path / "convert.toml"), "--delegate", "gpu"]) == 78
    assert "--device: missing" in capsys.readouterr().err
    for command in ("convert", "quantize", "package"):
        for folder in ("one", "two"):
            arguments = [command, str(tmp_path / "convert.toml"), "--output", str(tmp_path / folder)]
            assert cli.main(arguments) == 0
    assert (tmp_path / "one/same-1.limpet").read_bytes() == (tmp_path / "two/same-1.limpet").read_bytes()
    capsys.readouterr()
    assert cli.main(["inspect", str(tmp_path / "one/int8.tflite")]) == 0
    assert "computes: int8 3" in capsys.readouterr().out


def test_the_runtimes_greeting_is_not_printed(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 3, 3)
    code = "import sys, pathlib; from limpet_convert.quantize import quantize; model = pathlib.Path(sys.argv[1])\n"
    code += "from limpet_convert.graph import Tracer; made = quantize(model.read_bytes(), 'dynamic')\n"
    code += "Tracer(made); print('done')"
    done = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")
