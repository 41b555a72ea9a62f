"""``limpet-convert train``: from a folder of recordings to a bundle."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.errors import ConfigError
from limpet_convert.progress import Progress
from limpet_convert.training import job, outcome
from limpet_convert.training.wanted import Wanted

if TYPE_CHECKING:
    import argparse

HELP = "Train a small model from a folder of recordings"
GROUP = "start"
EXAMPLES = (
    ("limpet-convert train recordings", "Train a classifier of the labels, and write build/motion-1.limpet."),
    ("limpet-convert train recordings --test other-day", "Also measure the bundle on recordings of another day."),
    ("limpet-convert train recordings --task anomaly --name pump", "Learn what is normal."),
)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="Folder of recordings, as `limpet record` writes it.")
    add(
        "--task",
        choices=["classify", "anomaly", "regress"],
        default="classify",
        help="What to learn. Default: classify.",
    )
    add("--name", default="motion", help="Name of the bundle. Default: motion.")
    add(
        "--version",
        type=int,
        metavar="N",
        help="Version of the bundle. Default: the next one in the output folder.",
    )
    add("--output", type=Path, default=Path("build"), metavar="FOLDER", help="Folder for results. Default: build.")
    add("--budget", type=float, default=60.0, metavar="SECONDS", help="Time for the search. Default: 60.")
    add("--max-kb", type=float, metavar="N", help="Largest size of the model in KiB. Default: no limit.")
    add(
        "--target",
        default="",
        metavar="CHANNEL",
        help="For regress: channel to predict. Default: labels as numbers.",
    )
    add("--channels", default="", metavar="A,B", help="Channels to learn from. Default: all that are usable.")
    add("--window", type=int, metavar="SAMPLES", help="Length of a window. Default: chosen from the data.")
    add(
        "--false-alarms",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="For anomaly: share of normal windows that may be reported. Default: 0.01.",
    )
    add("--test", type=Path, metavar="FOLDER", help="More recordings, which only measure the bundle.")
    add("--framework", choices=["torch", "keras"], default="", help="Trainer. Default: what is installed.")
    add("--force", action="store_true", help="Write a bundle also if the model is no better than chance.")
    add("--json", action="store_true", help="Print the report as one JSON document.")


def main(arguments: argparse.Namespace) -> int:
    """Return 1 if the model is no better than chance. Then no bundle is written."""
    wanted = _wanted(arguments)
    stream = sys.stderr if arguments.json else sys.stdout

    def say(line: str) -> None:
        print(line, file=stream, flush=True)

    try:
        report = job.run(wanted, Progress(), say)
    except KeyboardInterrupt:
        print("Interrupted. No bundle was written.", file=sys.stderr)
        raise
    if arguments.json:
        print(msgspec.json.encode(report).decode())  # NaN as null, which JSON has
    else:
        _print(report, wanted)
    return 0 if report["bundle"] else 1


def _print(report: dict[str, Any], wanted: Wanted) -> None:
    print(outcome.summary(report))
    for line in report["advice"]:
        print(line)
    print(f"report: {wanted.output / outcome.MARKDOWN}")
    if report["bundle"]:
        print(f"bundle: {report['bundle']}")
    else:
        print(f"No bundle was written. {report['why']} Run again with --force to write one.")


def _wanted(arguments: argparse.Namespace) -> Wanted:
    problems = []
    if not _NAME.fullmatch(arguments.name):
        problems.append("--name: use small letters, digits, '.', '_' and '-', at most 64 characters")
    problems += [
        f"--{name.replace('_', '-')}: must be above 0"
        for name in ("budget", "max_kb", "window", "version")
        if (value := getattr(arguments, name)) is not None and not 0 < value < 1e9
    ]
    if not 0 < arguments.false_alarms < 1:
        problems.append("--false-alarms: must be between 0 and 1")
    there = arguments.output / f"{arguments.name}-{arguments.version}.limpet"
    if arguments.version is not None and there.exists():
        problems.append(f"--version: {there} exists. Leave --version out, or use a higher one.")
    if arguments.target and arguments.task != "regress":
        problems.append("--target: is for --task regress")
    problems += [
        f"{folder}: no such folder. Run: limpet record"
        for folder in (arguments.folder, arguments.test)
        if folder is not None and not folder.is_dir()
    ]
    if arguments.test and arguments.folder.is_dir() and arguments.test.resolve() == arguments.folder.resolve():
        problems.append("--test: is the folder that is learned from. Name one with other recordings.")
    if problems:
        raise ConfigError(problems)
    return Wanted(
        folder=arguments.folder,
        task=arguments.task,
        name=arguments.name,
        output=arguments.output,
        budget=arguments.budget,
        version=arguments.version,
        kilobytes=arguments.max_kb,
        target=arguments.target,
        channels=tuple(name.strip() for name in arguments.channels.split(",") if name.strip()),
        window=arguments.window,
        framework=arguments.framework,
        test=arguments.test,
        false_alarms=arguments.false_alarms,
        force=arguments.force,
    )
