"""Writes MobileNetV2 in int8, 224 x 224 x 3, with random weights: ``python bench/api_model.py FILE``.

It runs in the converters' environment, which has TensorFlow. Weights do not change the time that is measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

SEED = 1


def main() -> None:
    """Write the file."""
    keras.utils.set_random_seed(SEED)
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.applications.MobileNetV2(weights=None))
    rng = np.random.default_rng(SEED)
    pictures = rng.uniform(-1, 1, (8, 1, 224, 224, 3)).astype(np.float32)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([picture] for picture in pictures)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    Path(sys.argv[1]).write_bytes(converter.convert())


if __name__ == "__main__":
    main()
