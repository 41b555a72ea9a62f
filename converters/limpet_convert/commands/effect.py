"""``limpet-convert effect``: what a new model changed, on what devices measured themselves."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpet_convert.commands import _shared
from limpet_convert.effect import arms, posterior, results
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from limpet_convert.effect.arms import Arms
    from limpet_convert.effect.posterior import Effect
    from limpet_convert.effect.results import ReadResults

HELP = "Estimate what a new model changed, from results of devices"
GROUP = "look"
_MODELS = "--old motion@7 --new motion@8"
EXAMPLES = (
    (
        f"limpet-convert effect press-*.jsonl {_MODELS} --share 0.5 --measure latency",
        "Windows were drawn, by the policy's share.",
    ),
    (
        f"limpet-convert effect *.jsonl {_MODELS} --share 0.5 --measure right --truth said.jsonl",
        "Compare how often both were right.",
    ),
    (
        f"limpet-convert effect *.jsonl {_MODELS} --rollout spring --share 0.2 --measure label:jam",
        "Devices were drawn, for a rollout.",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add(
        "results",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="Results of devices: JSON lines, as jsonl writes them.",
    )
    add("--old", required=True, metavar="NAME@VERSION", help="The old model.")
    add("--new", required=True, metavar="NAME@VERSION", help="The new model.")
    add("--measure", required=True, metavar="WHAT", help=f"What is compared: {results.MEASURES}.")
    add("--pipeline", default="", metavar="NAME", help="Results of this pipeline only. Default: all.")
    add(
        "--share", type=float, metavar="SHARE", help="Share of windows or devices drawn for the new model, 0 to 1."
    )
    add("--rollout", default="", metavar="NAME", help="Rollout that devices were drawn for. Default: windows.")
    add(
        "--truth",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="What people said: a payload of feedback on each line. Can be repeated.",
    )
    add(
        "--least",
        type=float,
        metavar="SIZE",
        help="Smallest effect that matters. Default: any.",
    )
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the effect. Exit status 0 if something is known, 1 if data are too few or arms not comparable."""
    if arguments.share is not None and not 0 < arguments.share < 1:
        raise ConvertError(f"--share: {arguments.share} is not between 0 and 1")
    if arguments.least is not None and arguments.least <= 0:
        raise ConvertError(f"--least: {arguments.least} is not above 0")
    if arguments.rollout and arguments.share is None:
        raise ConvertError("--rollout: needs --share, the share of the devices that it draws")
    read = results.read(arguments.results, arguments.pipeline, arguments.measure, arguments.truth)
    drawn = arms.draw(read.windows, arguments.old, arguments.new, arguments.share, arguments.rollout)
    found = posterior.effect(drawn, arguments.least)
    _shared.emit(arguments, _document(found, drawn, read), _lines(arguments, found, drawn, read))
    return int(found.verdict in {"too_few", "not_comparable"})


def _document(found: Effect, drawn: Arms, read: ReadResults) -> dict[str, Any]:
    about = {
        "unit": drawn.unit,
        "devices": drawn.devices,
        "other_model": drawn.other_model,
        "mismatch": drawn.mismatch,
        "problems": drawn.problems,
        "notes": drawn.notes,
        "left_out": dict(read.left_out),
    }
    return asdict(found) | about


def _lines(arguments: argparse.Namespace, found: Effect, drawn: Arms, read: ReadResults) -> Iterator[str]:
    clusters = f"{found.clusters} {'devices' if drawn.unit == 'devices' else 'blocks of time'}"
    yield (
        f"{arguments.measure}: {arguments.old} {found.old:.4g} ({found.windows[0]:,} windows), "
        f"{arguments.new} {found.new:.4g} ({found.windows[1]:,} windows), {clusters}"
    )
    if found.verdict != "too_few":
        adjusted = ", adjusted for what devices measured before" if found.adjusted else ""
        yield f"effect {found.effect:+.4g}, 95 % between {found.low:+.4g} and {found.high:+.4g}{adjusted}"
        yield f"probability that {arguments.new} is higher: {found.higher:.1%}"
    yield from _verdict(arguments, found)
    yield from (f"note: {note}." for note in drawn.notes)
    if read.left_out:
        yield "left out: " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(read.left_out.items()))


def _verdict(arguments: argparse.Namespace, found: Effect) -> Iterator[str]:
    if found.verdict == "too_few":
        yield f"Too few data. {found.reason}."
    elif found.verdict == "not_comparable":
        yield f"The arms are not comparable, so this is no effect of the model. {found.reason}"
    elif found.verdict == "no_difference":
        yield f"There is no difference of {arguments.least:g} or more."
    elif found.verdict == "undecided":
        yield f"Undecided. About {found.needed:.1f} times the data would decide."
    else:
        yield f"{arguments.new} is {found.verdict}."
