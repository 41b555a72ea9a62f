"""``limpet model send``: sends a bundle over MQTT to the devices that request it."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.commands import _broker_options
from limpet.contracts.updates import LARGEST_DESIRED
from limpet.errors import LimpetError, UsageError
from limpet.option_values import positive
from limpet.untrusted import printable, read_file
from limpet.wording import counted, listed

if TYPE_CHECKING:
    import argparse

    from limpet.distribution.sending import Request

TEXT = "Send a bundle over MQTT to all devices that request it."
BYTES_PER_SECOND, IDLE = 1e6, 150.0
_ID = re.compile(r"[^/+#\x00-\x1f]+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="Bundle, or any other file that a desired state names.")
    add(
        "broker",
        metavar="URL",
        nargs="?",
        help="Broker, as mqtt://HOST or mqtts://[USER@]HOST. Default: none; the command prints what a desired "
        "state needs, and ends.",
    )
    add("--desired", type=Path, metavar="FILE", help="Desired state to publish first, for each --device.")
    add("--pipeline", metavar="NAME", help="Pipeline of the desired state.")
    add(
        "--device",
        metavar="ID",
        action="append",
        default=[],
        help="Device that gets the desired state. Can be repeated.",
    )
    add("--topic", default="limpet", help="Parent of the devices' topics. Default: limpet.")
    add(
        "--bytes-per-second",
        type=positive,
        default=BYTES_PER_SECOND,
        metavar="BYTES",
        help="How fast to send. Default: 1000000.",
    )
    add(
        "--wait",
        action="store_true",
        help="Send until each --device reports good, failed or rolled_back. Without --device, each device that "
        "requested chunks.",
    )
    add(
        "--seconds",
        type=positive,
        default=IDLE,
        metavar="SECONDS",
        help="Without --wait, end after no device has requested anything for this long. Default: 150.",
    )
    add("--keep", action="store_true", help="Leave the list of chunks at the broker.")
    _broker_options.add_options(parser)
    parser.set_defaults(act=send)


def send(arguments: argparse.Namespace) -> int:
    """Send. Return 1 if a device failed."""
    from limpet.distribution.chunked_file import ChunkedFile

    request = _request(arguments)
    try:
        file = ChunkedFile(arguments.file)
    except OSError as error:
        raise LimpetError(f"{arguments.file}: {error.strerror}") from error
    print(f"sha256 {file.sha256}\nlength {file.length}\nchunks {file.list_sha256}", flush=True)
    if arguments.broker is None:
        return 0
    from limpet.distribution.sending import Plan, Sending

    plan = Plan(
        arguments.topic.strip("/"),
        arguments.bytes_per_second,
        arguments.seconds,
        request,
        arguments.wait,
        arguments.keep,
    )
    broker = _broker_options.settings("limpet model send", arguments, arguments.broker)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same end as with Ctrl-C
    sending = Sending(broker, file, plan, _say)
    try:
        sending.run()
    finally:
        sent, devices = sending.rounds.sent, len(sending.fleet.asked)
        _say(f"{counted(sent, 'chunk')} sent to {counted(devices, 'device')}")
        if plan.wait and (left := sending.fleet.unfinished()):
            _say(f"not finished on {listed(left)}. The desired state stays at the broker")
    if failed := sending.fleet.failed():
        raise LimpetError(f"not good on {listed(failed)}")
    return 0


def _say(line: str) -> None:
    print(printable(line), flush=True)


def _request(arguments: argparse.Namespace) -> Request | None:
    """Return the desired state to publish, if there is one. ``UsageError`` if an option is missing."""
    for device in arguments.device:
        if not _ID.fullmatch(device):
            raise UsageError(f"limpet model send: --device {device}: an id has no '/', '+' or '#'")
    if arguments.desired is None:
        if arguments.device or arguments.pipeline:
            raise UsageError("limpet model send: --device and --pipeline go with --desired FILE")
        return None
    if not (arguments.device and arguments.pipeline and arguments.broker):
        raise UsageError("limpet model send: --desired needs a URL, --pipeline NAME and --device ID")
    if not _ID.fullmatch(arguments.pipeline):
        raise UsageError(f"limpet model send: --pipeline {arguments.pipeline}: a name has no '/', '+' or '#'")
    from limpet.distribution.sending import Request

    try:
        payload = read_file(arguments.desired, LARGEST_DESIRED)
    except OSError as error:
        raise LimpetError(f"{arguments.desired}: {error.strerror}") from error
    return Request(payload, arguments.pipeline, tuple(dict.fromkeys(arguments.device)))
