"""``limpet captures list``: what is in a ring, or in a folder of captures."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from limpet.commands._captures_folder import add_folder, each, root_of
from limpet.untrusted import printable
from limpet.wording import answered

if TYPE_CHECKING:
    import argparse

    from limpet.captures.ring import Entry
    from limpet.contracts.captures import Truth

TEXT = "List captures, oldest first: why each was kept, what the model said, and what a person said."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_folder(parser)
    parser.add_argument("--json", action="store_true", help="Print a JSON object for each capture.")
    parser.set_defaults(act=_list)


def _list(arguments: argparse.Namespace) -> int:
    damaged: list[str] = []
    total = count = 0
    for one in each(root_of(arguments), arguments.pipeline, damaged):
        print(printable(_json(one) if arguments.json else _line(one)))
        total, count = total + one.size, count + 1
    if not arguments.json:
        print(f"{count} captures, {total / 1e6:.1f} MB")
    for problem in damaged:
        print(printable(problem), file=sys.stderr)
    return 1 if damaged else 0


def _json(one: Entry) -> str:
    shown = {**msgspec.to_builtins(one.capture), "bytes": one.size, "sent": one.sent, "truth": one.truth}
    return msgspec.json.encode(shown).decode()


def _line(one: Entry) -> str:
    capture = one.capture
    time = "time unknown" if capture.clock else f"{capture.time:%Y-%m-%d %H:%M:%S}"
    score = "" if capture.score is None else f" {capture.score:.0%}"
    parts = [
        capture.name,
        time,
        f"{answered(capture.answer)}{score}",
        ", ".join(capture.reasons) + (f" ({capture.detail})" if capture.detail else ""),
        _truth(one.truth),
        "encrypted" if capture.encrypted_for else "",
        "uploaded" if one.sent else "",
    ]
    return "  ".join(filter(None, parts))


def _truth(truth: Truth | None) -> str:
    if truth is None:
        return ""
    return "person is unsure" if truth.unsure else f"truth: {answered(truth.truth)}"
