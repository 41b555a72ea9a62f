"""A line of the journal as a sentence for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.untrusted import printable
from limpet.wording import joined, short_hash

if TYPE_CHECKING:
    from limpet.audit.entry import Entry, What, Who

_EVENTS = {
    "activated": "runs another model",
    "begun": "the journal begins again",
    "command": "command",
    "config_refused": "the configuration was refused",
    "config_taken": "the configuration was taken",
    "cut": "older lines were cut, by size",
    "gap": "lines could not be written",
    "reset": "factory reset",
    "start": "the daemon started",
    "summary": "counted since the last summary",
    "torn": "a torn line was removed",
}


def sentence(entry: Entry) -> str:
    """Return time, number and what happened. It holds no character that a terminal takes for an order."""
    unset = " (clock not set)" if entry.clock else ""
    where = f"{entry.pipeline}: " if entry.pipeline else ""
    event = _EVENTS.get(entry.event, entry.event.replace("_", " "))
    parts = [
        f"{event}{_command(entry.what)}",
        *_model(entry.what),
        *_figures(entry),
        entry.what.reason,
        *_who(entry.who),
    ]
    text = f"{entry.time:%Y-%m-%d %H:%M:%S}{unset}  {entry.seq}  {where}{'; '.join(filter(None, parts))}"
    return " ".join(printable(text).split("\n")).replace("\t", " ")


def _command(what: What) -> str:
    return f" {what.command}" if what.command else ""


def _model(what: What) -> list[str]:
    version = "" if what.version is None else f" {what.version}"
    digest = f"SHA-256 {short_hash(what.sha256)}" if what.sha256 else ""
    return [f"{what.model}{version}" if what.model else "", digest]


def _figures(entry: Entry) -> list[str]:
    what = entry.what
    parts = [f"{count} x {name}" for name, count in what.counts.items()]
    if entry.event in {"root_taken", "root_refused"} and what.version:
        parts.append(f"root {what.version}")
    if what.first:
        parts.append(f"number {what.first} is the first one now")
    if entry.event == "begun" and entry.seq > 1:
        parts.append(f"it ended at number {entry.seq - 1} before")
    if what.count:
        parts.append(f"{what.count} bytes" if entry.event == "torn" else f"{what.count} lines")
    return parts


def _who(who: Who) -> list[str]:
    parts = []
    if who.keys:
        parts.append(f"signed by {joined([*map(short_hash, who.keys)])}")
    if who.reporter:
        parts.append(f"through {who.reporter}" + (f", answer to {who.topic}" if who.topic else ""))
    if who.user:
        parts.append(f"by the user {who.user}")
    return parts
