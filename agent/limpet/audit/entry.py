"""One line of the audit journal. No I/O.

A line is an ``Entry`` as JSON. ``prev`` is the SHA-256 of the bytes of the line before, without its newline. So
each line confirms all lines before it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from limpet.device.clock import Mark
from limpet.errors import UnreadableError
from limpet.sha256 import sha256
from limpet.untrusted import printable, reading

NOTHING = "0" * 64
"""``prev`` of the first line of all."""
LARGEST_LINE = 4096
"""Bytes of a line, its newline among them."""
MOST_KEYS, MOST_COUNTS = 16, 32
_LONGEST = 512

Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Number = Annotated[int, Meta(ge=0, le=1 << 53)]
_Text = Annotated[str, Meta(max_length=_LONGEST)]
_EventName = Annotated[str, Meta(pattern=r"^[a-z][a-z_]{0,31}\Z")]


class Who(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Who caused it, as far as that is known.

    ``keys``: ids of the keys that signed. ``reporter``: the one that a command or request came through, and
    ``topic`` where its answer goes. ``user``: a user of this machine.
    """

    keys: Annotated[tuple[_Text, ...], Meta(max_length=MOST_KEYS)] = ()
    reporter: _Text = ""
    topic: _Text = ""
    user: _Text = ""


class What(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What it was about.

    ``sha256``: identity of a model, or hash of a configuration file. ``command``: name of a command. ``reason``:
    a sentence. ``count`` of records that could not be written, or of bytes; ``counts`` of events that have no line
    of their own. ``first`` and ``cut``: at a cut, the number of the first line that is kept, and the hash of the
    line before it.
    """

    model: _Text = ""
    version: Number | None = None
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    command: _Text = ""
    reason: _Text = ""
    count: Number = 0
    counts: Annotated[dict[_Text, Number], Meta(max_length=MOST_COUNTS)] = {}
    first: Number = 0
    cut: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""


NOT_KNOWN, NO_DETAILS = Who(), What()
"""msgspec leaves out only these very objects."""


class Entry(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One line. ``clock`` marks a time from before the clock was set. ``boot`` is empty if no daemon wrote it."""

    seq: Annotated[int, Meta(ge=1, le=1 << 53)]
    prev: Hash
    time: Annotated[datetime, Meta(tz=True)]
    event: _EventName
    clock: Mark | None = None
    boot: Annotated[str, Meta(max_length=64)] = ""
    pipeline: Annotated[str, Meta(max_length=64)] = ""
    who: Who = NOT_KNOWN
    what: What = NO_DETAILS


class Head(NamedTuple):
    """The number of a line and the hash of its bytes. The last line's confirms the whole journal."""

    seq: int
    sha256: str

    def __str__(self) -> str:
        """Return it as people pass it on: ``SEQ:HASH``."""
        return f"{self.seq}:{self.sha256}"


def head_of(text: str) -> Head:
    """Return what ``str`` of a head was. ``UnreadableError``."""
    with reading(repr(text)):
        seq, _, digest = text.partition(":")
        return Head(msgspec.convert(int(seq), Number), msgspec.convert(digest.lower(), Hash))


def hash_of(line: bytes) -> str:
    """Return the hash of a line, without its newline."""
    digest = sha256(len(line))
    digest.update(line)
    return digest.hexdigest()


def encode(entry: Entry) -> bytes:
    """Return a line without its newline. Texts that are too long end in "..."."""
    return msgspec.json.encode(_bounded(entry))


def decode(line: bytes) -> Entry:
    """Return what a line says. ``UnreadableError``."""
    if len(line) >= LARGEST_LINE:
        raise UnreadableError(f"the line is longer than {LARGEST_LINE} bytes")
    with reading("the line"):
        return msgspec.json.decode(line, type=Entry)


def _bounded(entry: Entry) -> Entry:
    """Shorten what has no bound elsewhere, so that the line can be read again."""
    bounded = _shortened(entry, _LONGEST)
    return bounded if len(msgspec.json.encode(bounded)) < LARGEST_LINE else _shortened(entry, 64)


def _shortened(entry: Entry, longest: int) -> Entry:
    """Return the entry with texts of so many characters. Each takes up to four bytes."""
    who, what, name = entry.who, entry.what, min(longest, 64)
    short_who = Who(
        keys=tuple(_short(key, name) for key in who.keys[: MOST_KEYS if longest > 64 else 4]),
        reporter=_short(who.reporter, name),
        topic=_short(who.topic, longest),
        user=_short(who.user, name),
    )
    short_what = msgspec.structs.replace(
        what,
        model=_short(what.model, name),
        command=_short(what.command, name),
        reason=_short(what.reason, longest),
        counts=dict(list(what.counts.items())[: MOST_COUNTS if longest > 64 else 8]),
    )
    return msgspec.structs.replace(
        entry,
        pipeline=_short(entry.pipeline, 64),
        who=NOT_KNOWN if short_who == NOT_KNOWN else short_who,
        what=NO_DETAILS if short_what == NO_DETAILS else short_what,
    )


def _short(text: str, longest: int) -> str:
    text = printable(text)  # a lone surrogate could not be written, and a control character takes six bytes
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
