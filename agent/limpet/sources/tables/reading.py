"""A table out of its lines."""

from __future__ import annotations

import csv
from itertools import chain, islice
from typing import TYPE_CHECKING

from msgspec import structs

from limpet.sources.tables import serial_monitor
from limpet.sources.tables.body import Body
from limpet.sources.tables.head import TableHead, names_in_comment
from limpet.sources.tables.layout import decimal_of, delimiter_of, width_of
from limpet.sources.tables.lines import Lines
from limpet.sources.tables.times import TIME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from limpet.sources.tables.form import Form
    from limpet.sources.tables.table import Table

SAMPLE = 50
"""Lines that the form of a table is detected from."""


def read(lines: Iterable[str], form: Form) -> Table:
    """Read a table. ``ValueError`` begins with the number of the line."""
    lines = iter(lines)
    first = list(islice(lines, SAMPLE))
    whole = [line for line in first if line.strip()]
    stamped = bool(whole) and all(serial_monitor.STAMP.match(line) for line in whole)
    lines = chain(first, lines)
    named = () if stamped else serial_monitor.names_of(whole)
    if named:
        lines = serial_monitor.without_names(lines, named)
        form = structs.replace(form, delimiter=";")
    numbered = Lines(serial_monitor.with_time_column(lines, whole, form.delimiter) if stamped else lines)
    try:
        return _read(numbered, form, named, stamped=stamped)
    except (ValueError, OverflowError, csv.Error) as error:
        raise ValueError(f"line {numbered.at}: {error}") from error


def _read(lines: Lines, form: Form, named: Sequence[str], *, stamped: bool) -> Table:
    first = lines.sample(SAMPLE)
    texts = [line for line, _, _ in first]
    lines.delimiter = form.delimiter or lines.separator or delimiter_of(texts)
    comment = lines.comment
    rows = lines.rows(first)
    top = list(islice(rows, SAMPLE))
    if not top:
        raise ValueError("no column names; the file holds no table")
    lines.at = top[0].number
    width = width_of([row.cells for row in top])
    decimal = form.decimal or decimal_of([row.cells for row in top if len(row.cells) >= width])
    head = TableHead(width, decimal, form)
    below = head.read(top)
    if not head.names:
        head.names = list(named) or names_in_comment(comment, width, lines.delimiter, form) or list(form.channels)
        head.names[:0] = [TIME] if stamped and head.names else []
    elif stamped:
        head.names[0] = TIME
    if not head.names:
        raise ValueError("no column names; give them in the first line or as channels")
    body = Body(head, form, decimal, [row.cells for row in below])
    for row in chain(below, rows):
        lines.at = row.number
        body.add(row)
    table = body.finished()
    table.notes += lines.notes
    return table
