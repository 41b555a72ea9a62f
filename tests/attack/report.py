"""What came of each attempt, as a table and as one JSON object."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_RSS_MB = 64
HEAD = "| attempt | at | reached it | what happened |\n| --- | --- | --- | --- |\n"
COUNTS = (
    *("supervisor_ended", "escaped", "poisoned_starts", "foreign_topics", "others_lost", "uncounted_lost"),
    *("workers_grown", "gateway_ended", "unnamed"),
)
"""What must be 0."""


@dataclass
class Attempt:
    """One attempt. ``reached`` is the proof that its bytes got to the border, empty if there is none.

    ``harm`` has what must not happen, by the name of its count.
    """

    name: str
    border: str
    reached: str = ""
    happened: str = ""
    harm: dict[str, int] = field(default_factory=dict)

    def harmed(self, count: str, number: int = 1) -> None:
        """Take note of what must not happen."""
        if number:
            self.harm[count] = self.harm.get(count, 0) + number

    def row(self) -> str:
        harm = "".join(f"**{count}: {number}**. " for count, number in self.harm.items())
        cells = (self.name, self.border, self.reached or "**no**", harm + (self.happened or "nothing"))
        return "| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells) + " |"


class Report:
    """All attempts, and the largest that the supervisor became."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.max_supervisor_rss_mb = 0.0

    def add(self, attempt: Attempt) -> None:
        """Take an attempt that is over, and print its row."""
        self.attempts.append(attempt)
        print(attempt.row(), flush=True)

    def take(self, other: Report) -> None:
        """Take the attempts of another report, whose rows were printed."""
        self.attempts += other.attempts
        self.grown(other.max_supervisor_rss_mb)

    def grown(self, resident_mb: float) -> None:
        """Take note of how much memory a supervisor had at its peak."""
        self.max_supervisor_rss_mb = max(self.max_supervisor_rss_mb, round(resident_mb, 1))

    def totals(self) -> dict[str, float]:
        """Return the last line's object."""
        sums = {count: sum(attempt.harm.get(count, 0) for attempt in self.attempts) for count in COUNTS}
        return {
            "attempts": len(self.attempts),
            "not_landed": sum(not attempt.reached for attempt in self.attempts),
            **sums,
            "max_supervisor_rss_mb": self.max_supervisor_rss_mb,
        }

    def holds(self) -> bool:
        """Whether everything reached its border, and no border gave way."""
        totals = self.totals()
        wrong = [totals[count] for count in ("not_landed", *COUNTS)]
        return not any(wrong) and self.max_supervisor_rss_mb <= LARGEST_RSS_MB

    def harmful(self) -> list[str]:
        """Return the rows of the attempts that must not have come to what they came to."""
        return [attempt.row() for attempt in self.attempts if attempt.harm or not attempt.reached]

    def write(self, path: Path) -> None:
        """Write the table and the totals."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = "\n".join(attempt.row() for attempt in self.attempts)
        path.write_text(f"{HEAD}{rows}\n\n{json.dumps(self.totals())}\n", encoding="utf-8")
