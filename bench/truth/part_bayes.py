"""The Bayes filter on a real activity data set, beside single windows and ``smooth``; and what abstention keeps.

The recordings are those that models.py holds back. One half chooses the parameters and the other is judged, then
the other way round. Each recording is one motion. They are joined in an order that is drawn.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from limpet import Pipeline
from limpet.contracts.outputs import Classification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MODELS = Path(__file__).parents[2] / "build" / "truth" / "models"
NAME = "imu-short"
SIZE = 5
"""Samples of a window."""
ORDERS = 10
"""Orders in which the recordings of a half are joined."""
BOUTS = {"10 s": 1, "50 s": 5}
"""How long a motion lasts, and of how many recordings."""
STAYS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
WEIGHTS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
SMOOTHED = (2, 3, 5, 8, 12)
"""Windows of ``smooth``."""
METHODS = {"single": "one window", "smooth": "`smooth`", "bayes": "`bayes`"}
STATED = 0.95
"""Accuracy that abstention is to reach."""
PICTURES = "digits"
"""The model whose windows do not follow each other, for abstention alone."""
RESAMPLES = 2000


class Windows(NamedTuple):
    """What was said of windows: the right class, the class with the best score, and that score."""

    right: NDArray[np.str_]
    found: NDArray[np.str_]
    score: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Share of the windows that are right."""
        return float((self.right == self.found).mean())


class Recording(NamedTuple):
    """One motion: its label, and its samples, float32 ``(n, channels)``. ``name`` is its own."""

    name: str
    label: str
    values: NDArray[np.float32]


class Judged(NamedTuple):
    """What a method chose on one half of the recordings, what that keeps, and what it said of the other half."""

    chosen: Windows
    found: Windows


def measure() -> tuple[dict[str, Any], str]:
    """Return the figures of this part, and its section of the page."""
    halves = [_recordings(part) for part in ("calibration", "test")]
    bayes: dict[str, Any] = {}
    abstention: dict[str, Any] = {}
    for bout, together in BOUTS.items():
        streams = [[_joined(half, together, seed) for seed in range(ORDERS)] for half in halves]
        judged = [_judge(learn, judge) for learn, judge in (streams, streams[::-1])]
        found = {name: _together([one[name].found for one in judged]) for name in METHODS}
        names = [one.name for stream in streams[1] + streams[0] for one in stream for _ in _windows(one)]
        low, high = _lift_interval(found["single"], found["bayes"], names)
        bayes[bout] = {name: round(found[name].accuracy, 4) for name in METHODS} | {
            "lift_points": round(100 * (found["bayes"].accuracy - found["single"].accuracy), 2),
            "lift_low": round(100 * low, 2),
            "lift_high": round(100 * high, 2),
        }
        kept = {name: _kept([one[name] for one in judged]) for name in METHODS}
        abstention[bout] = {name: {"kept": round(a, 4), "accuracy": round(b, 4)} for name, (a, b) in kept.items()}
    pictures = [_pictures(part) for part in ("calibration", "test")]
    share, right = _kept([Judged(*pictures), Judged(*pictures[::-1])])
    abstention[PICTURES] = {"kept": round(share, 4), "accuracy": round(right, 4)}
    exact = _difference(_joined(halves[1], 1, 0), _decoder(1.5), 0.95, 0.5)
    figures = {"bayes": bayes | {"difference_from_scipy": exact}, "abstention": abstention}
    return figures, _section(figures)


def _judge(learn: list[list[Recording]], judge: list[list[Recording]]) -> dict[str, Judged]:
    """Choose the parameters of each method on one half. Return what it says of both."""
    decoder = _decoder(_temperature(learn[0]))
    pairs = [(stay, weight) for stay in STAYS for weight in WEIGHTS]
    best = max(pairs, key=lambda pair: _likelihood(learn[:2], decoder, _bayes(*pair)))
    windows = max(SMOOTHED, key=lambda one: _run(learn[:2], decoder, _smooth(one)).accuracy)
    stages = {"single": [], "smooth": _smooth(windows), "bayes": _bayes(*best)}
    print(
        f"  temperature {decoder['temperature']}, stay {best[0]}, weight {best[1]}, smooth {windows}", flush=True
    )
    return {
        name: Judged(_run(learn, decoder, stage), _run(judge, decoder, stage)) for name, stage in stages.items()
    }


