"""Transposed convolutions of PyTorch with any padding: TFLite computes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import sources
from limpet_convert.graph import Tracer

if TYPE_CHECKING:
    from pathlib import Path

torch: Any = pytest.importorskip("torch", reason="needs the environment of `make parity`")
pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks warn of each other's versions


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}, (1, 4, 6, 5)),
        ({"kernel_size": (1, 5), "stride": (1, 2), "padding": (0, 2)}, (1, 4, 3, 11)),
        ({"kernel_size": 3, "stride": 3, "output_padding": (2, 0), "groups": 2}, (1, 4, 4, 5)),
        ({"kernel_size": 4, "stride": 2, "padding": 1}, (1, 4, 6, 5)),
    ],
)
def test_any_padding_gives_the_same_numbers(
    tmp_path: Path, settings: dict[str, Any], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 6, **settings)).eval()
    inputs = torch.randn(shape)
    torch.export.save(torch.export.export(module, (inputs,)), tmp_path / "up.pt2")
    tracer = Tracer(sources.convert(tmp_path / "up.pt2", "", {}, tmp_path))
    with torch.no_grad():
        exact = module(inputs).numpy()
    found = tracer(np.moveaxis(inputs.numpy(), 1, -1))[0]
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)
