"""Build the benchmarks' keyword-size model: the DS-CNN of MLPerf Tiny's keyword spotting, int8.

    python -m limpet_convert.dscnn --out FOLDER

The network is that of Zhang and others, "Hello Edge: Keyword Spotting on Microcontrollers" (2017). It has the size
of MLPerf Tiny: 49 frames of 10 coefficients to 12 words. The weights are random from a fixed seed, so the model
knows no words. It is only for timing, and its time does not depend on the weights.
"""

from __future__ import annotations

import argparse
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.contracts.fields import WindowSpec
from limpet.models.manifest import Manifest, Tolerance
from limpet_convert import package
from limpet_convert.int8 import Int8, describe, quantize, repeatable

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray

SEED = 20
FRAMES, COEFFICIENTS = 49, 10
FILTERS, BLOCKS = 64, 4
LABELS = ["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown"]
CALIBRATION, GOLDEN = 100, 4
GOLDEN_STEPS = 8  # of the output's scale: kernels of other runtimes and delegates differ by 3 here


def build(inputs: FloatArray) -> Any:
    """Return the Keras network: weights from the seed, activations normalised over ``inputs`` (n, 49, 10, 1)."""
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(SEED)
    x = start = tf.keras.Input(inputs.shape[1:])
    x = layers.Conv2D(FILTERS, (10, 4), strides=2, padding="same", use_bias=False)(x)
    for _ in range(BLOCKS):
        x = layers.ReLU()(layers.BatchNormalization(momentum=0)(x))
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0)(x))
        x = layers.Conv2D(FILTERS, 1, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0)(x))
    x = layers.Flatten()(layers.AveragePooling2D((25, 5))(x))
    wide = tf.keras.initializers.VarianceScaling(20.0)
    network = tf.keras.Model(start, layers.Dense(len(LABELS), "softmax", kernel_initializer=wide)(x))
    network(inputs, training=True)
    return network


def make(folder: Path) -> Manifest:
    """Build, quantize and write ``keyword-1.limpet`` into ``folder``."""
    noise = np.random.default_rng(SEED)
    steady = noise.standard_normal((CALIBRATION, 1, COEFFICIENTS, 1), np.float32)
    inputs = 2 * steady + noise.standard_normal((CALIBRATION, FRAMES, COEFFICIENTS, 1), np.float32)
    model = quantize(build(inputs), inputs, batch=1)
    int8 = Int8(model)
    golden = inputs[:GOLDEN, None]
    output = describe(int8.output, "word")
    return package.write(
        folder,
        Manifest(
            name="keyword",
            version=1,
            task="classify",
            description="DS-CNN of keyword size with random weights, to be timed; knows no words",
            licence="Apache-2.0",
            tolerance=Tolerance(round(GOLDEN_STEPS * output.scale[0], 6)),
            inputs=[describe(int8.input, "coefficients")],
            outputs=[output],
            rate=50.0,
            window=WindowSpec(size=FRAMES, hop=1),
            decoder={"kind": "classify"},
            provenance={
                "command": "python -m limpet_convert.dscnn --out FOLDER",
                "seed": SEED,
                "tools": {name: metadata.version(name) for name in ("tensorflow-cpu", "keras", "numpy")},
            },
        ),
        model,
        labels=LABELS,
        inputs=[golden],
        outputs=[np.stack([int8(one) for one in golden])],
    )


def main() -> None:
    """Make the model."""
    parser = argparse.ArgumentParser(prog="python -m limpet_convert.dscnn", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the bundle goes")
    repeatable()
    make(parser.parse_args().out)


if __name__ == "__main__":
    main()
