"""Which delegates a pipeline may run on, best first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.accelerators.delegate_kinds import resolve as resolve_delegate
from limpet.contracts.delegate import CPU, Choice
from limpet.errors import ConfigError
from limpet.inference import needs

if TYPE_CHECKING:
    from limpet.contracts.assignment import Assignment, PipelineOptions


def delegates_of(assignment: Assignment, name: str) -> tuple[Choice, ...]:
    """Resolve the delegates of a pipeline, best first. ``ConfigError`` has all that is wrong with them."""
    problems: list[str] = []
    choices = resolve_delegates(assignment, assignment.pipelines[name].options, f"pipelines.{name}", problems)
    if problems:
        raise ConfigError(problems)
    return choices


def resolve_delegates(
    assignment: Assignment, wanted: PipelineOptions, where: str, problems: list[str]
) -> tuple[Choice, ...]:
    """Resolve a list of delegates; the CPU comes last unless that much is required to be elsewhere."""
    choices: list[Choice] = []
    for name in dict.fromkeys(wanted.delegates):
        try:
            choices.append(resolve_delegate(name, assignment.delegates))
        except ConfigError as error:
            problems.extend(
                problem if problem.startswith("delegates.") else f"{where}.delegates: {problem}"
                for problem in error.problems
            )
        else:
            problems.extend(
                f"{where}.delegates: {name!r}: {path} is in a folder that workers may write; put it elsewhere"
                for path in needs.not_to_be_run(assignment, choices[-1])
            )
    if CPU not in choices and not wanted.require:
        choices.append(CPU)
    base = assignment.folders.base
    return tuple(
        msgspec.structs.replace(
            choice, libraries=tuple(str(base / name) if "/" in name else name for name in choice.libraries)
        )
        for choice in choices
    )
