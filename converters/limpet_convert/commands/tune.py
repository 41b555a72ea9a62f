"""``limpet-convert tune``: which variant and observer suit a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import msgspec

from limpet_convert import project, tuning
from limpet_convert.commands import _shared
from limpet_convert.project import Observer
from limpet_convert.steps import FLOAT, Way
from limpet_convert.tuning import Candidate, Target

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from limpet_convert.project import Project, Variant

HELP = "try the variants and observers, print the Pareto front of size, time and loss, and what meets a target"
PLAIN: tuple[Variant, ...] = ("float16", "dynamic")
CALIBRATED: tuple[Variant, ...] = ("int8", "int16x8", "mixed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(parser)
    parser.add_argument("--size", type=int, metavar="BYTES", help="at most so large")
    parser.add_argument("--loss", type=float, metavar="POINTS", help="at most so many points of the metric lost")
    parser.add_argument(
        "--latency", type=float, metavar="MICROSECONDS", help="at most so long a run, measured here"
    )


def main(arguments: argparse.Namespace) -> int:
    """Return 1 where nothing meets the target."""
    wanted = project.read(arguments.project)
    folder = arguments.out or wanted.build
    candidates = _candidates(wanted, folder)
    best = tuning.front(candidates)
    target = Target(arguments.size, arguments.loss, arguments.latency)
    for one in sorted(candidates, key=lambda c: c.size):
        marks = ("*" if one in best else " ") + ("+" if target.met(one) else " ")
        print(f"{marks} {one.name:20} {one.size:>10,} B  {one.loss:6.2f} points  {one.microseconds:8.1f} µs")
    print("* on the Pareto front, + meets the target")
    tuning.plot(folder / "tune.png", candidates, best, "metric")
    print(f"plot: {folder / 'tune.png'}")
    return 0 if any(target.met(one) for one in candidates) else 1


def _candidates(wanted: Project, folder: Path) -> list[Candidate]:
    first = _shared.way(wanted, folder)
    found = [_measured(first, variant, variant) for variant in PLAIN]
    exact = tuning.median_microseconds(folder / FLOAT, first.test.values)
    found.append(Candidate("float", len(first.model), 0.0, exact))
    for observer in get_args(Observer):
        changed = msgspec.structs.replace(
            wanted, quantize=msgspec.structs.replace(wanted.quantize, observer=observer)
        )
        way = _shared.way(changed, folder / f"tune-{observer}")
        found += [_measured(way, variant, f"{variant} {observer}") for variant in CALIBRATED]
    return found


def _measured(way: Way, variant: Variant, name: str) -> Candidate:
    path = way.variant(variant)
    one = way.measure(variant)
    return Candidate(name, one.size, one.metric_loss_points, tuning.median_microseconds(path, way.test.values))
