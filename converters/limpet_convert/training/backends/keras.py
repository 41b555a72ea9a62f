"""Keras on TensorFlow. One thread and fixed seeds: the sums are the same each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.converters import keras as converter
from limpet_convert.int8 import repeatable
from limpet_convert.libraries import need
from limpet_convert.training.networks import DEPTHWISE, FIRST

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import Array, FloatArray
    from limpet_convert.training.networks import Network

_DECAY = 1e-4
_MANY = 256


class Keras:
    """Makes networks of Keras."""

    name = "Keras"
    suffix = ".keras"
    setup = 0.8

    def __init__(self) -> None:
        need("tensorflow", "convert-tensorflow")
        repeatable()
        self._keras = need("keras", "convert-tensorflow")
        self.options: dict[str, Any] = {}

    def make(self, network: Network, rate: float, seed: int) -> KerasModel:
        """Make a network with random weights."""
        self._keras.backend.clear_session()
        self._keras.utils.set_random_seed(seed)
        return KerasModel(self._keras, network, rate)


class KerasModel:
    """A network and its optimizer. Every batch has one size: for another one, Keras would compile again."""

    def __init__(self, keras: Any, network: Network, rate: float) -> None:
        self._network = network
        self._model = _body(keras, network)
        self._step = _step(self._model, keras.optimizers.AdamW(rate, weight_decay=_DECAY), network)
        self._answer = need("tensorflow").function(self._model, reduce_retracing=True)

    def step(self, inputs: FloatArray, targets: Array, weights: FloatArray) -> None:
        """Learn from a batch."""
        self._step(inputs, targets, weights)

    def predict(self, inputs: FloatArray) -> FloatArray:
        """Return probabilities or numbers."""
        parts = []
        for start in range(0, len(inputs), _MANY):
            some = inputs[start : start + _MANY]
            padded = np.concatenate([some, np.zeros((_MANY - len(some), *some.shape[1:]), np.float32)])
            parts.append(np.asarray(self._answer(padded, training=False), np.float32)[: len(some)])
        return np.concatenate(parts)

    def weights(self) -> Any:
        """Return a copy of all weights."""
        return [value.copy() for value in self._model.get_weights()]

    def restore(self, weights: Any) -> None:
        """Set all weights."""
        self._model.set_weights(weights)

    def last(self) -> tuple[FloatArray, FloatArray]:
        """Return kernel and bias of the last layer."""
        kernel, bias = self._model.layers[-1].get_weights()
        return kernel, bias

    def set_last(self, kernel: FloatArray, bias: FloatArray) -> None:
        """Set kernel and bias of the last layer."""
        self._model.layers[-1].set_weights([kernel, bias])

    def save(self, path: Path) -> None:
        """Write a ``.keras`` file."""
        converter.save(self._model, path)


def _step(model: Any, optimizer: Any, network: Network) -> Any:
    """Return a compiled step of training: Keras' own spends most of its time on what is not learning here."""
    tf, keras = need("tensorflow"), need("keras")

    def learn(inputs: Any, targets: Any, weights: Any) -> None:
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            if network.loss == "cross_entropy":
                each = keras.losses.sparse_categorical_crossentropy(targets, outputs)
            else:
                each = tf.reduce_mean(tf.square(outputs - targets), axis=1)
            loss = tf.reduce_mean(each * weights)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    optimizer.build(model.trainable_variables)
    return tf.function(learn, reduce_retracing=True)


def _separable(layers: Any, network: Network) -> list[Any]:
    like: dict[str, Any] = {"padding": "same", "activation": "relu"}
    found = [
        layers.Reshape((*network.shape, 1), name="picture"),
        layers.Conv2D(network.width, FIRST, 2, **like, name="convolution"),
    ]
    for number, one in enumerate(network.blocks):
        found += [
            layers.DepthwiseConv2D(DEPTHWISE, one.stride, **like, name=f"depthwise{number}"),
            layers.Conv2D(one.outputs, 1, **like, name=f"pointwise{number}"),
        ]
    return [*found, layers.GlobalAveragePooling2D(name="mean")]


def _body(keras: Any, network: Network) -> Any:
    layers = keras.layers
    found = [keras.Input(network.shape, name="window")]
    if network.kind == "cnn":
        for number, (_, width, size) in enumerate(network.convolutions):
            found.append(
                layers.Conv1D(width, size, padding="same", activation="relu", name=f"convolution{number}")
            )
            if number < len(network.convolutions) - 1:
                found.append(layers.MaxPooling1D(2, name=f"pooling{number}"))
        found.append(layers.GlobalAveragePooling1D(name="mean"))
    elif network.kind == "dscnn":
        found += _separable(layers, network)
    else:
        found.append(layers.Flatten(name="elements"))
    *hidden, (_, outputs) = network.dense
    found += [layers.Dense(width, "relu", name=f"dense{number}") for number, (_, width) in enumerate(hidden)]
    last = "softmax" if network.loss == "cross_entropy" else None
    return keras.Sequential([*found, layers.Dense(outputs, last, name="head")], name="network")
