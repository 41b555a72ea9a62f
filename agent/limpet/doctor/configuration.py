"""The configuration and the models that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.doctor.check import check_file, inspect
from limpet.doctor.finding import bad, ok, warn
from limpet.problems.locate import read_and_locate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation


def configuration(installation: Installation) -> Iterator[Finding]:
    """Return what ``limpet check`` finds."""
    if installation.config:
        found = inspect(installation.config)
        yield from (ok("configuration", line) for line in found.lines)
        problems = [str(problem) for problem in read_and_locate(installation.path, found.problems)]
    elif installation.problems:
        problems = [str(problem) for problem in check_file(installation.path)[0]] or list(installation.problems)
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
