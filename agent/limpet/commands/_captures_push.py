"""``limpet captures push``: sends captures over HTTP or MQTT, within a policy. A timer may run it."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, get_args

import msgspec

from limpet.captures import consent, ring
from limpet.captures.form import LARGEST_FILE
from limpet.commands import _broker_options
from limpet.commands._captures_folder import add_folder, each, root_of
from limpet.contracts.captures import KeepHours, KeepOptions, Reason
from limpet.errors import TransportError, UnreadableError, UsageError
from limpet.untrusted import printable, read_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from limpet.captures.ring import Entry
    from limpet.contracts.captures import Capture

TEXT = "Send captures that were not sent yet, over HTTP(S) or MQTT, as far as the limits allow."


class Sender(Protocol):
    """Sends capture files."""

    def send(self, capture: Capture, data: bytes) -> None:
        """Send a capture file. ``TransportError`` if it does not arrive."""

    def close(self) -> None:
        """End the connection."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("url", metavar="URL", help="https://HOST/PATH, or mqtt://HOST[:PORT] and mqtts:// for a broker.")
    add_folder(parser)
    add(
        "--reasons",
        metavar="REASON,...",
        help=f"Reasons of captures to send: {', '.join(get_args(Reason))}. Default: all.",
    )
    add("--labelled", action="store_true", help="Send only captures that a person labelled.")
    add("--hours", metavar="BEGIN-END", help="Local time in which to send, as 22:00-06:00. Default: at any time.")
    add(
        "--most-bytes",
        metavar="BYTES",
        type=int,
        default=100_000_000,
        help="Bytes of one run. Default: 100000000.",
    )
    add(
        "--bytes-per-second",
        metavar="BYTES",
        type=float,
        default=100_000.0,
        help="Speed over MQTT. Default: 100000.",
    )
    add(
        "--delete",
        action="store_true",
        help="Delete captures once they were sent. Default: they go first if room is short.",
    )
    add("--headers-file", metavar="FILE", type=Path, help="File with HTTP headers, one a line. Default: none.")
    _broker_options.add_options(parser)
    parser.set_defaults(act=_push)


def _push(arguments: argparse.Namespace) -> int:
    reasons = _reasons(arguments.reasons)
    if arguments.hours and not _is_time(arguments.hours):
        print(f"nothing is sent outside of {arguments.hours}")
        return 0
    problems: list[str] = []
    found = [
        one
        for one in each(root_of(arguments), arguments.pipeline, problems)
        if not one.sent
        and not reasons.isdisjoint(one.capture.reasons)
        and (one.truth is not None or not arguments.labelled)
    ]
    left, sent = arguments.most_bytes, 0
    for device, group in groupby(found, lambda one: one.capture.device):
        for one in _send(arguments, device, list(group), problems, left):
            left, sent = left - one.size, sent + 1
    print(f"sent {sent} captures")
    for problem in problems:
        print(printable(problem), file=sys.stderr)
    return 1 if problems else 0


def _send(
    arguments: argparse.Namespace, device: str, found: list[Entry], problems: list[str], left: int
) -> Iterator[Entry]:
    """Send captures of a device, oldest first, and yield those that arrived. A failure ends that.

    ``left``: bytes that may still be sent.
    """
    try:
        sender = _sender(arguments, device)
    except TransportError as error:
        problems.append(f"{arguments.url}: {error}")
        return
    try:
        for one in found:
            if one.size > left:
                break
            left -= one.size
            try:
                sender.send(one.capture, read_file(one.path, LARGEST_FILE))
            except (FileNotFoundError, UnreadableError):  # evicted meanwhile, or damaged
                continue
            ring.delete(one.path) if arguments.delete else ring.mark_sent(one.path)
            yield one
    except TransportError as error:
        problems.append(str(error))
    finally:
        sender.close()


def _sender(arguments: argparse.Namespace, device: str) -> Sender:
    scheme = arguments.url.partition("://")[0].lower()
    if scheme in {"http", "https"}:
        from limpet.distribution.capture_http import HttpSender

        return HttpSender(arguments.url, arguments.ca_file, arguments.headers_file)
    from limpet.distribution.capture_mqtt import MqttSender

    broker = _broker_options.settings("limpet captures push", arguments, arguments.url)
    return MqttSender(broker, device, arguments.bytes_per_second)


def _reasons(text: str | None) -> frozenset[str]:
    known = get_args(Reason)
    named = known if text is None else text.split(",")
    if unknown := [name for name in named if name not in known]:
        raise UsageError(
            f"limpet captures push: --reasons: there is no {unknown[0]!r}; there are {', '.join(known)}"
        )
    return frozenset(named)


def _is_time(text: str) -> bool:
    begin, _, end = text.partition("-")
    try:
        hours = msgspec.convert({"begin": begin, "end": end}, KeepHours)
    except msgspec.ValidationError as error:
        raise UsageError(f"limpet captures push: --hours {text!r}: write it as 22:00-06:00") from error
    return consent.may_keep(KeepOptions(hours=hours), datetime.now(timezone.utc).astimezone())
