"""Whether a window is unlike what the model knows: its reconstruction error against a threshold."""

from __future__ import annotations

from math import floor, isfinite, isnan, nan
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from limpet.contracts.decoder import Abilities
from limpet.contracts.fields import Count
from limpet.contracts.outputs import Anomaly
from limpet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, FloatArray, TensorSpec, Window
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(output=Anomaly, batches=True, threshold=True, outlives_gaps=True)
"""An anomaly goes on over a gap: nothing says that it is over."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What counts as an anomaly, and when it is over.

    ``metric`` makes the score. ``mse`` and ``mae`` are the mean squared and the mean absolute difference between
    the model's first input and its first output. ``output`` is that output itself, one number. ``learning`` is for
    a model that learns on the device. Its outputs are a score, a threshold, and the share of its learning time
    that is over. An anomaly begins with ``rise`` windows in a row at or above ``threshold``. It ends with ``fall``
    windows in a row below ``release``. Default of ``release``: ``threshold``. Only ``learning`` needs no
    ``threshold``. Its default is the model's.
    """

    threshold: float | None = None
    """Lowest anomalous score. Only `metric = "learning"` needs none: its default is the model's. Example:
    `0.15`."""
    release: float | None = None
    """An anomaly ends when the score falls below this. Default: `threshold`. Example: `0.1`."""
    rise: Count = 1
    """Windows in a row until an anomaly begins."""
    fall: Count = 1
    """Windows in a row until it ends."""
    metric: Literal["mse", "mae", "output", "learning"] = "mse"
    """Mean squared (`"mse"`) or absolute (`"mae"`) difference of input and output, the `"output"` itself, or
    `"learning"` for a model of the runtime `mahalanobis`."""

    def __post_init__(self) -> None:
        if self.threshold is None:
            if self.metric != "learning":
                raise ValueError("threshold is missing; only a model that learns on the device has its own")
            return
        if isnan(self.threshold):
            raise ValueError("threshold must be a number")
        if self.release is not None and not self.release <= self.threshold:
            raise ValueError(f"release, {self.release:g}, must not be above threshold, {self.threshold:g}")


def open(config: Config, spec: Spec) -> AnomalyDecoder:
    """Prepare to score. ``ValueError`` where ``metric`` is ``output`` and that is not one number."""
    outputs = spec.outputs
    if not outputs:
        raise ValueError("anomaly needs a model with an output")
    if outputs[0].dtype.kind not in "fiub":
        raise ValueError(f"anomaly takes numbers, and output {outputs[0].name!r} has none ({outputs[0].dtype})")
    if config.metric == "output" and not _is_one(outputs[0]):
        raise ValueError(
            f'metric = "output" takes a score, not an output of shape {list(outputs[0].shape)}; '
            'for a model that reconstructs its input take "mse"'
        )
    if config.metric == "learning" and (len(outputs) != 3 or any(not _is_one(one) for one in outputs)):
        raise ValueError(
            'metric = "learning" takes a score, a threshold and the share that is learned, one number each; '
            f"the model has outputs of the shapes {[list(one.shape) for one in outputs]}"
        )
    return AnomalyDecoder(config, spec)


def _is_one(output: TensorSpec) -> bool:
    """Whether an output is one number a window."""
    return all(size in {1, -1} for size in output.shape)


class AnomalyDecoder:
    """Remembers whether an anomaly is on, and for how many windows the score has said otherwise.

    A NaN score says nothing: it changes nothing.
    """

    def __init__(self, config: Config, spec: Spec) -> None:
        self.spec = spec
        self._threshold = nan if config.threshold is None else config.threshold
        self._learning = config.metric == "learning"
        self._follows_model = config.threshold is None
        self._release = config.release
        self._rise, self._fall = config.rise, config.fall
        self._measure = {"mse": _squared, "mae": _absolute, "output": None, "learning": None}[config.metric]
        self._anomalous = False
        self._against = 0  # windows in a row that contradict _anomalous

    def __call__(self, window: Window) -> Window:
        """Return the window with its score and what follows. ``ModelError`` if input and output differ in size."""
        output, measure = window.outputs[0], self._measure
        if self._learning:
            window.result = self._judge_learning(*(float(one.item()) for one in window.outputs))
            return window
        score = measure(_difference(output, window.inputs[0])) if measure else float(output.item())
        window.result = self._judge(score)
        return window

    def decode_batch(
        self, windows: Sequence[Window], outputs: Sequence[FloatArray], inputs: Sequence[Array]
    ) -> None:
        """Score each window, in their order."""
        measure = self._measure
        if self._learning:
            for window, values in zip(
                windows, zip(*(one.ravel().tolist() for one in outputs), strict=True), strict=True
            ):
                window.result = self._judge_learning(*values)
            return
        if measure is None:
            scores = outputs[0].ravel().tolist()
        else:
            differences = _difference(outputs[0], inputs[0]).reshape(len(outputs[0]), -1)
            scores = [measure(difference) for difference in differences]
        for window, score in zip(windows, scores, strict=True):
            window.result = self._judge(score)

    def reset(self) -> None:
        """Begin without an anomaly."""
        self._anomalous = False
        self._against = 0

    def set_threshold(self, value: float) -> None:
        """Compare with another threshold from the next window on."""
        self._threshold = value
        self._follows_model = False

    def _judge_learning(self, score: float, threshold: float, learned: float) -> Anomaly:
        """Judge by the model's threshold, unless there is another. Before it has learned, there is no anomaly."""
        if self._follows_model:
            self._threshold = threshold
        if learned >= 1:
            judged = self._judge(score)
            judged.untrained, judged.learned = False, 1.0
            return judged
        self.reset()
        # Rounded down: 1 only once the time is over.
        share = floor(learned * 1000) / 1000 if learned > 0 else 0.0
        return Anomaly(False, _finite(score), _finite(self._threshold), untrained=True, learned=share)

    def _judge(self, score: float) -> Anomaly:
        threshold = self._threshold
        if self._anomalous:
            release = threshold if self._release is None else min(self._release, threshold)
            contradicts, enough = score < release, self._fall
        else:
            contradicts, enough = score >= threshold, self._rise
        if contradicts:
            self._against += 1
            if self._against >= enough:
                self._anomalous = not self._anomalous
                self._against = 0
        elif not isnan(score):
            self._against = 0
        return Anomaly(self._anomalous, _finite(score), _finite(threshold))


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _difference(output: Array, seen: Array) -> FloatArray:
    """Return what the model got wrong, flat. The two may differ in dimensions of 1."""
    if output.dtype.kind != "f" or seen.dtype.kind != "f":  # Bytes would wrap around.
        output, seen = output.astype(np.float32), seen.astype(np.float32)
    if output.shape == seen.shape:
        return (output - seen).ravel()
    if output.size != seen.size:
        raise ModelError(
            f"decoder anomaly compares the model's input, of shape {list(seen.shape)}, with its output, of shape "
            f"{list(output.shape)}. They differ in size. If the output of your model is the score, set "
            'metric = "output"'
        )
    return output.ravel() - seen.ravel()


def _squared(difference: FloatArray) -> float:
    return float(difference.dot(difference)) / len(difference)


def _absolute(difference: FloatArray) -> float:
    return float(np.add.reduce(np.abs(difference, difference))) / len(difference)
