"""Windows are run as the agent runs them: those of a recurrent model do not influence each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from limpet_convert import runners
from support import models

DATA = Path(__file__).parents[1] / "data" / "models"


def test_windows_of_a_fused_lstm_stand_alone() -> None:
    windows = np.repeat(np.array([1, -0.5, 1, -0.5], np.float32), 4).reshape(4, 4, 1)
    (hidden,) = runners.run_all(runners.TFLite(DATA / "lstm_cell.tflite"), windows)
    np.testing.assert_allclose(hidden[:, -1, 0], [0.995, -0.952, 0.995, -0.952], atol=1e-3)


def test_a_streaming_model_keeps_its_state(tmp_path: Path) -> None:
    model = runners.TFLite(models.accumulator(tmp_path / "sum.tflite", 1))
    (sums,) = runners.run_all(model, np.ones((3, 1), np.float32))
    np.testing.assert_array_equal(sums[:, 0], [1, 2, 3])
