"""The pipelines of one cell: what each runs, in which state it is, and when it may be started. No I/O.

Times are seconds on any steady clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.errors import UnreadableError
from limpet.supervision.restarts import Restarts
from limpet.supervision.revisions import Revisions
from limpet.updates.answers import Pairs
from limpet.wire.records import Assign, RawResults, ShadowFailed, SwapReport, Transition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from limpet.contracts.assignment import Assignment, PipelineAssignment
    from limpet.contracts.messages import State
    from limpet.supervision.revisions import Revision
    from limpet.wire.records import FromWorker, Incident, Need

LOADING_DEADLINE = 120.0
"""Seconds that loading models may take: a GPU's first compilation takes most of a minute."""
OVER: tuple[State, ...] = ("failed", "finished")
AT_WORK: tuple[State, ...] = ("running", "waiting")


class CellPipelines:
    """For each pipeline its revisions, its state and its restarts."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.outdated = False
        """Whether what a process was assigned has failed, so that it must be assigned something else."""
        self._states: dict[str, State] = {}
        self._loading = ""
        """The pipeline that the process has begun to open, and has not reported since. It opens one at a time."""
        self._restarts: dict[str, Restarts] = {}
        self._revisions: dict[str, Revisions] = {}
        self._given: dict[str, set[tuple[str, int]]] = {}
        """Names and versions of the models that a process was given, by pipeline."""
        self._shadows: dict[str, set[tuple[str, int]]] = {}
        """The same of the shadows."""
        self._shares: dict[str, set[tuple[str, int]]] = {}
        """Those of them whose results may be reported."""
        self._incidents: list[Incident] = []
        self.want(assignment, alive=False)

    def want(self, assignment: Assignment, *, alive: bool) -> None:
        """Take another assignment. ``alive``: whether a process runs the one before."""
        names = assignment.pipelines.keys()
        known = self._revisions if assignment.sources == self.assignment.sources else {}
        self._revisions = {name: known.get(name) or Revisions(assignment.only([name])) for name in names}
        changed = {
            name
            for name, revisions in self._revisions.items()
            if revisions.want(assignment.only([name])) or name not in known
        }
        swapped = {name for name in changed & known.keys() if alive and self._states[name] in AT_WORK}
        self._restarts = {name: Restarts() if name in changed else self._restarts[name] for name in names}
        self._states = {name: "starting" if name in changed - swapped else self._states[name] for name in names}
        self.assignment = assignment
        self._give()

    def _give(self) -> None:
        """Take note of the models that pipelines may report from now on, besides those from before."""
        for name, revisions in self._revisions.items():
            self._given.setdefault(name, set()).update(
                (model.name, model.version)
                for one in (revisions.wanted, revisions.proven)
                if one is not None
                for model in (one.pipeline.model, one.pipeline.light)
                if model is not None
            )
        for name, shadow in self.assignment.shadows.items():
            model = shadow.model.name, shadow.model.version
            self._shadows.setdefault(name, set()).add(model)
            if shadow.share:
                self._shares.setdefault(name, set()).add(model)

    def retry(self, pipeline: str) -> None:
        """Forget what went wrong with a pipeline."""
        self._restarts[pipeline] = Restarts()
        self._states[pipeline] = "starting"
        self._revisions[pipeline].retry()

    def in_use(self) -> dict[str, PipelineAssignment]:
        """Return what each pipeline runs or is about to run, without those that have failed."""
        chosen = {name: revisions.chosen.pipeline for name, revisions in self._revisions.items()}
        return {name: one for name, one in chosen.items() if self._states[name] != "failed"}

    def runnable(self, now: float) -> list[str]:
        """Return the pipelines that should run and may: those whose circuit was open get one more try."""
        return [
            name
            for name, restarts in self._restarts.items()
            if (restarts.open or self._states[name] not in OVER) and restarts.not_before <= now
        ]

    def revived(self, now: float) -> bool:
        """Whether the circuit of a pipeline has cooled off while the process ran the others."""
        return any(
            restarts.open and restarts.not_before <= now and self._states[name] == "failed"
            for name, restarts in self._restarts.items()
        )

    def next_start(self) -> float | None:
        """Return when a process should be started: in the past for now, ``None`` for not at all.

        Pipelines whose circuit is open do not hold up the others.
        """
        closed = [
            restarts.not_before
            for name, restarts in self._restarts.items()
            if not restarts.open and self._states[name] not in OVER
        ]
        if closed:
            return max(closed)
        return min((restarts.not_before for restarts in self._restarts.values() if restarts.open), default=None)

    def longest_silence(self) -> float:
        """Return the seconds for which the process may be silent."""
        chosen = [revisions.chosen.pipeline.options for revisions in self._revisions.values()]
        deadline = min((options.deadline for options in chosen), default=LOADING_DEADLINE)
        loads = "starting" in self._states.values() or any(one.swapping for one in self._revisions.values())
        return max(deadline, LOADING_DEADLINE) if loads else deadline

    # --- a process

    def started(self) -> None:
        """Take note of a new process."""
        self._loading = ""
        for given in (self._given, self._shadows, self._shares):
            given.clear()
        self._give()
        for revisions in self._revisions.values():
            revisions.started()

    def assign(self, now: float) -> Assign:
        """Return what the process is to run now, and note that it was sent."""
        names = self.runnable(now)
        self.outdated = False
        for name in names:
            if self._states[name] not in AT_WORK:
                self._states[name] = "starting"
        chosen = {name: self._revisions[name].chosen for name in names}
        wanted = [name for name in names if chosen[name] is self._revisions[name].wanted]
        return Assign(
            _without_keys(self.assignment.only(wanted)),
            {name: revision.number for name, revision in chosen.items()},
            {name: revision.assignment for name, revision in chosen.items() if name not in wanted},
            [name for name in wanted if self._is_to_prove(name)],
        )

    def _is_to_prove(self, name: str) -> bool:
        """Whether a pipeline has another model to go back to, one that worked or a lower version."""
        revisions = self._revisions[name]
        first = name in self.assignment.prove and revisions.proven is None
        return first or revisions.unproven is not None

    def revision_of(self, need: Need) -> Revision | None:
        """Return what an executor is to run that a worker requests, ``None`` if the worker has no such thing."""
        known = self._revisions.get(need.pipeline)
        return known.find(need.revision) if known else None

    def identity(self, move: Transition) -> str:
        """Return the SHA-256 of the model that the process reports about, empty if it was given no such thing.

        Its name and version do not say that: another model of the configuration may have the same.
        """
        known = self._revisions.get(move.pipeline)
        revision = known.find(move.revision) if known else None
        return revision.pipeline.model.sha256 if revision else ""

    def check(self, record: FromWorker) -> None:
        """Check that the process reports models that it was given. ``UnreadableError`` if it reports another."""
        if isinstance(record, RawResults):
            reported = {(item.pipeline, item.model, item.version) for item in record.items}
            self._refuse_others(reported, self._given, self._shares)
        elif isinstance(record, Pairs) or (isinstance(record, Transition) and record.model):
            self._refuse_others({(record.pipeline, record.model, record.version)}, self._given)
        if isinstance(record, Pairs | ShadowFailed):
            self._refuse_others({(record.pipeline, record.shadow, record.shadow_version)}, self._shadows)

    def _refuse_others(
        self, reported: Iterable[tuple[str, str, int]], *given: Mapping[str, Collection[tuple[str, int]]]
    ) -> None:
        for pipeline, model, version in reported:
            if not any((model, version) in models.get(pipeline, ()) for models in given):
                raise UnreadableError(
                    f"it reported that {pipeline!r} runs {model!r} {version}, which it was not given"
                )

    def hear_results(self, record: RawResults) -> None:
        """Take note of results: what gives them works."""
        for name in {item.pipeline for item in record.items} & self._restarts.keys():
            self._restarts[name].open = False
            self._revisions[name].gave_results()

    def hear_swap(self, record: SwapReport) -> None:
        """Take note of a step of a swap."""
        if record.pipeline in self._revisions:
            self._incidents += self._revisions[record.pipeline].swap(record)

    def hear_transition(self, record: Transition) -> None:
        """Take note of a transition. If the proven revision is to be run instead, the record says ``starting``."""
        if record.pipeline not in self._states:
            return
        if record.state == "starting":
            self._loading = record.pipeline
        elif record.pipeline == self._loading:
            self._loading = ""
        revisions = self._revisions[record.pipeline]
        revisions.runs(record.revision)
        if record.state == "failed" and revisions.not_opened(record.revision, record.reason):
            self._incidents.append(revisions.failure(record.reason))
            self.outdated, record.state = True, "starting"
        # A pipeline that stopped and is still wanted is to be started again.
        self._states[record.pipeline] = "starting" if record.state == "stopped" else record.state
        if record.state in OVER:
            self._restarts[record.pipeline].open = False

    def take_incidents(self) -> list[Incident]:
        """Return the events that were found since the last call."""
        found, self._incidents = self._incidents, []
        return found

    # --- the process is gone

    def running(self) -> list[str]:
        """Return the pipelines that a process ran or loaded."""
        return [name for name, state in self._states.items() if state not in OVER]

    def crashed(self, reason: str, now: float, *, condemned: bool) -> list[Transition]:
        """Take note of a crash. Return what it means for the pipelines that are to blame.

        If the process sent what it may not send (``condemned``), all of them are.
        """
        refused = self._refuse_successors(reason)
        suspects = list(self._states) if condemned else [] if refused else self._suspects()
        for name in suspects:
            self._restarts[name].crashed(now)
            self._states[name] = "failed" if self._restarts[name].open else "starting"
        return [self._broken(name, reason, now) for name in _once([*refused, *suspects])]

    def _refuse_successors(self, reason: str) -> list[str]:
        """Return the pipelines whose successor is to blame for a crash. They go back to what is proven."""
        failed = {name: revisions.crashed(reason) for name, revisions in self._revisions.items()}
        self._incidents += [incident for incident in failed.values() if incident]
        refused = [name for name, incident in failed.items() if incident]
        self._states |= dict.fromkeys(refused, "starting")
        return refused

    def _suspects(self) -> list[str]:
        """Return the pipelines to blame for a crash.

        That is the one that was loading. If none was, those that were about to be loaded, else all that ran.
        """
        running = self.running()
        if self._loading in running:
            return [self._loading]
        return [name for name in running if self._states[name] == "starting"] or running

    def _broken(self, name: str, reason: str, now: float) -> Transition:
        restarts = self._restarts[name]
        if restarts.open:
            pause = restarts.not_before - now
            reason = f"crashed too often ({reason}); next try in {pause:.0f} s"
        return Transition(name, self._states[name], reason)


def _without_keys(assignment: Assignment) -> Assignment:
    """Return an assignment without the keys of encrypted shadows: the worker does not open them."""
    if not assignment.shadows:
        return assignment
    shadows = {
        name: msgspec.structs.replace(one, model=msgspec.structs.replace(one.model, key=b""))
        for name, one in assignment.shadows.items()
    }
    return msgspec.structs.replace(assignment, shadows=shadows)


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
