"""``limpet-convert verify``: compare the quantized model with the float model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpet_convert import compare, data, on_device, pairing, project
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from limpet_convert.compare import Comparison
    from limpet_convert.devices import Device
    from limpet_convert.on_device import OnDevice
    from limpet_convert.project import Project

HELP = "Compare the variants with the float model on held-back data"
GROUP = "steps"
EXAMPLES = (
    ("limpet-convert verify", "Exit status 1 if the packaged variant misses a threshold."),
    ("limpet-convert verify --device ssh://pi@kitchen.local", "Compare on a device, too."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(parser)
    _shared.add_device(parser)
    _shared.add_json(parser)
    parser.add_argument(
        "--models",
        type=Path,
        nargs=2,
        metavar=("FLOAT", "OTHER"),
        help="Compare two model files of any format on the held-back data.",
    )


def main(arguments: argparse.Namespace) -> int:
    """Return 0 if the packaged variant keeps every threshold."""
    wanted = project.read(arguments.project)
    device = _shared.device(arguments)
    document: dict[str, Any] = {}
    lines: list[str] = []
    if arguments.models:
        comparisons, there = _models(wanted, arguments.models, device)
    else:
        conversion = _shared.conversion(wanted, arguments.output)
        conversion.verify(device)
        comparisons, there = conversion.comparisons, conversion.there
        document["report"] = conversion.folder / "report.md"
        lines += [*_shared.faulty_layer_lines(conversion.diagnosed), f"report: {document['report']}"]
    if there:
        lines += _shared.device_lines(there)
        document["device"] = there.as_dict()
        comparisons = [*comparisons, there.exact]
    passed = not any(one.failures for one in comparisons)
    document |= {"passed": passed, "variants": {one.variant: one.as_dict() for one in comparisons}}
    _shared.emit(arguments, document, [*lines, *_shared.comparison_lines(comparisons)])
    return 0 if passed else 1


def _models(
    wanted: Project, models: Sequence[Path], device: Device | None
) -> tuple[list[Comparison], OnDevice | None]:
    """Compare the second of two model files with the first, here and on the device."""
    first, second = models
    windows = data.held_back(wanted)
    exact, other = (compare.run(path, windows.values) for path in (first, second))
    other = replace(other, values=pairing.ordered(exact.values, other.values))
    found = compare.judged(compare.compare(second.name, exact, other, windows, wanted.bundle), wanted.verify)
    if device is None:
        return [found], None
    return [found], on_device.measure(device, second, exact, other, windows, wanted.bundle, wanted.verify)