def _section(figures: dict[str, Any]) -> str:
    bayes, kept = figures["bayes"], figures["abstention"]
    rows = [
        f"| {bout} | {text} | {100 * bayes[bout][name]:.1f} % | {100 * kept[bout][name]['kept']:.1f} % | "
        f"{100 * kept[bout][name]['accuracy']:.1f} % |"
        for bout in BOUTS
        for name, text in METHODS.items()
    ]
    lifts = [
        f"* {bout}: {bayes[bout]['lift_points']:.1f} points, 95 % interval {bayes[bout]['lift_low']:.1f} to "
        f"{bayes[bout]['lift_high']:.1f}"
        for bout in BOUTS
    ]
    return f"""## The Bayes filter and abstention

Data: BasicMotions, the motions of a wrist, in windows of half a second, through the daemon's own pipeline. 40
recordings of 10 s are real, and the network has seen none of them. Half of them choose temperature, `stay`,
`weight` and the windows of `smooth`. The other half is judged, and then the other way round. The order of the
recordings is simulated: drawn {ORDERS} times, so that a motion lasts 10 s, or 50 s.

Abstention: the threshold is the lowest with which {100 * STATED:g} % of the kept windows of one half are right.
The last two columns are the share of the other half that it keeps, and how much of that is right.

| a motion lasts | by | accuracy | kept at {100 * STATED:g} % | accuracy of these |
| --- | --- | --- | --- | --- |
{chr(10).join(rows)}
| digits | one picture | | {100 * kept[PICTURES]["kept"]:.1f} % | {100 * kept[PICTURES]["accuracy"]:.1f} % |

The filter lifts the accuracy of single windows. The intervals come from a bootstrap over recordings:

{chr(10).join(lifts)}

Each change of motion costs the filter a window or two, so short motions gain less. No posterior of a stream of 200
seconds differs by more than {bayes["difference_from_scipy"]:.0e} from the sum in logarithms that SciPy gives.
"""


def _recordings(part: str) -> list[Recording]:
    found = []
    for file in sorted((MODELS / NAME / "data" / part).rglob("*.csv")):
        with file.open(encoding="utf-8") as lines:
            rows = list(csv.reader(lines))[1:]
        values = np.array(rows, np.float32)[:, 1:]
        found.append(Recording(f"{part}/{file.parent.name}/{file.stem}", file.parent.name, values))
    return found


def _joined(recordings: Sequence[Recording], together: int, seed: int) -> list[Recording]:
    """Return the recordings in a drawn order, in bouts of so many of one motion."""
    random = np.random.default_rng(seed)
    bouts = []
    for label in sorted({one.label for one in recordings}):
        own = [one for one in recordings if one.label == label]
        own = [own[place] for place in random.permutation(len(own))]
        bouts += [own[start : start + together] for start in range(0, len(own), together)]
    return [one for place in random.permutation(len(bouts)) for one in bouts[place]]


