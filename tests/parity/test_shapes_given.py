"""`options.shape` with the batch and without it makes the same model, in each format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import sources
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Tracer

if TYPE_CHECKING:
    from pathlib import Path

keras: Any = pytest.importorskip("keras", reason="needs the environment of `make parity`")
torch: Any = pytest.importorskip("torch", reason="needs the environment of `make parity`")
onnx: Any = pytest.importorskip("onnx", reason="needs the environment of `make parity`")

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks warn of each other's versions
WINDOW = np.random.default_rng(0).normal(size=(1, 20, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def pooled() -> Any:
    """A network of PyTorch that takes any number of samples, channels first."""
    torch.manual_seed(0)
    layers = (torch.nn.Conv1d(6, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten())
    return torch.nn.Sequential(*layers, torch.nn.Linear(8, 3)).eval()


def first(pooled: Any) -> Any:
    return pooled(torch.from_numpy(WINDOW.transpose(0, 2, 1).copy())).detach().numpy()


def made(path: Path, **options: Any) -> bytes:
    return sources.convert(path, "", options, path.parent)


def test_keras_and_saved_model(tmp_path: Path) -> None:
    x = keras.Input((None, 6))
    network = keras.Model(x, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(x)))
    network.save(tmp_path / "m.keras")
    network.export(tmp_path / "saved", verbose=False)
    expected = np.asarray(network(WINDOW))
    for name in ("m.keras", "saved"):
        one = made(tmp_path / name, shape=[20, 6])
        assert one == made(tmp_path / name, shape=[1, 20, 6])
        assert Tracer(one)(WINDOW)[0] == pytest.approx(expected, abs=1e-5)
        with pytest.raises(ConvertError, match=r"shape \[\?, \?, 6\], with sizes left open"):
            made(tmp_path / name)
        with pytest.raises(ConvertError, match=r"Set model.options.shape to \[20, 6\]"):
            made(tmp_path / name, shape=[20, 9])


def test_a_traced_model_of_pytorch(pooled: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.ts"
    torch.jit.trace(pooled, torch.zeros(1, 6, 20)).save(path)
    for shape in ([6, 20], [1, 6, 20]):
        assert Tracer(made(path, shape=shape))(WINDOW)[0] == pytest.approx(first(pooled), abs=1e-5)
    with pytest.raises(ConvertError, match=r"shape is \[9, 20\], but the model does not take .*\[1, 9, 20\]"):
        made(path, shape=[9, 20])


def test_a_program_of_pytorch_that_leaves_batch_and_samples_open(pooled: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("samples", min=4, max=1000)}
    torch.export.save(torch.export.export(pooled, (torch.zeros(4, 6, 50),), dynamic_shapes=(sizes,)), path)
    assert Tracer(made(path)).inputs[0]["shape"].tolist() == [1, 50, 6]
    for shape in ([6, 20], [1, 6, 20]):
        assert Tracer(made(path, shape=shape))(WINDOW)[0] == pytest.approx(first(pooled), abs=1e-5)
    with pytest.raises(ConvertError, match=r"has shape \[\?, 6, \?\].* Set model.options.shape to \[6, 20\]"):
        made(path, shape=[9, 20])


def test_a_program_of_pytorch_with_fixed_sizes(pooled: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    torch.export.save(torch.export.export(pooled, (torch.zeros(1, 6, 20),)), path)
    assert Tracer(made(path, shape=[6, 20]))(WINDOW)[0] == pytest.approx(first(pooled), abs=1e-5)
    with pytest.raises(ConvertError, match=r"Set model.options.shape to \[6, 20\], or leave it out"):
        made(path, shape=[6, 40])


def test_onnx(pooled: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    axes = {"x": {0: "batch"}}
    names: Any = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
    torch.onnx.export(pooled, (torch.zeros(1, 6, 20),), path, dynamo=False, **names)
    for shape in ([6, 20], [1, 6, 20]):
        assert Tracer(made(path, shape=shape))(WINDOW)[0] == pytest.approx(first(pooled), abs=1e-5)
    with pytest.raises(ConvertError, match=r"\[\?, 6, 20\].* Set model.options.shape to \[6, 20\]"):
        made(path, shape=[9, 20])
