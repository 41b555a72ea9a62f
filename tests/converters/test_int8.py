from __future__ import annotations

import numpy as np

from limpet_convert import int8


def test_a_tensor_left_in_float_is_found() -> None:
    tensors = [{"name": n, "dtype": t} for n, t in (("w", np.int8), ("b", np.int32), ("left", np.float32))]
    assert int8.not_int8(tensors) == ["left"]
