"""Pruning: fewer weights, and what each kind of it is good for.

Unstructured: the smallest weights become 0 and stay so while the rest trains on. The file is as large as before
and as fast, as kernels multiply zeros too, but it compresses. Structured: whole channels with the smallest
weights are taken out (Li and others, 2017), which makes the file smaller and the model faster everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from common import Digits, keras_fit, keras_network, measure, tell, torch_fit, torch_network

WIDTHS, PRUNED = (24, 48, 64), (12, 24, 32)
EPOCHS, TUNED = 15, 8
SPARSITY = 0.8


def small(weights: np.ndarray) -> np.ndarray:
    """Return where the ``SPARSITY`` smallest weights are not, as 0 and 1."""
    return (np.abs(weights) >= np.quantile(np.abs(weights), SPARSITY)).astype(np.float32)


def strongest(weights: np.ndarray, count: int) -> np.ndarray:
    """Return which outputs (the last axis) have the largest sum of weights, in order."""
    return np.sort(np.argsort(-np.abs(weights).reshape(-1, weights.shape[-1]).sum(axis=0))[:count])


def spread(channels: np.ndarray, places: int, total: int) -> np.ndarray:
    """Return the inputs of a layer behind a flattening that keeps channels last."""
    return (np.arange(places)[:, None] * total + channels).ravel()


def cut(weights: list[np.ndarray]) -> list[np.ndarray]:
    """Return kernels and biases, in Keras's order and layout, of the network with ``PRUNED`` channels."""
    w1, b1, w2, b2, w3, b3, w4, b4 = weights
    first, second, third = (strongest(w, n) for w, n in zip((w1, w2, w3), PRUNED, strict=True))
    flat = spread(second, 16, WIDTHS[1])
    w2 = w2[:, :, first][..., second]
    return [w1[..., first], b1[first], w2, b2[second], w3[flat][:, third], b3[third], w4[third], b4]


def keras_recipe(digits: Digits) -> dict[str, dict[str, float]]:
    network = keras_network(WIDTHS)
    keras_fit(network, digits, EPOCHS)
    found, trained = {"Keras, before": measure(network, digits)}, network.get_weights()
    smaller = keras_network(PRUNED)
    smaller.set_weights(cut(trained))
    keras_fit(smaller, digits, TUNED)
    kernels = [v for v in network.trainable_variables if len(v.shape) > 1]
    masks = [small(v.numpy()) for v in kernels]

    def hold() -> None:
        for variable, mask in zip(kernels, masks, strict=True):
            variable.assign(variable * mask)

    hold()
    keras_fit(network, digits, TUNED, after=hold)
    found[f"Keras, {SPARSITY:.0%} of weights 0"] = measure(network, digits)
    return found | {"Keras, half of the channels": measure(smaller, digits)}


def torch_recipe(digits: Digits) -> dict[str, dict[str, float]]:
    network = torch_network(WIDTHS)
    torch_fit(network, digits, EPOCHS)
    found = {"PyTorch, before": measure(network, digits)}
    smaller = torch_network(PRUNED)
    _load(smaller, cut(_keras_layout(network)))
    torch_fit(smaller, digits, TUNED)
    kernels = [p for p in network.parameters() if p.ndim > 1]
    masks = [torch.from_numpy(small(p.detach().numpy())) for p in kernels]

    def hold() -> None:
        with torch.no_grad():
            for parameter, mask in zip(kernels, masks, strict=True):
                parameter.mul_(mask)

    hold()
    torch_fit(network, digits, TUNED, after=hold)
    found[f"PyTorch, {SPARSITY:.0%} of weights 0"] = measure(network, digits)
    return found | {"PyTorch, half of the channels": measure(smaller, digits)}


def _keras_layout(network: Any) -> list[np.ndarray]:
    """Return PyTorch's weights as Keras orders their axes, with channels last behind the flattening."""
    w1, b1, w2, b2, w3, b3, w4, b4 = (p.detach().numpy() for p in network.parameters())
    w3 = w3.reshape(len(w3), WIDTHS[1], 16).transpose(2, 1, 0).reshape(-1, len(w3))
    return [w1.transpose(2, 3, 1, 0), b1, w2.transpose(2, 3, 1, 0), b2, w3, b3, w4.T, b4]


def _load(network: Any, weights: list[np.ndarray]) -> None:
    w1, b1, w2, b2, w3, b3, w4, b4 = weights
    w3 = w3.reshape(16, PRUNED[1], PRUNED[2]).transpose(2, 1, 0).reshape(PRUNED[2], -1)
    ordered = [w1.transpose(3, 2, 0, 1), b1, w2.transpose(3, 2, 0, 1), b2, w3, b3, w4.T, b4]
    with torch.no_grad():
        for parameter, values in zip(network.parameters(), ordered, strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))


if __name__ == "__main__":
    data = Digits()
    tell(keras_recipe(data) | torch_recipe(data))
