"""The demo's autoencoder as a Keras file, and the telemetry that calibrates and verifies it.

Same data, split, network and seed as ``limpet_convert.shuttle``; here the general converter makes the bundle.
"""

from pathlib import Path

import numpy as np

from limpet_convert import shuttle
from limpet_convert.int8 import repeatable

BUILD = Path(__file__).parent / "build"
CALIBRATION = 2000


def main() -> None:
    repeatable()
    BUILD.mkdir(exist_ok=True)
    rows = shuttle.river_rows()
    normal, test = rows.of("training").normal().values, rows.of("test")
    mean, std = shuttle.scaling(normal)
    network = shuttle.train(shuttle.normalise(normal, mean, std, shuttle.CLIP))
    network.save(BUILD / "model.keras")
    # Anomalies too: what the device will see is not all normal.
    validation = rows.of("validation").values
    np.save(BUILD / "calibration.npy", np.concatenate([normal[:CALIBRATION], validation[:CALIBRATION]]))
    np.save(BUILD / "test.npy", test.values)
    np.save(BUILD / "targets.npy", test.anomalous.astype(np.int64))


if __name__ == "__main__":
    main()
