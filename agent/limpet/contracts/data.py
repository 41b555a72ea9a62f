"""What flows through a pipeline inside one process: samples, windows, tensors.

What crosses a process border or goes out to a broker is in ``limpet.wire.records``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from limpet.contracts.detected_events import DetectedEvent

if TYPE_CHECKING:
    from limpet.contracts.frame import Frame

Array: TypeAlias = NDArray[Any]
FloatArray: TypeAlias = NDArray[np.float32]
TimeArray: TypeAlias = NDArray[np.int64]


class SampleSpec(msgspec.Struct, frozen=True):
    """What one sample of a source is, known before the source is opened.

    ``shape`` is that of one sample: ``(channels,)`` for a sensor, ``(height, width, 3)`` for an image. It has -1
    for a size that is not known or may change. ``frames``: samples are ``limpet.contracts.frame.Frame`` objects.
    ``rate`` is in samples a second, ``None`` where the source has no steady rate. A source that is not ``live``
    waits for the model; of a live one, samples that come faster than the model takes them are dropped. ``timed``:
    its stamps are when the samples were taken, so that a window may be so many seconds. ``patience``: seconds
    without a sample after which the source is opened again unless the configuration has another time; ``None``:
    it may be silent. ``queue``: blocks that may wait for the model unless the configuration has another number; a
    camera has 1, so that the latest frame wins. ``units``: one for each channel where they are known, else none.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channels: tuple[str, ...] = ()
    rate: float | None = None
    live: bool = True
    timed: bool = True
    patience: float | None = None
    queue: int = 64
    units: tuple[str, ...] = ()
    frames: bool = False


class Samples(msgspec.Struct):
    """Consecutive samples as a source had them: possibly none, which shows that the source is alive.

    ``values`` has shape ``(n, *SampleSpec.shape)``, or ``(n,)`` with a frame in each place. ``monotonic_ns`` and
    ``wall_ns`` are int64 of shape ``(n,)``, nanoseconds of ``time.monotonic_ns`` and of the Unix clock when each
    sample was taken.
    ``index`` is the ordinal of the first sample in the source's own count, so that lost samples show as a jump.
    ``gap`` says that the first sample does not follow the one before it. ``note``: why an open source has no
    samples, if it knows; with samples, what is wrong with them, such as that a microphone is muted.

    The arrays do not change as long as anything refers to them. Neither the source nor its readers, such as
    several pipelines, write to them. See ``limpet.contracts.source``.
    """

    values: Array
    monotonic_ns: TimeArray
    wall_ns: TimeArray
    index: int
    gap: bool = False
    note: str = ""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """Bytes that the block holds in memory, its frames among them."""
        values = self.values
        size = values.nbytes if values.dtype != object else sum(frame.nbytes for frame in values)
        return int(size + self.monotonic_ns.nbytes + self.wall_ns.nbytes)


class Rows(msgspec.Struct):
    """What a framing made of some bytes: n rows, possibly none.

    ``values``: float64 ``(n, channels)`` as the node sent them. ``gap``: bool ``(n,)``, frames that could not be
    read are before this row. ``sequence``: int64 ``(n,)``, the node's own count of its samples. ``time_us``:
    int64 ``(n,)``, the node's clock in µs modulo 2**32. The last two are ``None`` where frames carry none.
    """

    values: NDArray[np.float64]
    gap: NDArray[np.bool_]
    sequence: NDArray[np.int64] | None = None
    time_us: NDArray[np.int64] | None = None


class Cut(NamedTuple):
    """A rectangle of a source's picture, as fractions of its width and height: (0, 0, 1, 1) is all of it."""

    left: float
    top: float
    right: float
    bottom: float

    def of(self, box: tuple[float, float, float, float]) -> Cut:
        """Return where a box of the picture that was cut out is in the source's picture."""
        width, height = self.right - self.left, self.bottom - self.top
        return Cut(
            self.left + box[0] * width,
            self.top + box[1] * height,
            self.left + box[2] * width,
            self.top + box[3] * height,
        )


class Window(msgspec.Struct, eq=False, gc=False):
    """What passes from stage to stage of a pipeline. ``limpet.contracts.stage`` says who owns its memory.

    ``values`` has shape ``(rows, *shape of one row)``: samples at first, then what the stages made of them. The
    times, in nanoseconds, and the ``ordinal`` are those of the window's last sample. ``gap``: samples are missing
    between the window before and this one. ``cut``: the part of the source's picture that ``values`` shows,
    ``None`` for all of it. ``samples`` are the values before the first transform, at the latest until the next
    window. ``inputs`` are what the model got and ``outputs`` what it gave, as real values;
    ``result`` is what the decoder made of them. ``scores``: the probability of each label, float32 ``(labels,)``,
    from a decoder that has them, if a stage or a monitor wants them. ``events`` are what postprocess stages found.
    ``beside``: the mean over the window of each channel in ``Spec.beside``, NaN where it has no value.
    ``light``: the light model of a cascade made ``outputs``, ``scores`` and ``result``.

    ``recorded_ns``: when the samples of a recording were taken that is not played at its own speed, on a clock of
    its own.
    """

    values: Array
    monotonic_ns: int
    wall_ns: int
    ordinal: int
    gap: bool = False
    cut: Cut | None = None
    samples: Array | None = None
    inputs: Sequence[Array] = ()
    outputs: Sequence[Array] = ()
    result: Any = None
    scores: FloatArray | None = None
    events: list[DetectedEvent] = []
    beside: FloatArray | None = None
    recorded_ns: int | None = None
    light: bool = False

    @property
    def taken_ns(self) -> int:
        """When its last sample was taken, in ns: a clock for all that depends on the time between windows."""
        return self.monotonic_ns if self.recorded_ns is None else self.recorded_ns


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output tensor of a model as its runtime reports it.

    ``shape`` has -1 for a dimension that may vary. ``scale`` and ``zero_point`` are empty for a tensor that is not
    quantized. They have one element for per-tensor quantization, and one for each channel of
    ``quantized_dimension`` for per-channel quantization. real = (stored - zero_point) * scale.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    quantized_dimension: int = 0

    @property
    def quantized(self) -> bool:
        """Whether stored integers stand for real numbers."""
        return bool(self.scale)


def empty_samples(spec: SampleSpec, index: int = 0, note: str = "") -> Samples:
    """Return no samples: the sign of life of a source that has nothing to say."""
    none = np.empty(0, np.int64)
    values = np.empty(0, object) if spec.frames else np.empty((0, *spec.shape), spec.dtype)
    return Samples(values, none, none, index, note=note)


def frame_samples(frame: Frame, monotonic_ns: int, wall_ns: int, index: int, *, gap: bool = False) -> Samples:
    """Return a block of one frame."""
    values = np.empty(1, object)
    values[0] = frame
    return Samples(values, np.array([monotonic_ns]), np.array([wall_ns]), index, gap)


def fits(window: Sequence[int], tensor: Sequence[int]) -> bool:
    """Whether an array of shape ``window`` can be handed to ``tensor`` by adding or dropping 1s alone.

    A tensor's -1 takes any size.
    """
    have = [n for n in window if n != 1]
    want = [n for n in tensor if n != 1]
    while len(want) > len(have) and -1 in want:
        want.remove(-1)
    return len(have) == len(want) and all(w in (-1, h) for h, w in zip(have, want, strict=True))
