"""Runtimes that declare ``stored`` take and give tensors as they store them, and mix them with real values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.contracts.runtime import Abilities
from limpet.errors import ModelError
from limpet.plugins import abilities
from limpet.runtimes import tflite
from support import models

if TYPE_CHECKING:
    from pathlib import Path


def test_stored_and_real_values_give_the_same(tmp_path: Path) -> None:
    assert abilities(tflite, Abilities).stored
    path = models.dense(tmp_path / "dense.tflite", inputs=3, outputs=3)
    stored = np.int8([[-128, 3, 127]])
    real = (stored.astype(np.float32) - models.ZERO_POINT) * np.float32(models.SCALE)
    with tflite.open(path, tflite.Config()) as model:
        for given in (stored, real, stored):
            assert model.run_stored([given], real=False)[0].tolist() == stored.tolist()
            assert model.run_stored([given], real=True)[0].tolist() == real.tolist()
        assert model.run([real])[0].tolist() == real.tolist()
        for wrong in (np.int8([[1, 2]]), np.float32([[1, 2, 3, 4]])):
            with pytest.raises(ModelError, match="shape"):
                model.run_stored([wrong], real=False)
        with pytest.raises(ModelError, match="takes 1 inputs, but got 2"):
            model.run_stored([stored, stored], real=False)
    with pytest.raises(ModelError, match="closed"):
        model.run_stored([stored], real=False)


def test_an_output_whose_size_depends_on_the_data_is_given_as_it_is(tmp_path: Path) -> None:
    path = models.nonzero(tmp_path / "nonzero.tflite")
    with tflite.open(path, tflite.Config()) as model:
        values = np.zeros(model.inputs[0].shape, np.float32)
        expected = model.run([values])[0].tolist()
        assert model.run_stored([values], real=False)[0].tolist() == expected
