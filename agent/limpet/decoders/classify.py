"""Scores of classes, or the number of a class, to the best class, or to none if it is not good enough."""

from __future__ import annotations

from math import exp, isfinite, isnan, log, tanh
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec.structs import replace

from limpet.contracts.decoder import Abilities
from limpet.contracts.fields import Count
from limpet.contracts.outputs import Classification, ScoredLabel
from limpet.decoders._activation import FLOOR, Temperature, logits, probabilities
from limpet.decoders._scores import shown
from limpet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, FloatArray, TensorSpec, Window
    from limpet.contracts.stage import Spec


ABILITIES = Abilities(output=Classification, reads_inputs=False, threshold=True, scores=True)

Activation: TypeAlias = Literal["none", "softmax", "sigmoid"]
_INDICES = ("int32", "int64", "uint32", "uint64", "bool")
"""Types of the outputs of ARG_MAX, TOPK_V2 and comparisons."""
_SLACK = 0.01
"""How far outside of 0 to 1 rounding may bring a probability."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the model's first output is read.

    ``labels`` stand in for the model's. ``top_k`` classes are reported, best first. A best score below
    ``threshold`` gives no label. ``activation`` is what the model left out. ``softmax`` makes probabilities that
    add up to 1, ``sigmoid`` makes one of each score alone, ``none`` leaves the scores unchanged. ``temperature``
    divides the scores before that, so that probabilities are as often right as they say. With ``none`` and a
    temperature other than 1, the model's scores must be probabilities that add up to 1.

    ``output`` says what the first output has: ``scores``, or ``index``: numbers of classes, best first, which have
    no scores. By default (``auto``) floats and quantized integers are scores, and a single other integer is an
    index. An index that comes with scores of the same size, as from TOPK_V2, has these scores.
    """

    labels: list[str] = []
    """Names of the classes, in the order of the model's scores. Default: the model's. Example: `["idle",
    "walk"]`."""
    top_k: Count = 1
    """How many classes are reported, best first."""
    threshold: float | None = None
    """A best score below this gives no label. Default: every score gives one. Example: `0.6`."""
    activation: Activation = "none"
    """What the model left out: `"softmax"` makes probabilities that add up to 1, `"sigmoid"` makes one of each
    score alone."""
    temperature: Temperature = 1.0
    """Scores are divided by this before the activation: above 1 the model is less sure. `limpet-convert` finds it,
    so that 80 of 100 windows with a score of 0.8 are right. Example: `1.7`."""
    output: Literal["auto", "scores", "index"] = "auto"
    """What the first output has: `"scores"`, or `"index"`, numbers of classes, best first. `"auto"`: a single
    integer without quantization is an index."""

    def __post_init__(self) -> None:
        if self.threshold is not None and isnan(self.threshold):
            raise ValueError("threshold must be a number")


def open(config: Config, spec: Spec) -> Classify | Binary | Index | Ranked:
    """Prepare to decode the model's outputs.

    ``ValueError`` where the first is no row of scores or indices, or has not as many classes as there are labels.
    """
    outputs = spec.outputs
    names = list(config.labels or spec.labels)
    for tensor in outputs[:1]:
        if tensor.dtype.kind not in "fiub":
            raise ValueError(f"classify takes numbers, and output {tensor.name!r} has {_kind(tensor)}")
    if not outputs:
        raise ValueError("classify takes one row of scores, and the model has no output")
    pair = _pair(outputs) if config.output == "auto" else None
    if pair is not None:
        return _ranked(config, pair, names, spec)
    place = _place(config, outputs, len(names))
    tensor = outputs[place]
    size = _size(tensor)
    if config.output == "index" or (config.output == "auto" and _whole(tensor)):
        return _index(config, tensor, names, spec)
    _refuse_activation(config.activation, tensor, size)
    if size == 1 and len(names) == 2:
        _refuse_logit(config.activation, tensor)
        return Binary(config, place, names, spec)
    return _rows(config, place, names, spec)


