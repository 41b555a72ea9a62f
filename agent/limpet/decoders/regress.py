"""A model's outputs as named quantities in units that people know."""

from __future__ import annotations

import math
import sys
from collections import Counter
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from limpet.contracts.decoder import Abilities
from limpet.contracts.outputs import Regression

if TYPE_CHECKING:
    from limpet.contracts.data import TensorSpec, Window
    from limpet.contracts.stage import Spec

_LARGEST = sys.float_info.max

ABILITIES = Abilities(output=Regression, reads_inputs=False)

MOST = 4096
"""Numbers that a result may name. A picture, as segmentation gives it, is no result."""

T = TypeVar("T")


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the numbers of all outputs, in order, are called and mean: ``value * scale + offset`` in ``unit``.

    Default of ``names``: the model's labels, else its outputs' names. ``unit``, ``scale``, ``offset`` and
    ``range``, the ``[low, high]`` that can be believed, are one for all or a list with one for each.
    """

    names: list[str] = []
    """Names of the numbers, in order. Default: the model's labels, else its outputs' names. Example:
    `["temperature"]`."""
    unit: str | list[str] = ""
    """Unit of the values: one for all, or a list. Example: `"°C"`."""
    scale: float | list[float] = 1.0
    """One for all, or a list: value = output * `scale` + `offset`. Example: `100.0`."""
    offset: float | list[float] = 0.0
    """One for all, or a list, in the unit of the values. Example: `-40.0`."""
    range: list[float | list[float]] = []
    """`[low, high]` of plausible values, or a list of such pairs. Values outside are named in `out_of_range`.
    Default: all values. Example: `[-40, 125]`."""

    def __post_init__(self) -> None:
        for pair in _pairs(self.range):
            if len(pair) != 2 or not pair[0] < pair[1]:
                raise ValueError(
                    f"range must be [low, high] with low below high, or a list of such, not {self.range}"
                )


def open(config: Config, spec: Spec) -> Regress:
    """Prepare to name the numbers of all outputs, whose first dimension may be open.

    ``ValueError`` where there are not as many names, units ... as numbers, or two of one name.
    """
    outputs = spec.outputs
    count = sum(_size(tensor) for tensor in outputs)
    if not count:
        raise ValueError("regress needs a model with an output")
    if count > MOST:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in outputs)
        raise ValueError(
            f"regress names at most {MOST} numbers, and the model's outputs {shapes} have {count}. "
            "Choose a decoder that reads them, such as detect. tensor gives them as they are"
        )
    names = list(config.names or spec.labels) or [name for tensor in outputs for name in _names(tensor)]
    if len(names) != count:
        raise ValueError(f"there are {len(names)} names for the {count} numbers that the model gives")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"the name {twice[0]!r} appears twice; set names")
    return Regress(config, names, spec)


class _Quantity(NamedTuple):
    name: str
    scale: float
    offset: float
    low: float
    high: float


class Regress:
    """Scales and names what the model gives, float32 of any shape."""

    def __init__(self, config: Config, names: list[str], spec: Spec) -> None:
        self.spec = replace(spec, labels=tuple(names))
        count = len(names)
        units = _each("unit", config.unit if isinstance(config.unit, list) else [config.unit], count)
        scales = _each("scale", config.scale if isinstance(config.scale, list) else [config.scale], count)
        offsets = _each("offset", config.offset if isinstance(config.offset, list) else [config.offset], count)
        ranges = _each("range", _pairs(config.range) or [[-_LARGEST, _LARGEST]], count)
        self._units = {name: unit for name, unit in zip(names, units, strict=True) if unit}
        self._quantities = [
            _Quantity(name, scale, offset, max(low, -_LARGEST), min(high, _LARGEST))
            for name, scale, offset, (low, high) in zip(names, scales, offsets, ranges, strict=True)
        ]

    def __call__(self, window: Window) -> Window:
        """Return the window with its named values."""
        numbers: list[float] = []
        for output in window.outputs:
            numbers += output.ravel().tolist()
        values: dict[str, float | None] = {}
        strange = []
        for (name, scale, offset, low, high), number in zip(self._quantities, numbers, strict=True):
            value = number * scale + offset
            values[name] = value
            if not low <= value <= high:  # nor is NaN
                strange.append(name)
                if not isfinite(value):
                    values[name] = None
        window.result = Regression(values, self._units, not strange, strange)
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""


def _size(tensor: TensorSpec) -> int:
    if tensor.dtype.kind not in "fiub":
        raise ValueError(f"regress takes numbers, and output {tensor.name!r} has none ({tensor.dtype})")
    sizes = [1 if size == -1 else size for size in tensor.shape[:1]] + list(tensor.shape[1:])
    if -1 in sizes:
        raise ValueError(
            f"regress cannot name the numbers of {tensor.name!r}, whose shape {list(tensor.shape)} is open"
        )
    return math.prod(sizes)


def _names(tensor: TensorSpec) -> list[str]:
    size = _size(tensor)
    return [tensor.name] if size == 1 else [f"{tensor.name}[{number}]" for number in range(size)]


def _pairs(limits: list[float | list[float]]) -> list[list[float]]:
    """Return the ranges as pairs: one for all if ``limits`` is one itself."""
    numbers = [limit for limit in limits if not isinstance(limit, list)]
    return [numbers] if numbers else [limit for limit in limits if isinstance(limit, list)]


def _each(key: str, values: list[T], count: int) -> list[T]:
    """Return one of ``values`` for each of ``count`` numbers."""
    if len(values) not in {1, count}:
        raise ValueError(f"{key} has {len(values)} entries for the {count} numbers that the model gives")
    return values * (count // len(values))
