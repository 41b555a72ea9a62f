"""A small convolutional network (Keras) on the 1797 digits of 8 x 8 pixels that scikit-learn carries (UCI)."""

from pathlib import Path

import numpy as np

from limpet_convert.converters import keras
from limpet_convert.int8 import repeatable

BUILD = Path(__file__).parent / "build"
TRAINED, EPOCHS = 1200, 15


def main() -> None:
    repeatable()
    import tensorflow as tf
    from sklearn.datasets import load_digits

    BUILD.mkdir(exist_ok=True)
    digits = load_digits()
    images, targets = digits.images.astype(np.uint8)[..., None], digits.target
    order = np.random.default_rng(3).permutation(len(images))
    train, test = order[:TRAINED], order[TRAINED:]
    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            tf.keras.Input((8, 8, 1)),
            layers.Conv2D(24, 3, padding="same", activation="relu", name="strokes"),
            layers.Conv2D(48, 3, strides=2, padding="same", activation="relu", name="parts"),
            layers.Conv2D(64, 3, padding="same", activation="relu", name="shapes"),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="mix"),
            layers.Dense(10, activation="softmax", name="head"),
        ]
    )
    network.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    network.fit((images[train] / 16).astype(np.float32), targets[train], 32, EPOCHS, verbose=0)
    keras.save(network, BUILD / "model.keras")
    np.save(BUILD / "calibration.npy", images[train[:300]])
    np.save(BUILD / "test.npy", images[test])
    np.save(BUILD / "targets.npy", targets[test])


if __name__ == "__main__":
    main()
