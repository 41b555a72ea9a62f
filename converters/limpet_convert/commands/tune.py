"""``limpet-convert tune``: which variant and observer suit a target."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from limpet_convert import profiles, project, tuning
from limpet_convert.commands import _shared
from limpet_convert.conversion import FLOAT
from limpet_convert.errors import ConvertError
from limpet_convert.project import Observer
from limpet_convert.tuning import Candidate, Here, Target, There

if TYPE_CHECKING:
    import argparse

    from limpet_convert.conversion import Conversion
    from limpet_convert.devices import Device
    from limpet_convert.profiles import Profile
    from limpet_convert.project import Project, Variant
    from limpet_convert.tuning import Clock

HELP = "Find the variant that meets a target of size, time and loss"
GROUP = "look"
EXAMPLES = (
    ("limpet-convert tune", "Print size, time and loss of each variant."),
    (
        "limpet-convert tune --size 100000 --loss 1",
        "Mark the variants of at most 100 kB that lose at most 1 point.",
    ),
    ("limpet-convert tune --device ssh://pi@kitchen.local", "Measure the time on a device."),
)
PLAIN: tuple[Variant, ...] = ("float16", "dynamic")
CALIBRATED: tuple[Variant, ...] = ("int8", "int16x8", "mixed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(parser)
    parser.add_argument("--size", type=int, metavar="BYTES", help="Target: maximum size of the model.")
    parser.add_argument(
        "--loss", type=float, metavar="POINTS", help="Target: maximum loss of the metric, in hundredths."
    )
    parser.add_argument("--latency", type=float, metavar="MICROSECONDS", help="Target: maximum time of a run.")
    parser.add_argument(
        "--profile",
        metavar="NAME|FILE",
        help=f"Leave out variants that this device cannot run, and estimate times: {', '.join(profiles.names())}.",
    )
    parser.add_argument(
        "--measure-profile",
        type=Path,
        metavar="FILE",
        help="Write a profile of --device to this file, and end.",
    )
    _shared.add_device(parser)
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Return 1 if no candidate meets the target."""
    device = _shared.device(arguments)
    if device and not device.any_model:
        raise ConvertError("--device: a pipeline at work runs the model that it has; tune takes ssh://...")
    if arguments.measure_profile:
        return _measure_profile(arguments, device)
    profile = profiles.read(arguments.profile) if arguments.profile else None
    wanted = project.read(arguments.project)
    folder = arguments.output or wanted.build
    candidates = _Trial(wanted, folder, _clock(device, profile), profile).candidates()
    best = tuning.front(candidates)
    target = Target(arguments.size, arguments.loss, arguments.latency)
    rows = [
        asdict(one) | {"on_front": one in best, "meets_target": target.met(one)}
        for one in sorted(candidates, key=lambda c: c.size)
    ]
    plot = folder / "tune.png"
    tuning.plot(plot, candidates, best, "metric")
    lines = [*map(_line, rows), "* on the Pareto front, + meets the target", f"plot: {plot}"]
    _shared.emit(arguments, {"candidates": rows, "plot": plot}, lines)
    return 0 if any(row["meets_target"] for row in rows) else 1


def _line(row: dict[str, Any]) -> str:
    marks = ("*" if row["on_front"] else " ") + ("+" if row["meets_target"] else " ")
    time = row["refused"] or f"{row['microseconds']:10.1f} µs, {row['timed']}"
    return f"{marks} {row['name']:20} {row['size']:>10,} B  {row['loss']:6.2f} points  {time}"


def _measure_profile(arguments: argparse.Namespace, device: Device | None) -> int:
    path: Path = arguments.measure_profile
    if device is None:
        raise ConvertError("--measure-profile: of which device? Name it, as --device ssh://pi@kitchen.local")
    path.write_text(profiles.toml(profiles.measure(device)), encoding="utf-8")
    _shared.emit(arguments, {"profile": path}, [f"profile: {path}"])
    return 0


def _clock(device: Device | None, profile: Profile | None) -> Clock:
    """Return what measures times: the device, else its profile, else this machine."""
    if device is not None:
        return There(device)
    return profiles.Estimate(profile, Here()) if profile and profile.run_us else Here()


class _Trial:
    """All candidates of a project, made and measured."""

    def __init__(self, wanted: Project, folder: Path, clock: Clock, profile: Profile | None) -> None:
        self._wanted = wanted
        self._folder = folder
        self._clock = clock
        self._profile = profile

    def candidates(self) -> list[Candidate]:
        """Make and measure each."""
        first = _shared.conversion(self._wanted, self._folder)
        found = [self._measured(first, variant, variant) for variant in PLAIN]
        found.append(self._candidate(first, "float", "float", first.folder / FLOAT, 0.0))
        for observer in get_args(Observer):
            quantize = msgspec.structs.replace(self._wanted.quantize, observer=observer)
            changed = msgspec.structs.replace(self._wanted, quantize=quantize)
            conversion = _shared.conversion(changed, self._folder / f"tune-{observer}")
            found += [self._measured(conversion, variant, f"{variant} {observer}") for variant in CALIBRATED]
        return found

    def _measured(self, conversion: Conversion, variant: Variant, name: str) -> Candidate:
        path = conversion.variant(variant)
        return self._candidate(conversion, variant, name, path, conversion.measure(variant).metric_loss_points)

    def _candidate(
        self, conversion: Conversion, variant: Variant, name: str, path: Path, loss: float
    ) -> Candidate:
        size = path.stat().st_size
        if self._profile and (refused := self._profile.refusal(variant, size)):
            return Candidate(name, size, loss, 0.0, refused=refused)
        with conversion.progress.step(f"time {name}"):
            time = self._clock(path, conversion.test.values, variant)
        return Candidate(name, size, loss, time, self._clock.label)
