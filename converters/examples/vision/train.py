"""MobileNetV2 (Keras, width 1.0, 2.2 million weights) on digits scaled up to 48 x 48 pixels in colour.

The network is of the size that is used on devices; the images are scikit-learn's, as no package has photos that
may be trained on. They are tinted at random, so that the three channels are not the same.
"""

from pathlib import Path

import numpy as np

from limpet_convert.converters import keras
from limpet_convert.int8 import repeatable

BUILD = Path(__file__).parent / "build"
TRAINED, EPOCHS, ZOOM = 1400, 6, 6


def pictures(images: np.ndarray) -> np.ndarray:
    """Return uint8 (n, 48, 48, 3) for float (n, 8, 8) in 0..16."""
    tint = np.random.default_rng(5).uniform(0.5, 1.0, (len(images), 1, 1, 3))
    large = np.kron(images, np.ones((1, ZOOM, ZOOM)))[..., None] * 255 / 16
    return (large * tint).round().astype(np.uint8)


def main() -> None:
    repeatable()
    import tensorflow as tf
    from sklearn.datasets import load_digits

    BUILD.mkdir(exist_ok=True)
    digits = load_digits()
    images, targets = pictures(digits.images), digits.target
    order = np.random.default_rng(3).permutation(len(images))
    train, test = order[:TRAINED], order[TRAINED:]
    tf.keras.utils.set_random_seed(3)
    network = tf.keras.applications.MobileNetV2(
        input_shape=(48, 48, 3), alpha=1.0, weights=None, classes=10, include_top=True
    )
    for layer in network.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.9  # a hundred steps are too few for 0.999
    network.compile(tf.keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", jit_compile=False)
    scaled = ((images - 127.5) / 127.5).astype(np.float32)
    network.fit(scaled[train], targets[train], 32, EPOCHS, verbose=0)
    keras.save(network, BUILD / "model.keras")
    np.save(BUILD / "calibration.npy", images[train[:200]])
    np.save(BUILD / "test.npy", images[test])
    np.save(BUILD / "targets.npy", targets[test])


if __name__ == "__main__":
    main()