def _windows(recording: Recording) -> range:
    return range(len(recording.values) // SIZE)


def _together(parts: Sequence[Windows]) -> Windows:
    return Windows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _decoder(temperature: float) -> dict[str, Any]:
    return {"kind": "classify", "activation": "softmax", "temperature": temperature, "top_k": 4}


def _smooth(windows: int) -> list[dict[str, Any]]:
    return [{"kind": "smooth", "windows": windows, "threshold": 0.0}]


def _bayes(stay: float, weight: float) -> list[dict[str, Any]]:
    return [{"kind": "bayes", "stay": stay, "weight": weight}]


def _run(streams: Sequence[list[Recording]], decoder: dict[str, Any], stages: list[dict[str, Any]]) -> Windows:
    """Run the bundle on each stream, as a device does."""
    right: list[str] = []
    found: list[tuple[str, float]] = []
    for stream in streams:
        with _opened(decoder, stages) as pipeline:
            for recording in stream:
                for result in pipeline.feed(recording.values):
                    best = result.output.top[0]
                    right.append(recording.label)
                    found.append((best.label, best.score or 0.0))
    labels, scores = zip(*found, strict=True)
    return Windows(np.array(right), np.array(labels), np.array(scores))


def _opened(decoder: dict[str, Any], stages: list[dict[str, Any]]) -> Pipeline[Classification]:
    (bundle,) = (MODELS / NAME).glob("*.limpet")
    return Pipeline(bundle, output=Classification, decoder=decoder, postprocess=stages)


def _likelihood(streams: Sequence[list[Recording]], decoder: dict[str, Any], stage: list[dict[str, Any]]) -> float:
    """Return the mean logarithm of the posterior of the right class."""
    total: list[float] = []
    for stream in streams:
        with _opened(decoder, stage) as pipeline:
            total += [
                (result.output.posterior or {}).get(recording.label, 0.0)
                for recording in stream
                for result in pipeline.feed(recording.values)
            ]
    return float(np.log(np.maximum(total, 1e-5)).mean())


def _temperature(stream: list[Recording]) -> float:
    """Return the temperature with the least mean logarithmic loss on the calibration's windows."""
    temperatures = np.geomspace(0.5, 4, 25)
    losses = []
    for one in temperatures:
        with _opened(_decoder(float(one)), []) as pipeline:
            scores = [
                {each.label: each.score for each in result.output.top}.get(recording.label) or 1e-6
                for recording in stream
                for result in pipeline.feed(recording.values)
            ]
        losses.append(-np.log(scores).mean())
    return round(float(temperatures[int(np.argmin(losses))]), 3)


def _kept(halves: Sequence[Judged]) -> tuple[float, float]:
    """Return which share of the judged windows scores high enough, and the accuracy of these."""
    kept, right = [], []
    for chosen, found in halves:
        order = np.argsort(-chosen.score, kind="stable")
        shares = (chosen.right == chosen.found)[order].cumsum() / np.arange(1, len(order) + 1)
        enough = np.flatnonzero(shares >= STATED)
        threshold = chosen.score[order[enough[-1]]] if len(enough) else np.inf
        kept.append(found.score >= threshold)
        right.append((found.right == found.found)[kept[-1]])
    return float(np.concatenate(kept).mean()), float(np.concatenate(right).mean())


def _lift_interval(single: Windows, bayes: Windows, names: Sequence[str]) -> tuple[float, float]:
    """Return the 95 % interval of the lift. Recordings are drawn again, as their windows are alike."""
    gain = (bayes.right == bayes.found).astype(float) - (single.right == single.found)
    _, places = np.unique(names, return_inverse=True)
    each = np.bincount(places, gain) / np.bincount(places)
    drawn = np.random.default_rng(3).choice(each, (RESAMPLES, len(each))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def _pictures(part: str) -> Windows:
    """Return what the digits' bundle says of the windows of a part."""
    samples, arrays = (np.load(MODELS / PICTURES / f"{name}.npz") for name in ("samples", "data"))
    (path,) = (MODELS / PICTURES).glob("*.limpet")
    decoder = {"kind": "classify", "activation": "softmax"}
    shape = samples[part].shape[2:]
    with Pipeline(path, output=Classification, decoder=decoder, shape=shape) as pipeline:
        right = np.array(pipeline.labels)[arrays[f"{part}_targets"]]
        best = [pipeline.infer(values).output.top[0] for values in samples[part]]
    return Windows(right, np.array([one.label for one in best]), np.array([one.score or 0.0 for one in best]))


def _difference(stream: list[Recording], decoder: dict[str, Any], stay: float, weight: float) -> float:
    """Return the largest difference of the filter's posteriors from those that logarithms and SciPy give."""
    with _opened(decoder, []) as single, _opened(decoder, _bayes(stay, weight)) as filtered:
        values = np.concatenate([one.values for one in stream])
        scores = [{one.label: one.score for one in result.output.top} for result in single.feed(values)]
        posteriors = [result.output.posterior or {} for result in filtered.feed(values)]
    labels = sorted(scores[0])
    evidence = weight * np.log(np.clip([[row[label] or 0.0 for label in labels] for row in scores], 1e-4, 1))
    log_moves = np.log(stay * np.eye(len(labels)) + (1 - stay) / len(labels))
    belief = evidence[0] - logsumexp(evidence[0])
    worst = 0.0
    for step, row in enumerate(evidence):
        if step:
            belief = logsumexp(belief[:, None] + log_moves, axis=0) + row
            belief -= logsumexp(belief)
        found = np.array([posteriors[step][label] for label in labels])
        worst = max(worst, float(np.abs(found - np.exp(belief)).max()))
    return worst
