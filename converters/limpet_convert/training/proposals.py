"""What to try: windows and features proposed from the data, each with its reason. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.contracts.fields import WindowSpec
from limpet_convert.training.networks import Kind, Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import FloatArray
    from limpet_convert.training.networks import Loss
    from limpet_convert.training.pieces import Piece

SIZES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
LONGEST = 5.0
"""Seconds of a window, unless the signal repeats more slowly."""
LEAST = 10
"""Windows of each label, for a window to be proposed."""
COVERED = 0.95
TRIED_SIZES = 3
WIDTHS: dict[Kind, tuple[int, ...]] = {
    "cnn": (16, 8, 32),
    "dscnn": (16, 8, 32),
    "mlp": (32, 16, 64),
    "autoencoder": (32, 16, 64),
    "mahalanobis": (0,),
}
MOST_ELEMENTS = 512
"""Numbers of a window that an autoencoder is made for."""
RATES = (3e-3, 1e-3)
CLIP = 6.0
"""Standard deviations to which values are cut, so that int8 has steps left for the usual ones."""
_UNRELATED = 0.2
_SEEN = 4096
_PEAK = 0.3


@dataclass(frozen=True)
class Features:
    """``transforms`` before ``normalise``; ``network`` is the kind that suits them."""

    name: str
    transforms: tuple[dict[str, Any], ...] = field(hash=False)
    network: Kind

    @property
    def by_channel(self) -> bool:
        """Whether ``normalise`` has one mean for each channel or band, not for each element."""
        return not self.transforms or self.network == "dscnn"


@dataclass(frozen=True)
class Candidate:
    """One setting to try. ``size`` and ``hop`` are in samples, ``rate`` is the learning rate."""

    size: int
    hop: int
    features: Features
    width: int
    rate: float

    @property
    def window(self) -> WindowSpec:
        """The window as a bundle has it."""
        return WindowSpec(size=self.size, hop=self.hop)

    @property
    def words(self) -> str:
        """One line for people."""
        found = f"window {self.size}, hop {self.hop}, {self.features.name}, {self.features.network}"
        return f"{found} of width {self.width}, learning rate {self.rate:g}" if self.width else found

    def network(self, shape: tuple[int, int], outputs: int, loss: Loss) -> Network:
        """Return the network for windows of this shape behind the transforms."""
        return Network(self.features.network, shape, outputs, self.width, loss)


@dataclass(frozen=True)
class Plan:
    """``candidates`` in the order in which they are tried; ``reasons`` has a sentence for each choice."""

    candidates: tuple[Candidate, ...]
    reasons: tuple[str, ...]


def plan(pieces: Sequence[Piece], rate: float | None, sizes: Sequence[int] = ()) -> Plan:
    """Propose candidates. ``sizes``: only windows of so many samples."""
    reasons: list[str] = []
    chosen = list(sizes) or _sizes(pieces, rate, reasons)
    by_size = {size: features(size, rate) for size in chosen}
    names = list(dict.fromkeys(one.name for found in by_size.values() for one in found))
    reasons.append(f"Features to try: {', '.join(names)}.")
    return Plan(tuple(candidates(by_size)), tuple(reasons))


def of_normal(pieces: Sequence[Piece], rate: float | None, sizes: Sequence[int], *, measured: bool) -> Plan:
    """Propose what knows normal windows. Without anomalies to measure by, there is one proposal."""
    reasons: list[str] = []
    chosen = list(sizes) or _sizes(pieces, rate, reasons)
    channels = pieces[0].values.shape[1]
    if not measured:
        size = chosen[min(1, len(chosen) - 1)]
        one = _usual(normal_features(size, channels, rate), repeats=period([p.values for p in pieces]) is not None)
        reasons.append(
            "No anomaly is labelled, so settings cannot be compared. Taken: "
            f"Mahalanobis' distance on {one.name} of {_time(size, rate)}."
        )
        return Plan(tuple(candidates({size: [one]})), tuple(reasons))
    by_size = {size: normal_features(size, channels, rate) for size in chosen}
    reasons.append("Models to try: Mahalanobis' distance and autoencoders.")
    return Plan(tuple(candidates(by_size)), tuple(reasons))


def _usual(found: Sequence[Features], *, repeats: bool) -> Features:
    """Return the spectrum of a signal that repeats, as of a machine that turns, else the plainest features."""
    return next((one for one in found if repeats and one.name == "spectrum"), found[0])


def normal_features(size: int, channels: int, rate: float | None) -> list[Features]:
    """Return features and models for windows of so many samples, the plainest first."""
    kinds: tuple[Kind, Kind] = ("mahalanobis", "autoencoder")
    if size < 8:
        return [Features("raw values", (), kind) for kind in kinds]
    found = [
        Features(one.name, one.transforms, kind)
        for kind in kinds
        for one in features(size, rate)
        if one.transforms
    ]
    if size * channels <= MOST_ELEMENTS:
        found.append(Features("raw windows", (), "autoencoder"))
    return found


def features(size: int, rate: float | None) -> list[Features]:
    """Return the features that windows of so many samples can have."""
    if size < 8:
        return [Features("raw values", (), "mlp")]
    found = [Features("raw windows", (), "cnn"), Features("statistics", ({"kind": "statistics"},), "mlp")]
    if rate is not None and size >= 32:
        spectrum = {"kind": "spectrum", "bands": min(16, size // 4), "log": True}
        found.append(Features("spectrum", (spectrum,), "mlp"))
    return found


def candidates(by_size: dict[int, list[Features]], step: int = 1) -> list[Candidate]:
    """Return every combination; those that differ most come first. A hop is a multiple of ``step`` samples."""
    pairs = [(size, one) for size, found in by_size.items() for one in found]
    found = []
    for place in range(max(len(widths) for widths in WIDTHS.values())):
        for rate in RATES:
            found += [
                Candidate(size, max(step, size // 4 // step * step), one, WIDTHS[one.network][place], rate)
                for size, one in pairs
                if place < len(WIDTHS[one.network]) and (one.network != "mahalanobis" or rate == RATES[0])
            ]
    return found


def _sizes(pieces: Sequence[Piece], rate: float | None, reasons: list[str]) -> list[int]:
    if unrelated([piece.values for piece in pieces]):
        reasons.append("Window: 1 sample, because the samples do not depend on those before them.")
        return [1]
    largest = longest(pieces)
    repeats = period([piece.values for piece in pieces])
    limit = largest
    if rate is not None:
        limit = min(largest, max(16, round(LONGEST * rate), 3 * (repeats or 0)))
    fitting = [size for size in SIZES if size <= limit] or [max(1, largest)]
    if repeats and any(size >= 2 * repeats for size in fitting):
        fitting = [size for size in fitting if size >= 2 * repeats]
        reasons.append(
            f"The signal repeats about every {_time(repeats, rate)}: windows hold at least two periods."
        )
    chosen = _spread(fitting)
    reasons.append(
        f"Windows to try: {', '.join(_time(size, rate) for size in chosen)}; "
        f"every label has at least {LEAST} windows of up to {_time(largest, rate)}."
    )
    return chosen


def _spread(sizes: Sequence[int]) -> list[int]:
    """Return few of the sizes: the largest, and those near a half and a quarter of it."""
    wanted = [sizes[-1] / 2**n for n in range(TRIED_SIZES)]
    return list(dict.fromkeys(min(sizes, key=lambda size: abs(size - goal)) for goal in wanted))


def _time(size: int, rate: float | None) -> str:
    return f"{size} samples ({size / rate:.3g} s)" if rate else f"{size} samples"


def longest(pieces: Sequence[Piece]) -> int:
    """Return the most samples of a window: each label has ``LEAST`` windows, and most spans have one."""
    lengths = defaultdict[str, list[int]](list)
    for piece in pieces:
        lengths[piece.label].append(len(piece.values))
    return min((min(_longest(found), covering(found)) for found in lengths.values()), default=1)


def covering(lengths: Sequence[int]) -> int:
    """Return the most samples of a window, so that pieces with ``COVERED`` of all samples hold one."""
    ordered = np.sort(lengths)[::-1]
    held = np.cumsum(ordered) >= COVERED * ordered.sum()
    return int(ordered[int(held.argmax())])


def _longest(lengths: Sequence[int]) -> int:
    for size in sorted({*SIZES, 2, 4}, reverse=True):
        if sum((length - size) // max(1, size // 2) + 1 for length in lengths if length >= size) >= LEAST:
            return size
    return 1


def unrelated(series: Sequence[FloatArray]) -> bool:
    """Whether samples do not depend on the one before: the lag-1 autocorrelation of all channels is small."""
    found = []
    for values in series:
        some = values[:_SEEN].astype(np.float64)
        if len(some) > 2:
            some = some - some.mean(axis=0)
            power = (some**2).sum(axis=0)
            found.append(np.abs((some[1:] * some[:-1]).sum(axis=0) / np.maximum(power, 1e-12)))
    return bool(found) and float(np.median(np.max(found, axis=1))) < _UNRELATED


def period(series: Sequence[FloatArray]) -> int | None:
    """Return after how many samples the signal repeats: the median over those pieces in which it does."""
    found = [lag for values in series if (lag := _period(values[:_SEEN]))]
    return int(np.median(found)) if 2 * len(found) > len(series) else None


def _period(values: FloatArray) -> int | None:
    """Return the lag of the highest peak of the autocorrelation, summed over channels of equal weight."""
    count = len(values)
    if count < 16:
        return None
    centred = values - values.mean(axis=0)
    centred = centred / np.maximum(centred.std(axis=0), 1e-9)
    power = np.abs(np.fft.rfft(centred, 2 * count, axis=0)) ** 2
    correlation = np.fft.irfft(power, axis=0)[: count // 2].sum(axis=1)
    correlation = correlation / max(correlation[0], 1e-12)
    negative = np.flatnonzero(correlation < 0)
    if not len(negative):
        return None
    lag = int(negative[0] + correlation[negative[0] :].argmax())
    return lag if correlation[lag] > _PEAK else None
