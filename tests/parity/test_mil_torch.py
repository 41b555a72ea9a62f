"""PyTorch's own layers through Core ML's ML program and the numpy executor, against PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import mil
from limpet_convert.converters.coreml import Config, convert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

torch: Any = pytest.importorskip("torch", reason="needs the environment of `make parity`")
nn = torch.nn
F = nn.functional

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and coremltools warn of each other's versions

IMAGE, LINE, ROW = (1, 6, 11, 9), (1, 6, 20), (1, 12)


class Calls(nn.Module):  # type: ignore[misc,name-defined]
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


class First(nn.Module):  # type: ignore[misc,name-defined]
    """A recurrent layer without its last state."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x)[0]


class Attends(nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.layer(x, x, x, need_weights=False)[0]


LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "conv": (lambda: nn.Conv2d(6, 8, (3, 2), stride=2, padding=(1, 0)), IMAGE),
    "conv dilated": (lambda: nn.Conv2d(6, 8, 3, dilation=2, padding="same"), IMAGE),
    "conv depthwise": (lambda: nn.Conv2d(6, 12, 3, groups=6), IMAGE),
    "conv 1d": (lambda: nn.Conv1d(6, 4, 5, stride=3), LINE),
    "conv 3d": (lambda: nn.Conv3d(2, 3, 2), (1, 2, 4, 5, 6)),
    "transposed": (lambda: nn.ConvTranspose2d(6, 4, 3, stride=2), IMAGE),
    "transposed padded": (lambda: nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1), IMAGE),
    "transposed groups": (lambda: nn.ConvTranspose2d(6, 4, 3, stride=3, groups=2, dilation=2), IMAGE),
    "transposed 1d": (lambda: nn.ConvTranspose1d(6, 4, 4, stride=2, padding=1), LINE),
    "max pool": (lambda: nn.MaxPool2d(3, 2, padding=1), IMAGE),
    "max pool ceil": (lambda: nn.MaxPool2d(3, 2, ceil_mode=True), IMAGE),
    "average pool": (lambda: nn.AvgPool2d(3, 2, padding=1), IMAGE),
    "average pool uncounted": (lambda: nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), IMAGE),
    "average pool ceil": (lambda: nn.AvgPool1d(3, 2, ceil_mode=True), (1, 6, 21)),
    "adaptive pool": (lambda: nn.AdaptiveAvgPool2d(1), IMAGE),
    "batch norm": (lambda: nn.Sequential(nn.BatchNorm2d(6), nn.ReLU()), IMAGE),
    "layer norm": (lambda: nn.LayerNorm((11, 9)), IMAGE),
    "group norm": (lambda: nn.GroupNorm(2, 6), IMAGE),
    "instance norm": (lambda: nn.InstanceNorm2d(6, affine=True), IMAGE),
    "local response norm": (lambda: nn.LocalResponseNorm(3, alpha=0.5), IMAGE),
    "linear": (lambda: nn.Linear(12, 5), ROW),
    "attention": (Attends, (1, 5, 6)),
    "lstm": (lambda: First(nn.LSTM(6, 4, batch_first=True)), (1, 7, 6)),
    "lstm both ways": (
        lambda: First(nn.LSTM(6, 4, num_layers=2, batch_first=True, bidirectional=True)),
        (1, 7, 6),
    ),
    "gru": (lambda: First(nn.GRU(6, 4, batch_first=True)), (1, 7, 6)),
    "rnn": (lambda: First(nn.RNN(6, 4, batch_first=True)), (1, 7, 6)),
    "embedding": (lambda: Calls(lambda x: F.embedding(x.abs().to(torch.int32), torch.eye(9)) * 2.0), ROW),
    "gelu": (nn.GELU, ROW),
    "gelu tanh": (lambda: nn.GELU("tanh"), ROW),
    "silu": (nn.SiLU, ROW),
    "elu": (nn.ELU, ROW),
    "prelu": (lambda: nn.PReLU(6), IMAGE),
    "leaky relu": (nn.LeakyReLU, ROW),
    "hard swish": (nn.Hardswish, ROW),
    "hard sigmoid": (nn.Hardsigmoid, ROW),
    "softplus": (nn.Softplus, ROW),
    "log softmax": (lambda: nn.LogSoftmax(1), ROW),
    "nearest": (lambda: nn.Upsample(scale_factor=2, mode="nearest"), IMAGE),
    "nearest to a size": (lambda: nn.Upsample(size=(22, 27), mode="nearest"), IMAGE),
    "bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), IMAGE),
    "bilinear corners": (lambda: nn.Upsample(size=(20, 17), mode="bilinear", align_corners=True), IMAGE),
    "bilinear smaller": (lambda: nn.Upsample(size=(5, 4), mode="bilinear", align_corners=False), IMAGE),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), (1, 8, 3, 4)),
    "pixel unshuffle": (lambda: nn.PixelUnshuffle(2), (1, 2, 6, 8)),
    "reflection": (lambda: nn.ReflectionPad2d((1, 2, 3, 0)), IMAGE),
    "replication": (lambda: nn.ReplicationPad2d((1, 2, 3, 0)), IMAGE),
    "constant pad": (lambda: nn.ConstantPad1d((2, 1), 3.5), LINE),
    "slices": (lambda: Calls(lambda x: torch.cat([x[:, 1:5:2], x[:, -2:] * 2], 1).flip(2)), LINE),
    "split and stack": (lambda: Calls(lambda x: torch.stack(x.split(3, 1), 3)), LINE),
    "roll": (lambda: Calls(lambda x: torch.roll(x, 3, 2)), LINE),
    "mean and variance": (
        lambda: Calls(lambda x: (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True) + 1)),
        LINE,
    ),
    "norm": (lambda: Calls(lambda x: F.normalize(x, dim=1)), LINE),
    "log sum exp": (lambda: Calls(lambda x: torch.logsumexp(x, 2)), LINE),
    "argmax": (lambda: Calls(lambda x: x.argmax(2).float()), LINE),
    "top k": (lambda: Calls(lambda x: x.topk(3, 2)[0]), LINE),
    "sort": (lambda: Calls(lambda x: x.sort(2, descending=True)[0]), LINE),
    "cumulative sum": (lambda: Calls(lambda x: x.cumsum(2)), LINE),
    "where": (lambda: Calls(lambda x: torch.where(x > 0, x, x * 3)), LINE),
    "clamp": (lambda: Calls(lambda x: x.clamp(-0.5, 0.7)), LINE),
    "remainder": (lambda: Calls(lambda x: torch.remainder(x, 0.7) + torch.floor_divide(x, 0.7)), LINE),
    "einsum": (lambda: Calls(lambda x: torch.einsum("bct,bdt->bcd", x, x)), LINE),
    "one hot": (lambda: Calls(lambda x: F.one_hot(x.abs().to(torch.int64), 6).float()), ROW),
    "gather": (lambda: Calls(lambda x: x.gather(1, torch.tensor([[3, 0, 7]]))), ROW),
    "scatter": (lambda: Calls(lambda x: x.scatter_add(1, torch.tensor([[3, 0, 3]]), x[:, :3])), ROW),
    "triangle": (lambda: Calls(lambda x: x.tril()), IMAGE),
}


