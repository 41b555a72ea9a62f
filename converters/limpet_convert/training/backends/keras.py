"""Keras on TensorFlow. One thread and fixed seeds: the sums are the same each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.converters import keras as converter
from limpet_convert.errors import need
from limpet_convert.int8 import repeatable
from limpet_convert.training.fitting import BATCH

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import Array, FloatArray
    from limpet_convert.training.networks import Network

_DECAY = 1e-4


class Keras:
    """Makes networks of Keras."""

    name = "Keras"
    suffix = ".keras"

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
    """A network and its optimizer. Every batch has one size: another one would be compiled anew."""

    def __init__(self, keras: Any, network: Network, rate: float) -> None:
        self._network = network
        self._model = _body(keras, network)
        optimizer = keras.optimizers.AdamW(rate, weight_decay=_DECAY)
        loss = "sparse_categorical_crossentropy" if network.loss == "cross_entropy" else "mean_squared_error"
        self._model.compile(optimizer, loss, jit_compile=False)

    def step(self, inputs: FloatArray, targets: Array, weights: FloatArray) -> None:
        """Learn from a batch."""
        self._model.train_on_batch(inputs, targets, sample_weight=weights)

    def predict(self, inputs: FloatArray) -> FloatArray:
        """Return probabilities or numbers."""
        short = -len(inputs) % BATCH
        padded = np.concatenate([inputs, np.zeros((short, *inputs.shape[1:]), np.float32)])
        found = np.asarray(self._model.predict(padded, BATCH, verbose=0), np.float32)
        return found[: len(inputs)]

    def weights(self) -> Any:
        """Return a copy of all weights."""
        return [value.copy() for value in self._model.get_weights()]

    def restore(self, weights: Any) -> None:
        """Set all weights."""
        self._model.set_weights(weights)

    def stretch(self, scale: float, offset: float) -> None:
        """Scale the last layer."""
        last = self._model.layers[-1]
        kernel, bias = last.get_weights()
        last.set_weights([kernel * scale, bias * scale + offset])

    def save(self, path: Path) -> None:
        """Write a ``.keras`` file."""
        converter.save(self._model, path)


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
    else:
        found.append(layers.Flatten(name="elements"))
    *hidden, (_, outputs) = network.dense
    found += [layers.Dense(width, "relu", name=f"dense{number}") for number, (_, width) in enumerate(hidden)]
    last = "softmax" if network.loss == "cross_entropy" else None
    return keras.Sequential([*found, layers.Dense(outputs, last, name="head")], name="network")
