"""Admission: a model is tried in a separate process before a pipeline runs it.

The process may crash, hang or eat memory, and what it sends is bounded. One candidate is tried at a time. Where
CPU or memory is short, processes at work come first.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from msgspec import structs

from limpet.contracts.delegate import CPU
from limpet.device import directories, state_files
from limpet.device.system_files import MB
from limpet.errors import UnreadableError
from limpet.isolation.child import describe
from limpet.supervision.helpers import TOO_LONG
from limpet.untrusted import open_file
from limpet.updates.stimuli import Admitted, NotAdmitted
from limpet.wire.border import cleaned
from limpet.wire.fork_records import Admit, FromCheck, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from limpet.contracts.assignment import Assignment, ModelFile, PipelineOptions
    from limpet.supervision.helpers import Cancel, Helpers
    from limpet.wire.fork_records import CandidateStep

    Heard = Callable[[Admitted | NotAdmitted, Verdict | None], None]
    """What takes the outcome, and the figures if there are any, with texts as the process sent them."""

log = logging.getLogger(__name__)

PLANNING = 60.0
"""Seconds for reading and unpacking a bundle."""
MEASURING = 30.0
"""Seconds for measuring latency, beside the deadline of the pipeline."""
MOST_STEPS = 64
"""Steps that a process may report. It begins again if the fork server is replaced."""
LARGEST_OUTPUT = 4096
"""Bytes that are read of what the runtime printed, from its end."""
LINES, LONGEST_LINE = 3, 200
"""Lines of it that go into a reason, and the characters of each."""
_DOING: dict[CandidateStep, str] = {
    "plan": "while the bundle was read",
    "load": "while the model was loaded",
    "golden": "while the golden vectors ran",
    "window": "while one window ran",
    "latency": "while the latency was measured",
    "delegate": "while a delegate ran the model",
}
_KILLED = describe(-signal.SIGKILL)
_ENDINGS = {
    **{
        describe(-number): f"the runtime crashed ({number.name})"
        for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
    },
    describe(-signal.SIGABRT): "the runtime gave up (SIGABRT), as for lack of memory",
    _KILLED: "the kernel killed the process (SIGKILL), as it does if memory runs out,",
    describe(-signal.SIGXCPU): "the model used too much CPU time (SIGXCPU)",
}


@dataclass(slots=True, eq=False)
class _Candidate:
    """A model that is to be tried. ``step``: the last one that its process reported."""

    task: Admit
    options: PipelineOptions
    model: ModelFile
    heard: Heard
    until: float = 0.0
    step: CandidateStep = "plan"
    steps: int = 0
    cancel: Cancel | None = field(default=None)

    def seconds(self, step: CandidateStep) -> float:
        """Return how long a step may take."""
        return {
            "plan": PLANNING,
            "load": self.options.opening,
            "golden": self.options.opening,
            "window": self.options.deadline,
            "latency": self.options.deadline + MEASURING,
            "delegate": self.options.opening,
        }[step]


class Admissions:
    """The candidates that are tried, one after the other."""

    def __init__(self, helpers: Helpers) -> None:
        self._helpers = helpers
        self._queue: deque[_Candidate] = deque()

    def start(self, assignment: Assignment, pipeline: str, model: ModelFile, heard: Heard) -> None:
        """Try a model for a pipeline. ``heard`` gets the outcome, unless ``stop`` comes before it.

        ``assignment``: that of the cell that the pipeline is in.
        """
        self.stop(pipeline)
        candidate = _candidate(assignment, pipeline, model, heard)
        self._queue.append(candidate)
        if len(self._queue) == 1:
            self._begin(candidate)

    def stop(self, pipeline: str) -> None:
        """Give up the trial of a model for a pipeline, if there is one."""
        for candidate in [one for one in self._queue if one.task.pipeline == pipeline]:
            if candidate.cancel is not None:
                candidate.cancel()
            self._end(candidate)

    def _begin(self, candidate: _Candidate) -> None:
        task = candidate.task
        try:
            _remove_all(task)
            task.folder.mkdir(parents=True)
        except OSError as error:  # The process reports that it cannot unpack the bundle.
            log.error("%s: %s", error.filename, error.strerror)  # noqa: TRY400 - the text is enough
        candidate.until = monotonic() + task.seconds
        candidate.cancel = self._helpers.start(
            task.pipeline,
            task,
            FromCheck,
            candidate.seconds("plan"),
            partial(self._take, candidate),
            more=partial(_more, candidate),
        )

    def _take(self, candidate: _Candidate, verdict: Verdict | None, reason: str) -> None:
        outcome = _outcome_without_verdict(candidate, reason) if verdict is None else judge(verdict)
        self._end(candidate)
        candidate.heard(outcome, verdict)

    def _end(self, candidate: _Candidate) -> None:
        """Forget a candidate, and begin with the next one."""
        was_first = self._queue[0] is candidate
        self._queue.remove(candidate)
        if not was_first:
            return
        with suppress(OSError):
            _remove_all(candidate.task)
        if self._queue:
            self._begin(self._queue[0])


def _remove_all(task: Admit) -> None:
    """Delete the folder of a candidate, and what others left: no two are tried at once."""
    state_files.remove(task.output.parent.parent)
    if (memory := task.assignment.folders.memory) is not None:
        state_files.remove(memory.parent)


def _candidate(assignment: Assignment, pipeline: str, model: ModelFile, heard: Heard) -> _Candidate:
    own = assignment.pipelines[pipeline]
    place = directories.admissions(assignment.folders.state) / pipeline
    tried = structs.replace(
        assignment,
        folders=structs.replace(assignment.folders, state=place / "work", memory=_memory(assignment, pipeline)),
        pipelines={pipeline: structs.replace(own, model=model)},
        models={pipeline: (model.path,)},
        prove=(pipeline,),
        shadows={},
    )
    task = Admit(tried, pipeline, place / "work", place / "output", 0)
    candidate = _Candidate(task, own.options, model, heard)
    delegates = sum(name != CPU.name for name in own.options.delegates)
    total = sum(map(candidate.seconds, _DOING)) + candidate.seconds("delegate") * delegates
    task.seconds = ceil(total)
    return candidate


def _memory(assignment: Assignment, pipeline: str) -> Path | None:
    """Return where an encrypted candidate is unpacked, in memory."""
    memory = assignment.folders.memory
    return directories.admissions(memory) / pipeline if memory else None


def _more(candidate: _Candidate, record: FromCheck) -> float | None:
    """Return how long the process may take for its next step. All steps together take no longer than planned."""
    if isinstance(record, Verdict):
        return None
    candidate.step, candidate.steps = record.step, candidate.steps + 1
    if candidate.steps > MOST_STEPS:
        raise UnreadableError("it reported too many steps")
    return max(0.0, min(candidate.seconds(record.step), candidate.until - monotonic()))


def judge(verdict: Verdict) -> Admitted | NotAdmitted:
    """Return what a verdict means, in printable words."""
    if verdict.problem:
        return NotAdmitted(cleaned(f"Admission failed: {verdict.problem}."), final=not verdict.passing)
    measured = (
        f"On {verdict.delegate!r}, 95 of 100 windows take up to {verdict.latency_p95_us / 1000:.3g} ms. "
        f"It loads in {verdict.load_s:.3g} s and takes {verdict.memory_bytes / MB:.3g} MB."
    )
    return Admitted(cleaned(" ".join([measured, *(f"{note[:1].upper()}{note[1:]}." for note in verdict.notes)])))


def _outcome_without_verdict(candidate: _Candidate, reason: str) -> NotAdmitted:
    """Return what the end of a process means that gave no verdict.

    It says nothing about the model if the process did not begin, or if another one may have used up the memory.
    """
    final = candidate.steps > 0 and reason != _KILLED
    return NotAdmitted(cleaned(f"Admission failed: {_explain(candidate, reason)}."), final=final)


def _explain(candidate: _Candidate, reason: str) -> str:
    """Say how a process ended that gave no verdict, and what the runtime printed last."""
    if reason == TOO_LONG:
        reason = f"nothing happened for {candidate.seconds(candidate.step):.3g} s"
    printed = last_lines(candidate.task.output)
    said = f". The runtime printed: {printed}" if printed else ""
    return f"{_ENDINGS.get(reason, reason)} {_DOING[candidate.step]}{said}"


def last_lines(path: Path) -> str:
    """Return the last lines of a file that a runtime wrote, as printable text; empty if there is none.

    Lines of TFLite that only inform are left out.
    """
    try:
        with open_file(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LARGEST_OUTPUT))
            data = file.read(LARGEST_OUTPUT)
    except Exception:  # noqa: BLE001 - whatever is there, it only explains
        return ""
    lines = [" ".join(line.split()) for line in data.decode("utf-8", "replace").splitlines()]
    said = [line[:LONGEST_LINE] for line in lines if line and not line.startswith("INFO:")]
    return cleaned(" | ".join(said[-LINES:]))
