"""``limpet demo``: real data through the real daemon, watched by an ordinary MQTT client."""

from __future__ import annotations

import importlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet.errors import LimpetError, UsageError
from limpet.option_values import positive

if TYPE_CHECKING:
    import argparse
    from typing import TextIO

HELP = "Play recorded data through the daemon and score the results"
GROUP = "start"
EXAMPLES = (
    ("limpet demo", "Find anomalies in telemetry for 20 seconds."),
    ("limpet demo camera", "Find faces in a video, and show them in the terminal."),
    ("limpet demo camera --output faces.mp4", "Save the video with the boxes."),
    ("limpet demo audio", "Hear a wake word in a recording."),
    ("limpet demo --broker mqtt://localhost:1883", "Use your own broker."),
)

_NEEDS = {
    "telemetry": {"rich": "demo"},
    "camera": {"rich": "demo", "av": "camera", "PIL": "camera"},
    "audio": {"rich": "demo", "pymicro_features": "audio"},
}
"""Modules that each demo imports, and the extras that have them."""
_ONLY = {"rate": "telemetry", "svg": "telemetry", "output": "camera"}
"""Options of one demo alone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "what",
        nargs="?",
        choices=tuple(_NEEDS),
        default="telemetry",
        help="telemetry of a space shuttle, a camera or sound. Default: telemetry.",
    )
    parser.add_argument(
        "--seconds",
        type=positive,
        help="Time to play for. Default: 20 for telemetry; otherwise the whole recording once.",
    )
    parser.add_argument("--rate", type=positive, help="Rows of telemetry a second. Default: 500.")
    parser.add_argument(
        "--broker",
        metavar="URL",
        help="Your own MQTT 5 broker, as mqtt://HOST:PORT. Default: one that the demo starts.",
    )
    parser.add_argument("--json", action="store_true", help="Print only the scoreboard, as one JSON object.")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="Save what the camera saw with its boxes: all of it (.mp4), or the best frame (.png, .jpg).",
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="Save a picture of the screen (telemetry).")


def main(args: argparse.Namespace) -> int:
    """Run the demo. Return 0 if nothing was lost and the model did its job, 1 if not."""
    what = args.what
    if wrong := [option for option, of in _ONLY.items() if of != what and vars(args)[option] is not None]:
        raise UsageError(f"limpet demo: --{wrong[0]} is for limpet demo {_ONLY[wrong[0]]} only")
    _require(what, own_broker=bool(args.broker))
    # Ended either way, the demo takes its daemon and its broker with it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    return _play(what, args, sys.stderr if args.json else sys.stdout)


def _require(what: str, *, own_broker: bool) -> None:
    """``LimpetError`` names the extras that a demo needs, if one is not installed."""
    command = "limpet demo" if what == "telemetry" else f"limpet demo {what}"
    extras = list(dict.fromkeys(_NEEDS[what].values()))
    install = f"pip install 'limpet[{','.join(extras)}]'"
    word = "extra" if len(extras) == 1 else "extras"
    named = f"the {word} {' and '.join(map(repr, extras))}: {install}"
    if not all(map(_is_installed, _NEEDS[what])):
        raise LimpetError(f"{command} needs {named}")
    if not own_broker and not _is_installed("iotcore"):
        raise LimpetError(
            f"the demo's own broker needs {named}. Or use yours: {command} --broker mqtt://localhost:1883"
        )


def _is_installed(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        return False
    return True


def _play(what: str, args: argparse.Namespace, out: TextIO) -> int:
    """Play a demo, and print its score."""
    board: msgspec.Struct
    if what == "camera":
        from limpet.demo import camera

        if args.output:
            camera.check_output(args.output)
        board = seen = camera.play(args.seconds, args.broker, args.output, out)
        camera.conclude(seen, out)
        passed = seen.passed
    elif what == "audio":
        from limpet.demo import audio

        board = heard = audio.play(args.seconds, args.broker, out)
        audio.conclude(heard, out)
        passed = heard.passed
    else:
        from limpet.demo import telemetry

        still, scored = telemetry.play(args.seconds or 20.0, args.rate or 500.0, args.broker, out)
        telemetry.conclude(still, scored, out, args.svg, quiet=args.json)
        board, passed = scored, scored.passed
    if args.json:
        sys.stdout.write(msgspec.json.encode(board).decode() + "\n")
    return 0 if passed else 1
