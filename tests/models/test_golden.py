from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.errors import DeployError
from limpet.models.bundle import load
from limpet.models.golden import check_golden
from limpet.runtimes import tflite
from support import bundles, models

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = np.arange(12, dtype=np.float32).reshape(3, 1, 4) / 4


@contextmanager
def opened(tmp_path: Path, model: Path, vectors: bytes | None) -> Iterator[tuple[Any, Any]]:
    members = {"model.tflite": model.read_bytes()} | ({"golden.npz": vectors} if vectors is not None else {})
    path = bundles.bundle(tmp_path / "m-1.limpet", members, golden="golden.npz" if vectors is not None else "")
    bundle = load(path, tmp_path / "cache")
    with tflite.open(bundle.model, tflite.Config()) as loaded:
        yield bundle, loaded


def test_the_same_outputs(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 4, 4)
    with opened(tmp_path, model, bundles.golden([ROWS], [ROWS])) as (bundle, loaded):
        assert check_golden(bundle, loaded) == 0


def test_the_worst_difference_counts(tmp_path: Path) -> None:
    model = models.two(tmp_path / "m.tflite")
    sums, products = ROWS + ROWS, ROWS * ROWS
    sums[1, 0, 2] += 0.25
    products[2, 0, 0] -= 0.5
    with opened(tmp_path, model, bundles.golden([ROWS, ROWS], [sums, products])) as (bundle, loaded):
        assert check_golden(bundle, loaded) == pytest.approx(0.5)


def test_nan_is_no_golden_output(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 4, 4, int8=False)
    inputs = ROWS.copy()
    inputs[1, 0, 1] = np.nan
    with opened(tmp_path, model, bundles.golden([inputs], [ROWS])) as (bundle, loaded):
        assert check_golden(bundle, loaded) == np.inf


def test_a_stateful_model_sees_them_in_order_from_its_start(tmp_path: Path) -> None:
    model = models.accumulator(tmp_path / "m.tflite")
    with opened(tmp_path, model, bundles.golden([ROWS], [ROWS.cumsum(axis=0)])) as (bundle, loaded):
        loaded.run([ROWS[0]])
        assert check_golden(bundle, loaded) == 0
        np.testing.assert_array_equal(loaded.run([ROWS[0]])[0], ROWS[0])


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (None, "no golden vectors"),
        (b"no archive", "cannot be used"),
        (
            re.sub(rb"(?s)(PK\x01\x02..).", rb"\1v", bundles.golden([ROWS], [ROWS])),
            "cannot be used: .*version",
        ),
        (bundles.golden([], [ROWS]), "cannot be used: .*input_0"),
        (bundles.golden([ROWS], [ROWS[:2]]), "not as many"),
        (bundles.golden([ROWS[:0]], [ROWS[:0]]), "none"),
        (bundles.golden([ROWS], [ROWS[..., :3]]), r"shape \[1, 3\], the model's \[1, 4\]"),
    ],
)
def test_vectors_that_cannot_be_used(tmp_path: Path, vectors: bytes | None, reason: str) -> None:
    model = models.dense(tmp_path / "m.tflite", 4, 4)
    with (
        opened(tmp_path, model, vectors) as (bundle, loaded),
        pytest.raises(DeployError, match=reason),
    ):
        check_golden(bundle, loaded)
