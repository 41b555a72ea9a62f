"""The configuration and the models that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.doctor.check import inspect
from limpet.doctor.finding import bad, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation


def configuration(installation: Installation) -> Iterator[Finding]:
    """Return what ``limpet check`` finds."""
    if installation.config:
        problems, lines = inspect(installation.config)
        yield from (ok("configuration", line) for line in lines)
    elif installation.problems:
        problems = list(installation.problems)
    else:
        yield warn(
            "configuration", f"{installation.path} does not exist", "Limpet has nothing to run", "limpet init"
        )
        return
    why = "the daemon ends with status 78, or the pipeline is failed"
    for problem in problems:
        yield bad(
            "configuration", problem, why, f"correct {installation.path}; `limpet check` shows all that is wrong"
        )