def _rows(config: Config, place: int, names: list[str], spec: Spec) -> Classify:
    tensor = spec.outputs[place]
    size = _size(tensor)
    if names and len(names) != size:
        raise ValueError(_misfit(tensor, size, len(names)))
    if size == 1 and (config.threshold is None or not names):
        raise ValueError(
            f"output {tensor.name!r} is a single score; give two labels, the first for a score of 0, or one label "
            "and a threshold"
        )
    return Classify(config, place, names or [str(index) for index in range(size)], spec)


def _index(config: Config, tensor: TensorSpec, names: list[str], spec: Spec) -> Index:
    size = _size(tensor)
    if config.threshold is not None or config.activation != "none" or config.temperature != 1:
        raise ValueError(
            f"output {tensor.name!r} ({tensor.dtype}) is the index of a class and has no score; remove threshold, "
            'activation and temperature, or set output = "scores"'
        )
    if tensor.dtype.kind == "b" and len(names) not in {0, 2}:
        raise ValueError(f"there are {len(names)} labels for the 2 values of the bool output {tensor.name!r}")
    if config.output == "auto" and size > 1:
        raise ValueError(
            f"output {tensor.name!r} has {size} integers ({tensor.dtype}) that are not quantized; set "
            'output = "index" if they are numbers of classes, best first, or output = "scores"'
        )
    if config.output == "auto" and tensor.dtype.name not in _INDICES:
        raise ValueError(
            f"output {tensor.name!r} is one {tensor.dtype} that is not quantized; set "
            'output = "index" if it is the number of a class, or output = "scores"'
        )
    return Index(config, names, spec)


def _ranked(config: Config, pair: tuple[int, int], names: list[str], spec: Spec) -> Ranked:
    scores, indices = pair
    if config.activation == "softmax" or config.temperature != 1:
        what = "softmax" if config.activation == "softmax" else "temperature"
        raise ValueError(
            f"output {spec.outputs[scores].name!r} has the best scores only; "
            f"{what} needs the scores of all classes"
        )
    return Ranked(config, scores, indices, names, spec)


def _pair(outputs: Sequence[TensorSpec]) -> tuple[int, int] | None:
    """Return the first scores and the first indices if they belong together, as those of TOPK_V2 do."""
    indices = [n for n, tensor in enumerate(outputs) if tensor.dtype.name in _INDICES and _whole(tensor)]
    scores = [n for n, tensor in enumerate(outputs) if _is_real(tensor)]
    if not indices or not scores or 0 not in {indices[0], scores[0]} or outputs[indices[0]].dtype.kind == "b":
        return None
    one, other = outputs[scores[0]], outputs[indices[0]]
    return (scores[0], indices[0]) if _flat(one.shape) == _flat(other.shape) else None


def _place(config: Config, outputs: Sequence[TensorSpec], labels: int) -> int:
    """Return which output to read: the first, or the one row of scores that comes with an index."""
    if config.output == "auto" and _whole(outputs[0]) and _flat(outputs[0].shape) == ():
        rows = [n for n, tensor in enumerate(outputs) if _is_real(tensor) and _flat(tensor.shape) == (labels,)]
        if len(rows) == 1:
            return rows[0]
    return 0