EXPORTED_TOO = (
    "conv dilated",
    "transposed padded",
    "average pool ceil",
    "group norm",
    "attention",
    "bilinear",
    "roll",
)


def compare(tmp_path: Path, module: Any, given: Any, values: Any) -> None:
    with torch.no_grad():
        wanted = module(torch.from_numpy(values)).numpy()
    path = tmp_path / "layer.mlpackage"
    convert(given, path, Config(weights="float32"), [values.shape])
    (found,) = mil.Program(path).run([values])
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def made(name: str) -> tuple[Any, Any]:
    make, shape = LAYERS[name]
    torch.manual_seed(3)
    return make().eval(), np.random.default_rng(3).normal(0, 1.5, shape).astype(np.float32)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_the_same(tmp_path: Path, name: str) -> None:
    module, values = made(name)
    compare(tmp_path, module, module, values)


@pytest.mark.parametrize("name", EXPORTED_TOO)
def test_an_exported_layer_computes_the_same(tmp_path: Path, name: str) -> None:
    module, values = made(name)
    compare(tmp_path, module, torch.export.export(module, (torch.from_numpy(values),)), values)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("every", [True, False])
def test_the_op_gru_is_pytorchs_without_the_bias_inside_the_reset(
    tmp_path: Path, direction: str, *, every: bool
) -> None:
    """No converter of coremltools writes it; packages by others have it."""
    coremltools = pytest.importorskip("coremltools")
    builder = coremltools.converters.mil.Builder
    torch.manual_seed(0)
    layer = nn.GRU(6, 4)
    with torch.no_grad():
        layer.bias_hh_l0[8:] = 0
    parts = [one.detach().numpy() for one in layer.parameters()]
    # PyTorch's gates are reset, update, new; MIL's reset, output, update.
    w_ih, w_hh, b_ih, b_hh = (np.concatenate([one[:4], one[8:], one[4:8]]) for one in parts)

    @builder.program(input_specs=[builder.TensorSpec((7, 1, 6))])  # type: ignore[untyped-decorator]
    def program(x: Any) -> Any:
        return builder.gru(
            x=x,
            initial_h=np.zeros((1, 4), np.float32),
            weight_ih=w_ih,
            weight_hh=w_hh,
            bias=b_ih + b_hh,
            direction=direction,
            output_sequence=every,
        )[0]

    made = coremltools.convert(
        program, convert_to="mlprogram", compute_precision=coremltools.precision.FLOAT32, skip_model_load=True
    )
    made.save(str(tmp_path / "gru.mlpackage"))
    x = np.random.default_rng(0).normal(size=(7, 1, 6)).astype(np.float32)
    (found,) = mil.Program(tmp_path / "gru.mlpackage").run([x])
    backward = direction == "reverse"
    given = torch.from_numpy(x[::-1].copy() if backward else x)
    states = layer(given)[0].detach().numpy()
    expected = (states[::-1] if backward else states) if every else states[-1:]
    np.testing.assert_allclose(found, expected, atol=1e-5)
