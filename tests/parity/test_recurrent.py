"""Recurrent layers of Keras, SavedModels and PyTorch: written out, they reach int8 and stay near."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import layers, observers, sources
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph, Tracer
from limpet_convert.quantize import left_in_float, quantize

if TYPE_CHECKING:
    from pathlib import Path

keras: Any = pytest.importorskip("keras", reason="needs the environment of `make parity`")
tensorflow: Any = pytest.importorskip("tensorflow", reason="needs the environment of `make parity`")
torch: Any = pytest.importorskip("torch", reason="needs the environment of `make parity`")
litert: Any = pytest.importorskip("litert_quantizer.quantizer", reason="needs the environment of `make parity`")

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks warn of each other's versions
STEPS, CHANNELS = 12, 3
INPUTS = np.random.default_rng(0).normal(size=(60, STEPS, CHANNELS)).astype(np.float32)
KERAS = {
    "lstm": lambda make: [make.LSTM(8, name="memory")],
    "gru": lambda make: [make.GRU(8, name="memory")],
    "both": lambda make: [make.Bidirectional(make.GRU(6), name="memory")],
    "stacked": lambda make: [
        make.Bidirectional(make.LSTM(6, return_sequences=True), name="memory"),
        make.SimpleRNN(6, name="above"),
    ],
}
LAYERS = {
    "lstm": ["memory"],
    "gru": ["memory"],
    "both": ["forward_gru", "backward_gru"],
    "stacked": ["forward_lstm", "backward_lstm", "above"],
}


def network(kind: str) -> Any:
    keras.utils.set_random_seed(1)
    shape = keras.Input((STEPS, CHANNELS))
    return keras.Sequential([shape, *KERAS[kind](keras.layers), keras.layers.Dense(4, name="head")])


def outputs(model: bytes, inputs: Any = INPUTS) -> Any:
    tracer = Tracer(model)
    return np.stack([tracer(one[None])[0][0] for one in inputs])


def in_int8(model: bytes, inputs: Any = INPUTS) -> bytes:
    made = quantize(model, "int8", observers.ranges(model, inputs))
    assert left_in_float(made) == []
    return made


@pytest.mark.parametrize("kind", KERAS)
def test_keras_is_written_out_computes_the_same_and_reaches_int8(kind: str, tmp_path: Path) -> None:
    made = network(kind)
    made.save(tmp_path / "m.keras")
    expected = np.asarray(made(INPUTS))
    model = sources.convert(tmp_path / "m.keras", "", {}, tmp_path)
    assert outputs(model) == pytest.approx(expected, abs=1e-5)
    assert layers.distance(expected, outputs(in_int8(model))) < 0.04
    graph = Graph(model)
    named = {graph.layer(op) for op in graph.ops}
    for layer in LAYERS[kind]:
        assert {f"{layer}_step_{step:03}" for step in range(STEPS)} <= named


@pytest.mark.parametrize("kind", ["both"])
def test_a_saved_model_gives_what_its_keras_model_does(kind: str, tmp_path: Path) -> None:
    made = network(kind)
    made.export(tmp_path / "saved", verbose=False)
    model = sources.convert(tmp_path / "saved", "", {}, tmp_path)
    assert outputs(model) == pytest.approx(np.asarray(made(INPUTS)), abs=1e-5)
    assert layers.distance(outputs(model), outputs(in_int8(model))) < 0.04


class Recurrent(torch.nn.Module):  # type: ignore[misc,name-defined]
    """A bidirectional GRU, an LSTM over its steps, and a dense layer over the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.both = torch.nn.GRU(CHANNELS, 6, batch_first=True, bidirectional=True)
        self.memory = torch.nn.LSTM(12, 6, batch_first=True)
        self.head = torch.nn.Linear(6, 4)

    def forward(self, x: Any) -> Any:
        return self.head(self.memory(self.both(x)[0])[0][:, -1])


def test_pytorch_reaches_int8(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, few = Recurrent().eval(), INPUTS[:, :4]
    torch.export.save(torch.export.export(module, (torch.zeros(1, 4, CHANNELS),)), tmp_path / "m.pt2")
    model = sources.convert(tmp_path / "m.pt2", "", {"layout": "as_is"}, tmp_path)
    expected = module(torch.from_numpy(few.copy())).detach().numpy()
    assert outputs(model, few) == pytest.approx(expected, abs=1e-5)
    assert layers.distance(expected, outputs(in_int8(model, few), few)) < 0.04


def test_a_loop_stays_one_if_wanted_or_too_long_and_int8_says_so(tmp_path: Path) -> None:
    network("gru").save(tmp_path / "short.keras")
    longer = keras.Sequential([keras.Input((300, CHANNELS)), keras.layers.GRU(4, name="memory")])
    longer.save(tmp_path / "long.keras")
    for name, options in (("short", {"unroll": False}), ("long", {})):
        model = sources.convert(tmp_path / f"{name}.keras", "", options, tmp_path)
        assert "WHILE" in {op.kind for op in Graph(model).ops}
        with pytest.raises(ConvertError, match=r"this model has one in memory \(WHILE\)"):
            quantize(model, "int8", {})
        small = quantize(model, "dynamic")
        window = np.zeros((1, 300 if name == "long" else STEPS, CHANNELS), np.float32)
        assert Tracer(small)(window)[0] == pytest.approx(Tracer(model)(window)[0], abs=0.02)


class Nested(tensorflow.Module):  # type: ignore[misc]
    """A loop in a loop, with a branch in it that has a loop of its own."""

    @tensorflow.function(input_signature=[tensorflow.TensorSpec((1, 4))], autograph=False)  # type: ignore[untyped-decorator]
    def __call__(self, x: Any) -> Any:
        def loop(steps: int, step: Any, start: Any) -> Any:
            return tensorflow.while_loop(lambda i, _: i < steps, lambda i, y: (i + 1, step(y)), [0, start])[1]

        def branch(y: Any) -> Any:
            return tensorflow.cond(y[0, 0] > 0.5, lambda: loop(2, tensorflow.cos, y), lambda: y * 0.5)

        return loop(3, lambda y: branch(loop(2, tensorflow.sin, y)), x)


def test_loops_in_loops_and_branches_compute_the_same(tmp_path: Path) -> None:
    made = Nested()
    tensorflow.saved_model.save(made, str(tmp_path / "saved"), signatures=made.__call__)
    tracer = Tracer(sources.convert(tmp_path / "saved", "", {}, tmp_path))
    for values in ([1.0, 2, 3, 4], [-1.0, 2, 3, 4]):
        window = np.array([values], np.float32)
        assert tracer(window)[0] == pytest.approx(made(window).numpy(), abs=1e-5)
