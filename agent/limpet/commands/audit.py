"""``limpet audit``: what was installed, activated and commanded on this device; and a check of that."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from limpet import config
from limpet.audit import file as journal_file
from limpet.audit.entry import decode, head_of
from limpet.audit.sentences import sentence
from limpet.commands._state_directory import state_of
from limpet.errors import LimpetError, UsageError
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse

    from limpet.audit.chain import Chain
    from limpet.audit.entry import Entry

HELP = "Show or verify the journal of what was installed and commanded"
GROUP = "service"
EXAMPLES = (
    ("sudo limpet audit show", "Print what happened, one line each, oldest first."),
    ("limpet audit show --since 2026-11-28 --json", "Print the lines of the journal since that day."),
    ("sudo limpet audit verify", "Check that no line was changed, removed or inserted."),
    ("limpet audit verify --head 120:5f0c...", "Check also that the journal has the line that health named."),
)

_SHOW = "Print the journal as sentences, oldest first."
_VERIFY = "Check the chain of hashes. Exit status 1 if a line was changed, removed or inserted."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help=_SHOW, description=_SHOW)
    show.add_argument("--json", action="store_true", help="Print the lines as they are in the file.")
    show.add_argument(
        "--since",
        metavar="TIME",
        help="First time to show, in UTC, as 2026-11-28 or 2026-11-28T12:30. Default: all. "
        "Lines from before the clock was set are always shown.",
    )
    _add_place(show)
    show.set_defaults(act=_show)
    verify = actions.add_parser("verify", help=_VERIFY, description=_VERIFY)
    verify.add_argument(
        "--head",
        metavar="SEQ:HASH",
        help="Number and SHA-256 of a line, as the device's health published them in `audit`.",
    )
    _add_place(verify)
    verify.set_defaults(act=_verify)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="FILE", nargs="?", default=config.usual(), help=config.USUAL)
    parser.add_argument(
        "--state", type=Path, metavar="FOLDER", help="State directory. Default: the one in the configuration."
    )


def main(arguments: argparse.Namespace) -> int:
    """Do what was chosen. ``LimpetError`` if the journal cannot be read, or is not whole."""
    path = (arguments.state or state_of(arguments.config)) / journal_file.NAME
    try:
        status: int = arguments.act(path, arguments)
    except FileNotFoundError as error:
        raise LimpetError(f"there is no {path}; the daemon begins it at its first start") from error
    except OSError as error:
        raise LimpetError(f"{path}: {error.strerror}. Run this as root or as the user of the service") from error
    return status


# --- show


def _show(path: Path, arguments: argparse.Namespace) -> int:
    since = _time(arguments.since) if arguments.since else None
    for line in journal_file.lines(path):
        if not line.endswith(b"\n"):
            continue
        entry = decode(line[:-1])
        if since is None or entry.clock or entry.time >= since:
            print(printable(line[:-1].decode()) if arguments.json else sentence(entry))
    return 0


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise UsageError(
            f"limpet audit show: --since {text!r}: use a time as 2026-11-28 or 2026-11-28T12:30"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


# --- verify


def _verify(path: Path, arguments: argparse.Namespace) -> int:
    head = head_of(arguments.head) if arguments.head else None
    published = journal_file.published(path.parent)
    found = journal_file.read(path, [one for one in (head, published) if one])
    if found.problem:
        raise LimpetError(f"{path}: {found.problem}")
    if found.torn:
        torn = f"{path}: {len(found.torn)} bytes behind the last line are no line, as after a power cut"
        raise LimpetError(f"{torn}; the daemon sets them aside at its next start")
    chain = found.chain
    if chain.first is None or chain.head is None:
        raise LimpetError(f"{path}: it has no line")
    if head and not chain.has(head):
        raise LimpetError(f"{path}: line {head.seq} was cut since, so it cannot be compared with that head")
    print(printable(f"{path}: lines {chain.first.seq} to {chain.head.seq} are one chain"))
    for text in _remarks(chain.first, chain):
        print(printable(text))
    print(f"head {chain.head}")
    return 0


def _remarks(first: Entry, chain: Chain) -> list[str]:
    """Return what the chain reports about lines that are not there."""
    remarks = []
    if chain.last_cut:
        cut = chain.last_cut
        remarks.append(f"lines before number {cut.what.first} were cut on {cut.time:%Y-%m-%d}, by size")
    elif first.event == "begun":
        before = f"; it ended at number {first.seq - 1} before" if first.seq > 1 else ""
        remarks.append(f"the journal was begun again on {first.time:%Y-%m-%d}: {first.what.reason}{before}")
    if chain.lost:
        remarks.append(f"{chain.lost} lines could not be written, as lines `gap` say")
    return remarks
