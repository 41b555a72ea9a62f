"""The demo's autoencoder as a Keras file, the telemetry that calibrates and verifies it, and what the demo plays.

Prints the threshold that the project file states: that of the best F1 on the validation part.
"""

from pathlib import Path

import numpy as np

from limpet_convert import shuttle
from limpet_convert.converters import keras
from limpet_convert.int8 import repeatable

BUILD = Path(__file__).parent / "build"
CALIBRATION = 2000


def main() -> None:
    repeatable()
    BUILD.mkdir(exist_ok=True)
    rows = shuttle.river_rows()
    normal, validation, test = rows.of("training").normal().values, rows.of("validation"), rows.of("test")
    mean, std = shuttle.scaling(normal)
    network = shuttle.train(shuttle.normalise(normal, mean, std, shuttle.CLIP))
    keras.save(network, BUILD / "model.keras")
    inputs = shuttle.normalise(validation.values, mean, std, shuttle.CLIP)
    scores = shuttle.scores(inputs, network.predict_on_batch(inputs))
    print(f"mean = {mean}\nstd = {std}\nthreshold = {shuttle.threshold(scores, validation.anomalous)}")
    # Anomalies too: what the device will see is not all normal.
    np.save(BUILD / "calibration.npy", np.concatenate([normal[:CALIBRATION], validation.values[:CALIBRATION]]))
    np.save(BUILD / "test.npy", test.values)
    np.save(BUILD / "targets.npy", test.anomalous.astype(np.int64))
    (BUILD / shuttle.EXCERPT).write_bytes(shuttle.excerpt(test))


if __name__ == "__main__":
    main()
