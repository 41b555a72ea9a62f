"""Which columns of a table say when a row was taken."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from limpet.sources.tables import times
from limpet.sources.tables.times import TIME, Clock
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.sources._numbers import Decimal
    from limpet.sources.tables.form import Form
    from limpet.sources.tables.head import TableHead

_INDEX = {"index", "idx", "row", "no", "no.", "nr", "nr.", "sample", "sample number", "record"}


class TimeColumns:
    """Finds the columns that say when. ``columns``: one, or a date and a time of day; none if there is no time."""

    def __init__(self, head: TableHead, form: Form, decimal: Decimal, samples: Sequence[Sequence[str]]) -> None:
        self.columns: list[int] = []
        self.notes: list[str] = []
        self._names = head.names
        self._units = head.units
        self._form = form
        self._decimal: Decimal = decimal
        self._samples = samples
        self._others: set[int] = set()
        if form.time is None:
            self._find()
        elif form.time:
            self.columns = [column_of(head.names, form.time)]

    def _find(self) -> None:
        taken = set(self._form.channels) - {TIME}
        likely = [n for n in self._likely() if self._names[n] not in taken]
        sound = [n for n in likely if self._names[n] == TIME or self._goes_on(n)]
        days = [n for n in likely if self._has_days(n)]
        sound = sorted(sound, key=lambda n: n in days)
        days = [n for n in days if n not in sound[:1]]
        self.columns = sound[:1]
        if sound and self._names.count(self._names[sound[0]]) > 1:
            column_of(self._names, self._names[sound[0]])
        if sound and days and self._go_together(days[0], sound[0]):
            self.columns = [days[0], sound[0]]
        self._others = {*sound, *self.columns}
        for name in (self._names[n] for n in self.columns):
            if times.could_be_a_channel(name):
                self.notes.append(f'column {name!r} is taken for the time; if it is a channel, set time = ""')

    def _likely(self) -> list[int]:
        """Return the columns that may have times: by their names, by the row of units, or as they have dates."""
        likely = times.likely(self._names)
        likely += [n for n in range(len(self._names)) if n not in likely and self._has_times(n)]
        if 0 not in likely and self._units and times.is_unit(self._units[0]):
            likely.append(0)
        return likely

    def _has_times(self, column: int) -> bool:
        words = [word for word in self._words([column]) if word]
        return bool(words) and all(times.is_time(word) for word in words)

    def _has_days(self, column: int) -> bool:
        words = [word for word in self._words([column]) if word]
        named = times.unit_of(self._names[column])[0] in times.DATES
        return named or (bool(words) and all(times.is_day(word) for word in words))

    def _go_together(self, day: int, time: int) -> bool:
        words = self._words([time])
        return all(times.is_time_of_day(word) for word in words) or times.are_digits_of(self._words([day]), words)

    def _is_index(self, column: int) -> bool:
        """Whether one of the first two columns counts rows. A count is no channel unless it is named as one."""
        if column > 1 or times.unit_of(self._names[column])[0] not in _INDEX:
            return False
        words = self._words([column])
        return (
            len(words) > 1
            and all(word.isdecimal() for word in words)
            and all(int(after) - int(before) == 1 for before, after in pairwise(words))
        )

    def channels(self) -> list[str]:
        """Return the names of the columns with values."""
        timed = {self._names[n] for n in self.columns}
        if self._form.channels:
            return [name for name in self._form.channels if name not in timed]
        others = self._others | {n for n in range(len(self._names)) if self._is_index(n)}
        if out := [self._names[n] for n in sorted(others) if self._names[n] not in timed and self._names[n]]:
            self.notes.append(f"no channels, as they hold times or numbers of rows: {', '.join(out)}")
        return [name for n, name in enumerate(self._names) if name and name not in timed and n not in others]

    def clock(self) -> Clock | None:
        """Return what reads the time of a row."""
        return self._clock_of(self.columns) if self.columns else None

    def _words(self, columns: Sequence[int]) -> list[str]:
        return [" ".join(row[n] for n in columns) for row in self._samples]

    def _clock_of(self, columns: Sequence[int]) -> Clock:
        at = columns[-1]
        unit = self._units[at] if len(columns) == 1 and at < len(self._units) else ""
        return Clock(self._names[at], self._words(columns), unit, self._decimal)

    def _goes_on(self, column: int) -> bool:
        """Whether a column reads as times that go forward."""
        clock = self._clock_of([column])
        try:
            moments = [clock(word) for word in self._words([column])]
        except (ValueError, OverflowError):
            return False
        moments = [moment for moment in moments if math.isfinite(moment)]
        steps = [after - before for before, after in pairwise(moments)]
        back = sum(step < 0 for step in steps)
        if times.is_weak(self._names[column]):
            return bool(steps) and not back and moments[-1] > moments[0]
        return bool(moments) and 4 * back <= len(steps)


def column_of(names: Sequence[str], name: str) -> int:
    """Return which column has a name. ``ValueError`` if none has it, or two have."""
    if names.count(name) > 1:
        raise ValueError(f"two columns are called {name!r}")
    if name not in names:
        raise ValueError(f"no column {name!r}{suggest(name, names)}")
    return names.index(name)
