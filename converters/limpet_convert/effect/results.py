"""Reads results of devices, and what people said about them, from JSON lines. The files are not trusted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.contracts.commands import Feedback
from limpet.contracts.messages import ResultMessage
from limpet.contracts.outputs import (
    Anomaly,
    Classification,
    Cluster,
    Detections,
    Embedding,
    Keypoints,
    Keyword,
    Labels,
    Regression,
    Segmentation,
)
from limpet.errors import UnreadableError
from limpet.inference.agreement import answer
from limpet.untrusted import reading
from limpet.updates.answers import is_right
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LARGEST_LINE = 1 << 22
"""Bytes of a line: a batch of results, or one large result."""
MEASURES = "right, latency, score, abstained, label:NAME or value:NAME"
_TYPES: tuple[tuple[str, Any], ...] = (
    ("detections", Detections),
    ("poses", Keypoints),
    ("regions", Segmentation),
    ("anomalous", Anomaly),
    ("in_range", Regression),
    ("keyword", Keyword),
    ("similarity", Embedding),
    ("distance", Cluster),
    ("labels", Labels),
    ("top", Classification),
)
"""Types of outputs by a field that each has and those after it do not."""


@dataclass(frozen=True)
class Measured:
    """One window: where and when it was, which model made its result, and the number that is compared.

    ``time``: seconds of the Unix clock. ``value`` is ``None`` if the window has no such number.
    """

    device: str
    sample: int
    time: float
    model: str
    value: float | None


@dataclass
class ReadResults:
    """All windows of one pipeline, each once. ``left_out``: lines or results that were not used, by reason."""

    windows: list[Measured] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read(paths: Sequence[Path], pipeline: str, measure: str, truth: Sequence[Path] = ()) -> ReadResults:
    """Read the results of a pipeline of all devices, and measure each. ``ConvertError`` for a wrong measure."""
    known = _truths(truth)
    if measure == "right" and not truth:
        raise ConvertError("--measure right: needs the truth. Add --truth with a file of feedback")
    found, seen = ReadResults(), set[str]()
    for path in paths:
        for line in _lines(path, found.left_out):
            for result in _results(line, found.left_out):
                if result.id in seen:
                    found.left_out["results that came twice"] += 1
                elif pipeline not in {"", result.pipeline}:
                    found.left_out["results of other pipelines"] += 1
                else:
                    seen.add(result.id)
                    found.windows.append(_measured(result, measure, known))
    return found


def _lines(path: Path, left_out: Counter[str]) -> Iterator[bytes]:
    """Yield the lines of a file. ``ConvertError`` if it cannot be read."""
    try:
        with path.open("rb") as file:
            while line := file.readline(LARGEST_LINE):
                if len(line) == LARGEST_LINE and not line.endswith(b"\n"):
                    left_out["pieces of lines that are too long"] += 1
                elif line.strip():
                    yield line
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}") from error


def _results(line: bytes, left_out: Counter[str]) -> Iterator[ResultMessage]:
    """Yield the results in a line: an object of ``jsonl``, or a payload of MQTT."""
    try:
        with reading("a line"):
            made = msgspec.json.decode(line)
    except UnreadableError:
        left_out["lines that are no JSON"] += 1
        return
    for one in made if isinstance(made, list) else [made]:
        if not isinstance(one, dict) or one.get("type", "result") != "result":
            left_out["messages that are no results"] += 1
            continue
        try:
            with reading("a result"):
                yield msgspec.convert(one, ResultMessage)
        except UnreadableError:
            left_out["messages that are no results"] += 1


def _truths(paths: Sequence[Path]) -> dict[str, Feedback]:
    """Return what people said, by the id of the result. The last one of an id counts. ``ConvertError``."""
    known: dict[str, Feedback] = {}
    for path in paths:
        for number, line in enumerate(_lines(path, Counter()), 1):
            try:
                with reading("it"):
                    one = msgspec.json.decode(line, type=Feedback)
            except UnreadableError as error:
                raise ConvertError(
                    f"{path}: line {number}: {error}; each line is a payload of `feedback`"
                ) from error
            known[one.id] = one
    return known


def _measured(result: ResultMessage, measure: str, truths: dict[str, Feedback]) -> Measured:
    value = _value(result, measure, truths)
    model = f"{result.model}@{result.version}"
    return Measured(result.device, result.sample, result.time.timestamp(), model, value)


def _value(result: ResultMessage, measure: str, truths: dict[str, Feedback]) -> float | None:
    output = result.output if isinstance(result.output, dict) else {}
    kind, _, name = measure.partition(":")
    if measure == "latency":
        return result.latency_us
    if measure == "right":
        return _right(output, truths.get(result.id))
    if measure in {"abstained", "score"}:
        return _number(output.get(measure, False if measure == "abstained" else None))
    if kind == "label" and name:
        return _says(output, name)
    if kind == "value" and name:
        values = output.get("values")
        return _number((values if isinstance(values, dict) else output).get(name))
    raise ConvertError(f"--measure: there is no {json.dumps(measure)}; use {MEASURES}")


def _says(output: dict[str, Any], label: str) -> float | None:
    made = typed(output)
    if made is None:
        return None
    said = answer(made).value
    return float(label in said) if isinstance(said, list) else float(said == label)


def _right(output: dict[str, Any], said: Feedback | None) -> float | None:
    made = typed(output)
    if said is None or made is None:
        return None
    truth = float(said.truth) if isinstance(said.truth, int | float) else said.truth
    right = is_right(answer(made), truth, said.tolerance or 0.0)
    return None if right is None else float(right)


def typed(output: dict[str, Any]) -> Any:
    """Return an output of JSON as the struct that it was, ``None`` if it is of no known decoder."""
    for key, kind in _TYPES:
        if key in output:
            try:
                with reading("an output"):
                    return msgspec.convert(output, kind)
            except UnreadableError:
                return None
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
