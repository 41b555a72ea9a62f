"""The model's outputs as they are, for those who decode them elsewhere."""

from __future__ import annotations

from math import isfinite, prod
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from limpet.contracts.decoder import Abilities
from limpet.contracts.outputs import Tensors, TensorValues
from limpet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, TensorSpec, Window
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(output=Tensors, reads_inputs=False)

MOST = 12_000
"""Numbers in a result: as msgpack they fit into one."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which outputs are reported, and how many numbers at most."""

    outputs: list[str] = []
    """Names of the outputs, in the order of the report. Default: all. Example: `["StatefulPartitionedCall:0"]`."""
    most: Annotated[int, Meta(ge=1, le=MOST)] = 1024
    """Numbers that a result may have. A model with more is refused."""


def open(config: Config, spec: Spec) -> TensorDecoder:
    """Prepare to report. ``ValueError`` if an output is missing, has no numbers, or has too many."""
    known = {tensor.name: place for place, tensor in enumerate(spec.outputs)}
    if missing := [name for name in config.outputs if name not in known]:
        raise ValueError(f"tensor: the model has no output {missing[0]!r}; it has {', '.join(map(repr, known))}")
    places = [known[name] for name in config.outputs] or list(known.values())
    tensors = [spec.outputs[place] for place in places]
    for tensor in tensors:
        if tensor.dtype.kind not in "fiub":
            raise ValueError(f"tensor takes numbers, and output {tensor.name!r} has {tensor.dtype}")
    if not places:
        raise ValueError("tensor takes the model's outputs, and it has none")
    least = sum(prod(max(size, 1) for size in tensor.shape) for tensor in tensors)
    if least > config.most:
        raise ValueError(
            f"the outputs have {least} numbers, and `most` is {config.most}; choose `outputs`, or raise `most` ("
            f"limit: {MOST})"
        )
    return TensorDecoder(config.most, places, tensors, spec)


class TensorDecoder:
    """Reports numbers and remembers nothing."""

    def __init__(self, most: int, places: Sequence[int], tensors: Sequence[TensorSpec], spec: Spec) -> None:
        self.spec = spec
        self._most = most
        self._chosen = list(zip(places, tensors, strict=True))

    def __call__(self, window: Window) -> Window:
        """Return the window with its outputs. ``ModelError`` if an open dimension made them too large."""
        arrays = [window.outputs[place] for place, _ in self._chosen]
        if (size := sum(values.size for values in arrays)) > self._most:
            raise ModelError(f"decoder tensor: the outputs have {size} numbers, and `most` is {self._most}")
        window.result = Tensors(
            [
                TensorValues(tensor.name, list(values.shape), str(values.dtype), _numbers(values))
                for values, (_, tensor) in zip(arrays, self._chosen, strict=True)
            ]
        )
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""


def _numbers(values: Array) -> list[Any]:
    plain: list[Any] = values.ravel().tolist()
    return [value if isfinite(value) else None for value in plain] if values.dtype.kind == "f" else plain
