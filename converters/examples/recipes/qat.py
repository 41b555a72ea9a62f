"""Quantization-aware training: the network trains with the rounding that the device will do.

Each step computes with weights on the int8 grid, per output channel, and with activations rounded to 8 bits. The
gradient is applied to the float weights as if nothing had been rounded. This is the straight-through estimator of
Bengio and others, 2013. The saved model is a plain float model, converted like any other.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import torch
from common import Digits, keras_fit, keras_network, measure, tell, torch_fit, torch_network

WIDTHS, EPOCHS, TUNED = (6, 8, 12), 20, 8
RATE = 5e-4
STEPS = 127


class KerasRounding(keras.layers.Layer):  # type: ignore[misc]
    """Rounds activations to 8 bits over the range seen so far; gradients pass."""

    def build(self, _: Any) -> None:
        self.top = self.add_weight(shape=(), initializer="zeros", trainable=False, name="top")

    def call(self, x: Any) -> Any:
        self.top.assign(tf.maximum(self.top, tf.reduce_max(tf.abs(x))))
        step = tf.maximum(self.top, 1e-6) / STEPS
        return x + tf.stop_gradient(tf.round(x / step) * step - x)


class KerasAware(keras.Model):  # type: ignore[misc]
    """A sequential network computed with rounded weights and activations; the network keeps its own."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.roundings = [KerasRounding() for _ in network.layers]

    def call(self, x: Any) -> Any:
        for layer, rounding in zip(self.network.layers, self.roundings, strict=True):
            x = rounding(_with_rounded_kernel(layer, x))
        return x


def _with_rounded_kernel(layer: Any, x: Any) -> Any:
    if not hasattr(layer, "kernel"):
        return layer(x)
    kernel = layer.kernel
    axes = list(range(len(kernel.shape) - 1))
    step = tf.reduce_max(tf.abs(kernel), axes, keepdims=True) / STEPS + 1e-9
    rounded = kernel + tf.stop_gradient(tf.round(kernel / step) * step - kernel)
    if isinstance(layer, keras.layers.Dense):
        return layer.activation(x @ rounded + layer.bias)
    return layer.activation(tf.nn.conv2d(x, rounded, layer.strides, layer.padding.upper()) + layer.bias)


class TorchRounding(torch.nn.Module):
    """Rounds to 8 bits: a weight (``channels``) by output channel, an activation over the range so far."""

    def __init__(self, *, channels: bool) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("top", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.channels:
            step = x.detach().abs().flatten(1).amax(1).reshape(-1, *[1] * (x.ndim - 1)) / STEPS + 1e-9
        else:
            self.top = torch.maximum(self.top, x.detach().abs().max())
            step = self.top / STEPS + 1e-9
        return x + (torch.round(x / step) * step - x).detach()


def keras_recipe(digits: Digits) -> dict[str, dict[str, float]]:
    network = keras_network(WIDTHS)
    keras_fit(network, digits, EPOCHS)
    before = measure(network, digits)
    keras_fit(KerasAware(network), digits, TUNED, RATE)
    return {"Keras, before": before, "Keras, quantization-aware": measure(network, digits)}


def torch_recipe(digits: Digits) -> dict[str, dict[str, float]]:
    from torch.nn.utils import parametrize

    network = torch_network(WIDTHS)
    torch_fit(network, digits, EPOCHS)
    before = measure(network, digits)
    weighted = [layer for layer in network if hasattr(layer, "weight")]
    for layer in weighted:
        parametrize.register_parametrization(layer, "weight", TorchRounding(channels=True))
    aware = torch.nn.Sequential(*(part for layer in network for part in (layer, TorchRounding(channels=False))))
    torch_fit(aware.train(), digits, TUNED, RATE)
    for layer in weighted:
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return {"PyTorch, before": before, "PyTorch, quantization-aware": measure(network, digits)}


if __name__ == "__main__":
    data = Digits()
    tell(keras_recipe(data) | torch_recipe(data))
