"""The demo's telemetry with its labels, and how well scores in results tell anomalies from other rows."""

from __future__ import annotations

import csv
import gzip
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

CHANNELS = [f"f{number}" for number in range(1, 10)]


def rows(count: int) -> tuple[list[str], np.ndarray]:
    """Return the first rows as lines of CSV without their labels, and which of them are anomalies."""
    packed = resources.files("limpet").joinpath("demo_data", "shuttle-test.csv.gz").read_bytes()
    _, *read = list(csv.reader(gzip.decompress(packed).decode().splitlines()))[: count + 1]
    return [",".join(row[:-1]) for row in read], np.array([row[-1] == "1" for row in read])


def area_under_roc(scores: np.ndarray, anomalous: np.ndarray) -> float:
    """Return how often an anomaly has a higher score than another row. Ties count half."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    many = int(anomalous.sum())
    return float((ranks[anomalous].sum() - many * (many + 1) / 2) / (many * (len(scores) - many)))


def area_of_results(results: Iterable[dict[str, Any]], anomalous: np.ndarray) -> float:
    """Return the area for a daemon's results of single rows that its model did not learn from.

    ``anomalous`` has the label of each row, by the ordinal of the sample in its source.
    """
    learned = [result for result in results if not result["output"]["untrained"]]
    scores = np.array([result["output"]["score"] for result in learned])
    return area_under_roc(scores, anomalous[[result["sample"] % len(anomalous) for result in learned]])
