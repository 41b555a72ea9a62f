"""Which model files are examined, and what is known once they are. Decides, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from limpet.contracts.assignment import FoundModel

MOST_AT_ONCE = 4
"""Files that are examined at the same time."""
MOST_DAMAGED = 32
"""Damaged versions of a model that are skipped. Lower ones are not examined."""


class Survey:
    """The versions of each model are examined from the highest down to the first one that is intact.

    Once a version is known to be damaged, several lower ones are examined at a time. If hostile versions use all
    of their time limit, Limpet still reaches an intact one below them. Models with few damaged versions come
    first.

    ``candidates`` has them in this order, by the key of each model. ``failed`` has the SHA-256
    of models that are intact and did not work here: below them, the survey goes on. The caller examines: it calls
    ``due`` for the files to begin with, and ``take`` with what is found.
    """

    def __init__(
        self, candidates: Mapping[str, Sequence[FoundModel]], failed: Collection[str] = frozenset()
    ) -> None:
        self._candidates = candidates
        self._failed = failed
        self._begun: set[Path] = set()
        self._examined: dict[Path, FoundModel] = {}

    def due(self) -> list[Path]:
        """Return the files that are to be examined now. Each is returned once, and only some at a time."""
        walks = sorted(map(self._walk, self._candidates), key=lambda walk: len(walk[0]))
        files = dict.fromkeys(path for _, following in walks for path in following)
        free = MOST_AT_ONCE - len(self._begun - self._examined.keys())
        due = [path for path in files if path not in self._begun][:free]
        self._begun.update(due)
        return due

    def key(self, path: Path) -> bytes:
        """Return the key of an encrypted file, empty for others."""
        keys = (one.key for files in self._candidates.values() for one in files if one.path == path)
        return next(filter(None, keys), b"")

    def take(self, examined: FoundModel) -> None:
        """Take note of what was found in a file."""
        self._examined[examined.path] = examined

    def give_up(self, reason: str) -> None:
        """Take note that no file is examined any more. All that were not get this problem."""
        for files in self._candidates.values():
            for one in files:
                problem = f"{one.path}: {reason}"
                self._examined.setdefault(one.path, msgspec.structs.replace(one, problem=problem))

    @property
    def done(self) -> bool:
        """Whether all is known that is needed."""
        return not any(self._walk(model)[1] for model in self._candidates)

    @property
    def found(self) -> dict[str, list[FoundModel]]:
        """What was found of each model, as ``limpet.deployment.desired`` takes it."""
        return {model: self._walk(model)[0] for model in self._candidates}

    def _walk(self, model: str) -> tuple[list[FoundModel], list[Path]]:
        """Return what is known of a model down to the first file that may run, and the files to examine next."""
        known: list[FoundModel] = []
        candidates = self._candidates[model][:MOST_DAMAGED]
        for place, candidate in enumerate(candidates):
            if candidate.problem:
                known.append(candidate)
                continue
            if candidate.path not in self._examined:
                return known, self._following(candidates[place : place + (MOST_AT_ONCE if known else 1)])
            known.append(_judged(candidate, self._examined[candidate.path]))
            if self._may_run(known[-1]):
                break
        return known, []

    def _following(self, candidates: Sequence[FoundModel]) -> list[Path]:
        """Return which of these files are not examined yet, down to the first that is known to be one to run."""
        paths = []
        for one in candidates:
            if one.path not in self._examined:
                paths.append(one.path)
            elif self._may_run(_judged(one, self._examined[one.path])):
                break
        return paths

    def _may_run(self, one: FoundModel) -> bool:
        return not one.problem and one.sha256 not in self._failed


def _judged(candidate: FoundModel, examined: FoundModel) -> FoundModel:
    """Return what an examination means for a candidate: a name in the store must be that of the bundle."""
    if examined.problem:
        return msgspec.structs.replace(candidate, problem=examined.problem, untrusted=examined.untrusted)
    if candidate.sha256 not in ("", examined.sha256):
        problem = f"{candidate.path}: it is not the model that was deployed under this name"
        return msgspec.structs.replace(candidate, problem=problem)
    if candidate.any_name or (examined.name, examined.version) == (candidate.name, candidate.version):
        return msgspec.structs.replace(
            examined,
            path=candidate.path,
            lower=candidate.lower,
            any_name=candidate.any_name,
            key=candidate.key,
        )
    right = f"{examined.name}-{examined.version}.limpet"
    problem = f"{candidate.path}: it holds {examined.name} version {examined.version}; rename it to {right}"
    return msgspec.structs.replace(candidate, problem=problem)
