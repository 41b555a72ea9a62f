"""Golden values: what a library makes of stored samples, and how far Limpet's transform is from it.

``tests/data/golden/NAME.json`` lists the cases, ``NAME.npz`` has the samples and what the library made of them.
The scripts in ``tests/transforms/golden`` write both. The table in ``docs/reference/transforms.md`` is made of the
lists.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limpet import plugins
from limpet.contracts.data import SampleSpec
from support.stages import transformed, window_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet.contracts.data import Array

FOLDER = Path(__file__).parent.parent / "data" / "golden"


class Golden(msgspec.Struct, kw_only=True):
    """One case: a transform with its ``options``, and the function of a library whose numbers it gives.

    ``input`` names the samples; the first ``samples`` of them are one window at ``rate``. ``difference``: the
    largest one that is allowed, in the unit of the result, whose largest absolute value is ``largest``.
    """

    name: str
    transform: str
    options: dict[str, Any]
    function: str
    library: str
    version: str
    input: str
    samples: int
    rate: float
    difference: float = 0.0
    largest: float = 0.0


def cases(name: str) -> list[Golden]:
    """Return the cases of a list."""
    return msgspec.json.decode((FOLDER / f"{name}.json").read_bytes(), type=list[Golden])


def arrays(name: str) -> dict[str, Array]:
    """Return the samples and the library's results by their names."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as found:
        return dict(found)


def made(case: Golden, known: Mapping[str, Array]) -> Array:
    """Return what the transform makes of a case's samples."""
    module = plugins.load("transforms", case.transform)
    values = known[case.input][: case.samples]
    spec = SampleSpec(values.shape[1:], values.dtype, rate=case.rate)
    stage = module.open(msgspec.convert(case.options, module.Config), window_spec(spec, values.shape))
    return np.array(transformed(stage, values))


def difference(case: Golden, known: Mapping[str, Array]) -> float:
    """Return the largest difference between the transform and the library."""
    found, wanted = made(case, known), known[case.name]
    assert found.shape == wanted.shape, f"{case.name}: {found.shape}, {case.library} has {wanted.shape}"
    return float(np.abs(found.astype(np.float64) - wanted).max())


def bound(measured: float, largest: float) -> float:
    """Return twice a measured difference, or the last digit of float32, rounded up to one digit."""
    least = max(2 * measured, largest * 2.0**-22)
    step = 10.0 ** math.floor(math.log10(least))
    return float(f"{math.ceil(least / step) * step:.0e}")