def _size(tensor: TensorSpec) -> int:
    """Return how many numbers an output has for one window. ``ValueError`` where it is no row."""
    flat = _flat(tensor.shape)
    if len(flat) > 1 or -1 in flat or 0 in flat:
        raise ValueError(
            f"classify takes one row of scores, not an output of shape {list(tensor.shape)}; "
            f"{tensor.name!r} is the model's first output"
        )
    return flat[0] if flat else 1


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without dimensions of 1. An open first dimension counts windows."""
    first = shape[:1] if shape[:1] not in {(-1,), (1,)} else ()
    return (*first, *(size for size in shape[1:] if size != 1))


def _whole(tensor: TensorSpec) -> bool:
    return tensor.dtype.kind in "iub" and not tensor.quantized


def _is_real(tensor: TensorSpec) -> bool:
    return tensor.dtype.kind == "f" or (tensor.dtype.kind in "iu" and tensor.quantized)


def _kind(tensor: TensorSpec) -> str:
    return "text" if tensor.dtype.kind in "SUO" else str(tensor.dtype)


def _range(tensor: TensorSpec) -> tuple[float, float] | None:
    """Return the least and the largest value of a quantized output, ``None`` for others."""
    if not tensor.quantized or len(tensor.scale) != 1:
        return None
    limits = np.iinfo(tensor.dtype)
    zero = tensor.zero_point[0] if tensor.zero_point else 0
    return (limits.min - zero) * tensor.scale[0], (limits.max - zero) * tensor.scale[0]


def _is_fixed(tensor: TensorSpec) -> bool:
    """Whether an output has the quantization that kernels of softmax and sigmoid always give.

    Of 16 bits it is symmetric, so it reaches from -1 to 1, and half of it is not used.
    """
    if not tensor.quantized:
        return False
    if tensor.dtype == np.int16:
        return tensor.scale == (1 / 32768,) and not any(tensor.zero_point)
    return tensor.scale == (1 / 256,) and _range(tensor) == (0, 255 / 256)


def _refuse_activation(activation: Activation, tensor: TensorSpec, size: int) -> None:
    """Raise ``ValueError`` where an activation would be applied a second time, or to one score."""
    if activation == "softmax" and size == 1:
        raise ValueError(f'output {tensor.name!r} is a single score, and softmax makes 1 of it; use "sigmoid"')
    if activation != "none" and _is_fixed(tensor):
        most = "32767/32768" if tensor.dtype == np.int16 else "255/256"
        raise ValueError(
            f"output {tensor.name!r} is quantized to at most {most}, so it already is a probability; "
            f'remove activation = "{activation}"'
        )


def _refuse_logit(activation: Activation, tensor: TensorSpec) -> None:
    reach = _range(tensor)
    # 16 bits are symmetric, so there the lower half says nothing.
    below = reach is not None and reach[0] < -0.05 and tensor.dtype != np.int16
    if activation == "none" and reach and (below or reach[1] > 1.05 + tensor.scale[0]):
        raise ValueError(
            f"output {tensor.name!r} reaches from {reach[0]:.3g} to {reach[1]:.3g}, so it is no probability; "
            'set activation = "sigmoid"'
        )


def _misfit(tensor: TensorSpec, size: int, labels: int) -> str:
    text = f"there are {labels} labels for the {size} classes of output {tensor.name!r} {list(tensor.shape)}"
    if size == labels + 1:
        return f"{text}; if its class 0 is the background, put a label for that first"
    if labels == size + 1:
        return f"{text}; if the first label is the background, remove it"
    if size == 1:
        return f'{text}; if it is the number of a class, set output = "index"'
    return text


def _activated(activation: Activation, score: float) -> float:
    if activation == "sigmoid":
        return 0.5 + 0.5 * tanh(score / 2)  # never overflows, unlike 1 / (1 + exp(-score))
    return score


def _behind(activation: Activation, size: int) -> Activation:
    """Return the activation of scores that a temperature divided."""
    if activation == "none":
        return "sigmoid" if size == 1 else "softmax"
    return activation


def _refuse_unlikely(peak: float) -> None:
    """Raise ``ModelError`` if a temperature is for probabilities, and the best score is none."""
    if peak > 1 + _SLACK:
        raise ModelError(
            f"decoder classify: the model's best score is {peak:.6g}, which is no probability; with a temperature "
            'set activation = "softmax" or "sigmoid"'
        )


class Classify:
    """The scores are float32, NaN or infinite ones too."""

    def __init__(self, config: Config, place: int, labels: list[str], spec: Spec) -> None:
        self.spec = replace(spec, labels=tuple(labels))
        self._threshold = config.threshold
        self._place = place
        self._labels = labels
        self._top_k = min(config.top_k, len(labels))
        self._given = self._activation = config.activation
        self._temperature = config.temperature
        if self._temperature != 1:
            self._activation = _behind(config.activation, len(labels))
        self._wants_scores = False
        self._powers = np.empty(len(labels), np.float32)
        self._ones = np.ones(len(labels), np.float32)

    def __call__(self, window: Window) -> Window:
        """Return the window with its best class, of equals the first. ``ModelError``: a temperature has no use."""
        raw = window.outputs[self._place].ravel()
        if raw.dtype is not _SINGLE:
            raw = raw.astype(_SINGLE)
        if self._temperature != 1:
            raw = self._tempered(raw)
        window.result = self._decode(raw)
        if self._wants_scores:
            with np.errstate(all="ignore"):
                window.scores = shown(probabilities(raw, self._activation))
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""

    def set_threshold(self, value: float) -> None:
        """Give no label to what scores below another threshold, from the next window on."""
        self._threshold = value

    def want_scores(self) -> None:
        """Set ``Window.scores`` from now on, ``None`` where one of them is not finite."""
        self._wants_scores = True

    def _tempered(self, raw: FloatArray) -> FloatArray:
        """Return scores before their activation, divided by the temperature."""
        if self._given == "none":
            _refuse_unlikely(float(raw.max()))
        with np.errstate(all="ignore"):
            scores, _ = logits(raw, self._given, exclusive=len(raw) > 1)
            return scores / np.float32(self._temperature)

    def _decode(self, raw: FloatArray) -> Classification:
        best = int(raw.argmax())  # a NaN, if there is one
        peak: float = raw.item(best)
        if not isfinite(peak):
            return Classification(None, None, [], True)
        whole = self._whole(raw, peak) if self._activation == "softmax" else 1.0
        score = self._activated(peak, peak, whole)
        label = self._labels[best]
        top = [ScoredLabel(label, score)] if self._top_k == 1 else self._ranked(raw, peak, whole)
        if self._threshold is not None and score < self._threshold:
            return Classification(None, score, top, True)
        return Classification(label, score, top, False)

    def _whole(self, raw: FloatArray, peak: float) -> float:
        """Return the sum of the powers of all scores, ``peak`` taken off so that none overflows."""
        np.subtract(raw, peak, self._powers)
        np.exp(self._powers, self._powers)
        return float(self._powers.dot(self._ones))  # a third of the cost of sum()

    def _activated(self, score: float, peak: float, whole: float) -> float:
        if self._activation == "softmax":
            return exp(score - peak) / whole
        return _activated(self._activation, score)

    def _ranked(self, raw: FloatArray, peak: float, whole: float) -> list[ScoredLabel]:
        """Return the best few, best first, of equals the first."""
        chosen = (-raw).argsort(kind="stable")[: self._top_k]
        scores = [self._activated(value, peak, whole) for value in raw[chosen].tolist()]
        return [
            ScoredLabel(self._labels[index], score if isfinite(score) else None)
            for index, score in zip(chosen.tolist(), scores, strict=True)
        ]


class Binary:
    """One probability for two labels: that of the second."""

    def __init__(self, config: Config, place: int, labels: list[str], spec: Spec) -> None:
        self.spec = replace(spec, labels=tuple(labels))
        self._threshold = config.threshold
        self._place = place
        self._labels = labels
        self._top_k = config.top_k
        self._activation = config.activation
        self._temperature = config.temperature
        self._wants_scores = False

    def __call__(self, window: Window) -> Window:
        """Return the window with its likelier label. ``ModelError`` where the model gives no probability."""
        raw = float(window.outputs[self._place].item())
        if not isfinite(raw):
            window.result = Classification(None, None, [], True)
            return window
        share = self._share(raw)
        window.result = self._decode(share)
        if self._wants_scores:
            window.scores = np.array([1 - share, share], np.float32)
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""

    def set_threshold(self, value: float) -> None:
        """Give no label to what scores below another threshold, from the next window on."""
        self._threshold = value

    def want_scores(self) -> None:
        """Set ``Window.scores`` from now on, ``None`` where the model gives no finite number."""
        self._wants_scores = True

    def _share(self, raw: float) -> float:
        """Return the probability of the second label. ``ModelError`` if it is none."""
        if self._activation == "sigmoid":
            raw /= self._temperature
        share = _activated(self._activation, raw)
        if not -_SLACK <= share <= 1 + _SLACK:
            raise ModelError(
                f"decoder classify: the model's score is {raw:.6g}, which is no probability; for two labels and "
                'one score set activation = "sigmoid"'
            )
        share = min(max(share, 0.0), 1.0)
        if self._activation == "none" and self._temperature != 1:
            likely = min(max(share, FLOOR), 1 - FLOOR)
            share = _activated("sigmoid", log(likely / (1 - likely)) / self._temperature)
        return share

    def _decode(self, share: float) -> Classification:
        both = [ScoredLabel(label, score) for label, score in zip(self._labels, (1 - share, share), strict=True)]
        if share > 0.5:
            both.reverse()
        best, top = both[0], both[: self._top_k]
        if self._threshold is not None and best.score is not None and best.score < self._threshold:
            return Classification(None, best.score, top, True)
        return Classification(best.label, best.score, top, False)


class Index:
    """Numbers of classes, best first, as ARG_MAX gives one. There are no scores, so there is no threshold."""

    def __init__(self, config: Config, labels: list[str], spec: Spec) -> None:
        self.spec = spec
        self._labels = labels
        self._top_k = config.top_k

    def __call__(self, window: Window) -> Window:
        """Return the window with the class of the first number. ``ModelError`` where there is no such class."""
        numbers = window.outputs[0].ravel()[: self._top_k].tolist()
        top = [ScoredLabel(_label(self._labels, number), None) for number in numbers]
        window.result = Classification(top[0].label, None, top, False)
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""

    def set_threshold(self, value: float) -> None:  # noqa: ARG002
        """Raise ``ValueError``: there are no scores to compare with it."""
        raise ValueError("the model gives the number of a class, and no score that a threshold could be for")

    def want_scores(self) -> None:
        """Raise ``ValueError``: there are none."""
        raise ValueError("the model gives the number of a class, and no score of each class")


class Ranked:
    """Scores and the numbers of their classes, as TOPK_V2 gives them."""

    def __init__(self, config: Config, scores: int, indices: int, labels: list[str], spec: Spec) -> None:
        self.spec = spec
        self._threshold = config.threshold
        self._scores, self._indices = scores, indices
        self._labels = labels
        self._top_k = config.top_k
        self._activation = config.activation

    def __call__(self, window: Window) -> Window:
        """Return the window with the class of its best score. ``ModelError`` where there is no such class."""
        window.result = self._decode(window.outputs)
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""

    def set_threshold(self, value: float) -> None:
        """Give no label to what scores below another threshold, from the next window on."""
        self._threshold = value

    def want_scores(self) -> None:
        """Raise ``ValueError``: there are none of the other classes."""
        raise ValueError("the model gives the scores of its best classes alone, not of each class")

    def _decode(self, outputs: Sequence[Array]) -> Classification:
        scores = outputs[self._scores].ravel()
        order = (-scores.astype(np.float64)).argsort(kind="stable")[: self._top_k]
        if not np.isfinite(scores).all():
            return Classification(None, None, [], True)
        numbers = outputs[self._indices].ravel()[order].tolist()
        top = [
            ScoredLabel(_label(self._labels, number), _activated(self._activation, score))
            for number, score in zip(numbers, scores[order].tolist(), strict=True)
        ]
        best = top[0]
        if self._threshold is not None and best.score is not None and best.score < self._threshold:
            return Classification(None, best.score, top, True)
        return Classification(best.label, best.score, top, False)


def _label(labels: Sequence[str], number: float) -> str:
    """Return the label of a class. ``ModelError`` where there is none: Python would count from the end."""
    if not isfinite(number) or number != int(number) or number < 0 or (labels and number >= len(labels)):
        there = f"there are {len(labels)} labels" if labels else "classes count from 0"
        raise ModelError(f"decoder classify: the model names class {number}, and {there}")
    return labels[int(number)] if labels else str(int(number))


_SINGLE = np.dtype(np.float32)
