"""Golden values of pictures: what a library makes of a few stored ones, and how far a transform is from it.

``tests/data/golden/pictures.json`` has the cases, a row each in the table of ``docs/reference/transforms.md``.
``pictures.npz`` has the pictures, and what the libraries made of them, as ``NAME/NUMBER``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limpet import plugins
from limpet.contracts.data import SampleSpec
from support.golden import FOLDER
from support.stages import transformed, window_spec

if TYPE_CHECKING:
    from limpet.contracts.data import Array


class Case(msgspec.Struct, kw_only=True):
    """A transform with its ``options``, and the function of a library whose numbers it gives.

    ``inputs``: the names of stored pictures, each with the width and the height of its result, ``null`` where the
    options say it. ``difference``: the largest one that was seen, on these and on many more; ``share`` of the
    numbers differ at all.
    """

    name: str
    transform: str
    options: dict[str, Any]
    function: str
    library: str
    version: str
    difference: float = 0.0
    share: float = 0.0
    largest: float = 255.0
    inputs: list[tuple[str, tuple[int, int] | None]] = []


def cases() -> list[Case]:
    """Return the cases."""
    return msgspec.json.decode((FOLDER / "pictures.json").read_bytes(), type=list[Case])


def arrays() -> dict[str, Array]:
    """Return the pictures and the libraries' results by their names."""
    with np.load(FOLDER / "pictures.npz", allow_pickle=False) as found:
        return dict(found)


def made(case: Case, picture: Array, size: tuple[int, int] | None) -> Array:
    """Return what the transform makes of one picture."""
    module = plugins.load("transforms", case.transform)
    options = case.options | ({} if size is None else {"width": size[0], "height": size[1]})
    spec = SampleSpec(picture.shape, picture.dtype)
    stage = module.open(msgspec.convert(options, module.Config), window_spec(spec, (1, *picture.shape)))
    return np.array(transformed(stage, picture[np.newaxis])[0])
