"""What to try on sound: windows of about a second, and the mel bands of its short frames. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limpet_convert.errors import ConvertError
from limpet_convert.training import proposals
from limpet_convert.training.proposals import Features, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet_convert.training.networks import Kind
    from limpet_convert.training.pieces import Piece
    from limpet_convert.training.problem import Problem

FRAME = 0.064
"""Seconds of a frame, which is a power of two in samples."""
WINDOWS = (32, 16, 8)
"""Steps from frame to frame in a window: about 1, 0.5 and 0.25 s."""
TRIED = 2
BANDS, MOST_BANDS = 40, 64
LOWEST = 20.0
"""Hz. Below is mostly wind and the microphone itself."""


@dataclass(frozen=True)
class Frames:
    """Samples of a frame, ``rate`` in Hz. Frames overlap by a half."""

    rate: float

    @property
    def size(self) -> int:
        """Samples of a frame: the power of two that is next to ``FRAME``."""
        wanted = FRAME * self.rate
        return min((1 << n for n in range(7, 14)), key=lambda size: abs(size - wanted))

    @property
    def step(self) -> int:
        """Samples from the start of one frame to the next."""
        return self.size // 2

    def windows(self) -> list[int]:
        """Return the sizes of windows in samples, the longest first. A quarter of each is whole steps."""
        return [steps * self.step for steps in WINDOWS]

    def log_mel(self, bands: int, *, frame: int = 0, relative: bool = False) -> dict[str, Any]:
        """Return the transform. ``frame``: of other frames, which do not overlap.

        ``relative``: the loudest number of a window is 0 dB, so the distance to the microphone does not count.
        """
        size, step = (frame, frame) if frame else (self.size, self.step)
        found: dict[str, Any] = {"kind": "log_mel", "frame": size, "hop": step, "fft": size, "pad": "none"}
        found |= {"bands": bands, "low": LOWEST}
        return found | {"reference": "max"} if relative else found


def plan(problem: Problem, sizes: Sequence[int]) -> Plan:
    """Propose candidates. ``sizes``: only windows of so many samples. ``ConvertError`` if they are too short."""
    frames = Frames(problem.rate or 0.0)
    if sizes and min(sizes) < 2 * frames.size:
        raise ConvertError(f"--window: {min(sizes)} samples; sound needs {2 * frames.size} samples or more.")
    learned = [piece for piece in problem.pieces if problem.task != "anomaly" or not piece.label]
    chosen = list(sizes) or _sizes(learned, frames)
    measured = problem.task != "anomaly" or len(learned) < len(problem.pieces)
    by_size = {size: _features(frames, size, problem.task == "anomaly") for size in chosen}
    words = ", ".join(f"{size} samples ({size / frames.rate:.3g} s)" for size in chosen)
    reasons = [f"Sound at {frames.rate:g} Hz. Windows to try: {words}."]
    if not measured:
        size, [one, *_] = next(iter(by_size.items()))
        reasons.append(
            "No anomaly is labelled, so settings cannot be compared. Taken: "
            f"Mahalanobis' distance on {one.name} of {size / frames.rate:.3g} s."
        )
        by_size = {size: [one]}
    else:
        names = dict.fromkeys(f"{one.name} ({one.network})" for found in by_size.values() for one in found)
        reasons.append(f"Features to try: {', '.join(names)}.")
    return Plan(tuple(proposals.candidates(by_size, frames.step)), tuple(reasons))


def _features(frames: Frames, size: int, anomaly: bool) -> list[Features]:  # noqa: FBT001
    """Return features and the networks that suit them, the cheapest first."""
    bands = min(MOST_BANDS, frames.size // 16)
    statistics = {"kind": "statistics", "features": ["mean", "std"]}
    levels = {
        "log-mel statistics": (frames.log_mel(bands), statistics),
        "relative log-mel statistics": (frames.log_mel(bands, relative=True), statistics),
    }
    if not anomaly:
        pictures = {
            "relative log-mel": (frames.log_mel(min(BANDS, bands), relative=True),),
            "log-mel": (frames.log_mel(min(BANDS, bands)),),
        }
        found = [Features(name, transforms, "mlp") for name, transforms in reversed(levels.items())]
        return [*found, *(Features(name, transforms, "dscnn") for name, transforms in pictures.items())]
    kinds: tuple[Kind, Kind] = ("mahalanobis", "autoencoder")
    found = [Features(name, transforms, kind) for kind in kinds for name, transforms in levels.items()]
    coarse = frames.log_mel(min(BANDS, bands), frame=2 * frames.size)
    if size >= 2 * frames.size:
        found.append(Features("coarse log-mel", (coarse,), "autoencoder"))
    return found


def _sizes(pieces: Sequence[Piece], frames: Frames) -> list[int]:
    """Return the longest windows that the pieces have enough of, else the shortest ones."""
    lengths = defaultdict[str, list[int]](list)
    for piece in pieces:
        lengths[piece.label].append(len(piece.values))
    every = frames.windows()
    fitting = [size for size in every if all(_fits(size, found) for found in lengths.values())]
    return fitting[:TRIED] or every[-1:]


def _fits(size: int, lengths: Sequence[int]) -> bool:
    """Whether pieces of one label have ``LEAST`` windows of this size, and most of its samples are in one."""
    hop = size // 4
    windows = sum((length - size) // hop + 1 for length in lengths if length >= size)
    return windows >= proposals.LEAST and size <= proposals.covering(lengths)
