"""Models that learn on the device what is normal, and say how far a window is from it.

The file of such a model is JSON, see ``Options``. It holds nothing that was learned: that is in the state
directory. numpy alone runs it, on the CPU. Decision 0033 says how it learns, and what was measured.
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from pathlib import Path  # noqa: TC003 - msgspec reads it
from time import monotonic_ns
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.data import TensorSpec, fits
from limpet.contracts.delegate import CPU
from limpet.contracts.fields import Count, Positive, TensorInfo
from limpet.contracts.model_facts import ModelFacts
from limpet.contracts.runtime import Abilities
from limpet.errors import ModelError, UnreadableError
from limpet.runtimes import _mahalanobis
from limpet.runtimes._learned_windows import LearnedWindows
from limpet.untrusted import read_file, reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.delegate import Choice
    from limpet.runtimes._mahalanobis import Normal

log = logging.getLogger(__name__)

FILE = "windows.bin"
"""In the folder of the pipeline: what was learned."""
MOST_VALUES = 64
"""Values of a window that a model can take."""
_LARGEST = 1 << 16
"""Bytes of a model file."""
_FIRST = 16
"""Windows before the first score. It learns again from all whenever their number has doubled."""
_LEAST, _LEAST_EACH = 50, 5
"""Windows that it learns from at least, and for each of their values: less would not show what is normal."""
_PAUSE_NS = 600 * 10**9
"""Longer between two windows counts as no longer: a sensor that is silent teaches nothing."""
_BETWEEN_NS = 10**9, 60 * 10**9
"""Between two writings of the file: a twentieth of the learning time, within these bounds."""
_BETWEEN_COUNTED_NS = 10 * 10**9
"""The same where windows are counted."""
_FOLDS = 4


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Nothing to configure: the bundle says how the model learns."""


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model's file.

    ``shape`` is that of a window as the transforms give it. It learns for ``seconds`` in which the sensor runs, or
    for so many ``windows``. ``false_alarms`` is the share of normal windows whose score may reach the threshold.
    ``seed`` chooses which windows are kept of many.
    """

    format: Annotated[int, Meta(ge=1, le=1)] = 1
    shape: Annotated[list[Annotated[int, Meta(ge=1, le=MOST_VALUES)]], Meta(min_length=1, max_length=4)]
    seconds: Positive | None = None
    windows: Count | None = None
    false_alarms: Annotated[float, Meta(gt=0, le=0.5)] = 0.001
    seed: Annotated[int, Meta(ge=0, le=1 << 31)] = 0

    def __post_init__(self) -> None:
        if math.prod(self.shape) > MOST_VALUES:
            raise ValueError(f"a window of shape {self.shape} has more than {MOST_VALUES} values")
        if (self.seconds is None) == (self.windows is None):
            raise ValueError("one of seconds and windows says how long it learns")

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The only input."""
        return (TensorSpec("window", tuple(self.shape), np.dtype(np.float32)),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """One number each, as the decoder ``anomaly`` with ``metric = "learning"`` takes them."""
        return tuple(TensorSpec(name, (1,), np.dtype(np.float32)) for name in ("score", "threshold", "learned"))

    @property
    def least(self) -> int:
        """Windows that it learns from at least."""
        return max(_LEAST, _LEAST_EACH * math.prod(self.shape), self.windows or 0)

    def learned(self, windows: int, learned_ns: int) -> float:
        """Return the share of its learning time that is over, 0 to 1."""
        share = min(1.0, windows / self.least)
        return share if self.seconds is None else min(share, learned_ns / (self.seconds * 1e9))


def check(path: Path, delegates: Sequence[str]) -> list[str]:
    """Return why a model cannot run on some of the delegates."""
    return [
        f'{path.name} learns on the device, which the CPU alone can do: set delegates = ["cpu"], without {name!r}'
        for name in delegates
        if name != CPU.name
    ]


def describe(path: Path, _config: Config) -> ModelFacts:
    """Return what a model takes and gives. ``ModelError``."""
    options = read(path)
    return ModelFacts(
        inputs=tuple(_info(spec) for spec in options.inputs),
        outputs=tuple(_info(spec) for spec in options.outputs),
    )


@contextmanager
def open(
    path: Path,
    config: Config,  # noqa: ARG001 - it has no keys
    delegate: Choice = CPU,
    shapes: Sequence[tuple[int, ...]] | None = None,  # noqa: ARG001
) -> Iterator[MahalanobisModel]:
    """Open a model. It knows nothing until ``learn`` is called. ``ModelError``."""
    if delegate.how != CPU.how:
        libraries = f" ({', '.join(delegate.libraries)})" if delegate.libraries else ""
        raise ModelError(f"{path.name} runs on the CPU alone, not on {delegate.name!r}{libraries}")
    model = MahalanobisModel(path.name, read(path))
    try:
        yield model
    finally:
        model.close()


def read(path: Path) -> Options:
    """Return what a model's file says. ``ModelError`` says why it is no model."""
    try:
        with reading(path.name):
            return msgspec.json.decode(read_file(path, _LARGEST), type=Options)
    except UnreadableError as error:
        raise ModelError(str(error)) from error


class MahalanobisModel:
    """Takes a window and gives three numbers: score, threshold, and the share of the learning time that is over.

    Score and threshold are distances, NaN while nothing was learned. When its time is over, it stays as it is.
    """

    delegate = CPU.name
    delegate_share = 1.0

    def __init__(self, name: str, options: Options) -> None:
        self.inputs, self.outputs = options.inputs, options.outputs
        self._name = name
        self._options = options
        self._values = math.prod(options.shape)
        self._seen = LearnedWindows(self._values, options.seed)
        self._normal: Normal | None = None
        self._threshold = math.nan
        self._share = 0.0
        self._next_fit = _FIRST
        self._learning = False
        self._loaded = False
        self._path: Path | None = None
        self._meaning = ""
        self._last_ns: int | None = None
        self._saved_ns = 0
        self._between_ns = _between(options)
        self._failed = False
        self._closed = False

    @property
    def learned(self) -> float:
        """Share of its learning time that is over, 0 to 1."""
        return self._share

    @property
    def placement(self) -> None:
        """Has no ops."""

    def absorb(self, byte_values: FloatArray) -> bool:  # noqa: ARG002
        """Return False: it takes real values."""
        return False

    def reset(self) -> None:
        """Do nothing: what is normal does not depend on the window before."""

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Return score, threshold and share, float32 ``(1,)`` each, by what came before this window.

        ``ModelError`` if the window has another shape, or values that are not finite.
        """
        window = self._taken(inputs)
        score = math.nan if self._normal is None else float(self._normal.distances(window[None])[0])
        outputs = [np.array([value], np.float32) for value in (score, self._threshold, self._share)]
        if self._learning and self._share < 1:
            self._learn_from(window)
        return outputs

    def learn(self, folder: Path | None, meaning: str) -> str:
        """Begin to learn from the windows that come, or go on where ``folder`` or this model stands."""
        problem = ""
        self._path = None if folder is None else folder / FILE
        self._meaning = f"{meaning} {msgspec.json.encode(self._options).decode()}"
        if self._path is not None and not self._loaded:
            if why := self._seen.load(self._path, self._meaning):
                problem = f"{self._path}: {why}; the model learns again"
            self._share = self._options.learned(self._seen.windows, self._seen.learned_ns)
            if self._seen.windows >= _FIRST:
                self._fit()
        self._loaded = self._learning = True
        self._last_ns, self._saved_ns = None, monotonic_ns()
        return problem

    def stop_learning(self) -> None:
        """Write what was learned, and leave it at that."""
        if self._learning and self._seen.windows and (self._share < 1 or self._failed):
            self._save()
        self._learning = False

    def close(self) -> None:
        """Let go of the model. ``run`` is refused from then on."""
        self.stop_learning()
        self._closed = True

    def _taken(self, inputs: Sequence[Array]) -> FloatArray:
        if self._closed:
            raise ModelError(f"{self._name}: the model is closed")
        if len(inputs) != 1 or not fits(inputs[0].shape, self._options.shape):
            shapes = [list(values.shape) for values in inputs]
            raise ModelError(f"{self._name}: takes a window of shape {self._options.shape}, got {shapes}")
        window = inputs[0].astype(np.float32).ravel()
        if not np.isfinite(window).all():
            raise ModelError(f"{self._name}: the window has values that are no numbers")
        return window

    def _learn_from(self, window: FloatArray) -> None:
        now = monotonic_ns()
        elapsed = 0 if self._last_ns is None else min(now - self._last_ns, _PAUSE_NS)
        self._last_ns = now
        self._seen.add(window, elapsed)
        self._share = self._options.learned(self._seen.windows, self._seen.learned_ns)
        if self._share == 1 or self._seen.windows >= self._next_fit:
            self._fit()
        if self._share == 1 or now - self._saved_ns >= self._between_ns:
            self._save()
            self._saved_ns = now

    def _fit(self) -> None:
        rows = self._seen.rows
        self._normal = _mahalanobis.fit(rows)
        self._threshold = _mahalanobis.threshold(rows, self._options.false_alarms, _FOLDS)
        while self._next_fit <= self._seen.windows:
            self._next_fit *= 2

    def _save(self) -> None:
        """Write the file. If that fails, it learns on, and the log says so once."""
        if self._path is None:
            return
        try:
            self._seen.save(self._path, self._meaning)
        except OSError as error:
            if not self._failed:
                log.warning("%s: %s. A restart loses what is learned", self._path, error.strerror)
            self._failed = True
        else:
            self._failed = False


def _between(options: Options) -> int:
    shortest, longest = _BETWEEN_NS
    if options.seconds is None:
        return _BETWEEN_COUNTED_NS
    return int(max(shortest, min(longest, options.seconds * 1e9 / 20)))


def _info(spec: TensorSpec) -> TensorInfo:
    return TensorInfo(name=spec.name, shape=list(spec.shape), dtype=str(spec.dtype))


ABILITIES = Abilities(check=check, describe=describe, package="numpy", version=np.__version__, learns=True)
