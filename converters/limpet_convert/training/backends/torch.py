"""PyTorch. One thread: the sums are the same each time, and networks this small gain nothing from more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet_convert.libraries import called, need
from limpet_convert.training.networks import DEPTHWISE, FIRST

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import Array, FloatArray
    from limpet_convert.training.networks import Network

_DECAY = 1e-4
_MANY = 1024


class Torch:
    """Makes networks of PyTorch. Their windows have channels last, as on the device."""

    name = "PyTorch"
    suffix = ".pt2"
    setup = 0.01

    def __init__(self) -> None:
        self._torch = need("torch", "convert-torch")
        self._torch.set_num_threads(1)
        self._torch.use_deterministic_algorithms(mode=True)
        self.options: dict[str, Any] = {"layout": "as_is"}

    def make(self, network: Network, rate: float, seed: int) -> TorchModel:
        """Make a network with random weights."""
        self._torch.manual_seed(seed)
        return TorchModel(self._torch, network, rate)


class TorchModel:
    """A network, its optimizer and its loss."""

    def __init__(self, torch: Any, network: Network, rate: float) -> None:
        self._torch = torch
        self._network = network
        self._body = _body(torch.nn, network)
        self._optimizer = torch.optim.AdamW(self._body.parameters(), lr=rate, weight_decay=_DECAY)

    def step(self, inputs: FloatArray, targets: Array, weights: FloatArray) -> None:
        """Learn from a batch."""
        torch = self._torch
        self._body.train()
        outputs = self._body(torch.from_numpy(inputs))
        wanted = torch.from_numpy(targets)
        if self._network.loss == "cross_entropy":
            each = torch.nn.functional.cross_entropy(outputs, wanted, reduction="none")
        else:
            each = (outputs - wanted).square().mean(dim=1)
        loss = (each * torch.from_numpy(weights)).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def predict(self, inputs: FloatArray) -> FloatArray:
        """Return probabilities or numbers."""
        torch = self._torch
        self._body.eval()
        with torch.no_grad():
            parts = [self._body(torch.from_numpy(inputs[n : n + _MANY])) for n in range(0, len(inputs), _MANY)]
            outputs = torch.cat(parts)
            if self._network.loss == "cross_entropy":
                outputs = torch.softmax(outputs, dim=-1)
        found: FloatArray = outputs.numpy()
        return found

    def weights(self) -> Any:
        """Return a copy of all weights."""
        return {name: value.clone() for name, value in self._body.state_dict().items()}

    def restore(self, weights: Any) -> None:
        """Set all weights."""
        self._body.load_state_dict(weights)

    def last(self) -> tuple[FloatArray, FloatArray]:
        """Return kernel and bias of the last layer."""
        layer = self._body[-1]
        return layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy()

    def set_last(self, kernel: FloatArray, bias: FloatArray) -> None:
        """Set kernel and bias of the last layer."""
        torch, layer = self._torch, self._body[-1]
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(kernel.T.copy()))
            layer.bias.copy_(torch.from_numpy(bias))

    def save(self, path: Path) -> None:
        """Write an exported program."""
        torch, network = self._torch, self._network
        whole = [self._body, torch.nn.Softmax(dim=-1)] if network.loss == "cross_entropy" else [self._body]
        module = torch.nn.Sequential(*whole).eval()
        with called("PyTorch", f"{path}: exporting the network"):
            torch.export.save(torch.export.export(module, (torch.zeros(1, *network.shape),)), path)


def _body(nn: Any, network: Network) -> Any:
    """Return the layers as a sequence whose last one is dense."""
    layers: list[Any] = []
    if network.kind == "cnn":
        layers.append(_moved(nn))
        for number, (a, b, size) in enumerate(network.convolutions):
            layers += [nn.Conv1d(a, b, size, padding=size // 2), nn.ReLU()]
            if number < len(network.convolutions) - 1:
                layers.append(nn.MaxPool1d(2))
        layers += [nn.AdaptiveAvgPool1d(1), nn.Flatten()]
    elif network.kind == "dscnn":
        layers += _separable(nn, network)
    else:
        layers.append(nn.Flatten())
    for number, (a, b) in enumerate(network.dense):
        layers += [nn.ReLU()] if number else []
        layers.append(nn.Linear(a, b))
    return nn.Sequential(*layers)


def _separable(nn: Any, network: Network) -> list[Any]:
    layers = [
        nn.Unflatten(1, (1, network.shape[0])),
        nn.Conv2d(1, network.width, FIRST, stride=2, padding=FIRST // 2),
        nn.ReLU(),
    ]
    for one in network.blocks:
        layers += [
            nn.Conv2d(
                one.inputs, one.inputs, DEPTHWISE, stride=one.stride, padding=DEPTHWISE // 2, groups=one.inputs
            ),
            nn.ReLU(),
            nn.Conv2d(one.inputs, one.outputs, 1),
            nn.ReLU(),
        ]
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def _moved(nn: Any) -> Any:
    class ChannelsFirst(nn.Module):  # type: ignore[misc]
        def forward(self, windows: Any) -> Any:
            return windows.movedim(-1, 1)

    return ChannelsFirst()
