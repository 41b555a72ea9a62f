"""A model of a device that follows the rules of updates: disk, processes and workers, with power cuts anywhere.

What is on the disk survives a cut, and nothing else does. Each single effect is a point where power can be cut.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.contracts.updates import Comparison, DesiredModel
from limpet.updates import machine
from limpet.updates.facts import Facts
from limpet.updates.instructions import Admit, CleanUp, Fetch, Note, Place, Select, Shadow, Stop, Verify
from limpet.updates.schedule import Conditions, Disk
from limpet.updates.selection import selection
from limpet.updates.state import Deployed, Update, Updates, on_disk
from limpet.updates.stimuli import (
    Accepted,
    Admitted,
    Booted,
    Compared,
    Fetched,
    NotTakenOver,
    Placed,
    Tick,
    TookOver,
    Verified,
    Wanted,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.updates.instructions import Instruction
    from limpet.updates.stimuli import Stimulus

LENGTH = 10
BOUND = 200
ORDER = {
    "idle": {"downloading", "good", "failed", "rolled_back"},
    "downloading": {"verifying", "failed", "idle", "good"},
    "verifying": {"downloading", "staged", "failed", "idle", "good"},
    "staged": {"admission", "failed", "idle", "downloading", "good"},
    "admission": {"shadow", "trial", "failed", "idle", "downloading", "good"},
    "shadow": {"trial", "failed", "idle", "downloading", "good"},
    "trial": {"good", "rolled_back"},
    "good": {"downloading", "failed", "rolled_back", "good"},
    "failed": {"downloading", "good", "idle", "rolled_back", "failed"},
    "rolled_back": {"downloading", "good", "idle", "failed", "rolled_back"},
}
"""Which stage may follow which one. ``good``: the request is for the model that is good already."""


class PowerCut(Exception):  # noqa: N818 - it is no error
    """All processes are gone."""


def bundle(model: str, version: int, content: str = "a") -> Deployed:
    """Return a bundle. Those with other contents are other files, also under the same name and version."""
    digest = hashlib.sha256(f"{model} {version} {content}".encode()).hexdigest()[1:]
    return Deployed(model=model, version=version, sha256="1" + digest, file_sha256="2" + digest, length=LENGTH)


def request(wanted: Deployed, **fields: object) -> DesiredModel:
    """Return a request for a bundle."""
    return msgspec.convert(
        {
            "model": wanted.model,
            "version": wanted.version,
            "sha256": wanted.file_sha256,
            "length": wanted.length,
            **fields,
        },
        DesiredModel,
    )


@dataclass
class World:
    """A device. ``cut_in``: how many effects are still done before power is cut, ``None`` for no cut."""

    pipelines: tuple[str, ...] = ("p",)
    saved: bytes = msgspec.json.encode(Updates())
    files: dict[str, str] = field(default_factory=dict)
    """Deployed files: their SHA-256 by their names."""
    downloads: dict[str, str] = field(default_factory=dict)
    """For each pipeline the SHA-256 of what was fetched, or "part"."""
    verified: set[str] = field(default_factory=set)
    admitted: set[str] = field(default_factory=set)
    proven: set[str] = field(default_factory=set)
    """Pipelines whose candidate runs on trial, and had a result accepted since it took over."""
    broken: set[str] = field(default_factory=set)
    """Bundles that do not work when they take over."""
    cut_in: int | None = None
    now: float = 1.8e9
    steady: float = 0.0
    conditions: Conditions = field(default_factory=Conditions)
    spent: dict[str, int] = field(default_factory=dict)
    per_day: int | None = None
    pinned: bool = False
    updates: Updates = field(default_factory=Updates)
    at_work: dict[str, Instruction] = field(default_factory=dict)
    """The one process of each pipeline that works for its update."""
    beside: dict[str, Deployed] = field(default_factory=dict)
    runs: dict[str, Deployed | None] = field(default_factory=dict)
    heard: list[tuple[str, Stimulus]] = field(default_factory=list)
    """What workers report, and was not passed on yet."""
    catalogue: dict[str, Deployed] = field(default_factory=dict)
    """Bundles by the SHA-256 of their files: those that were requested."""
    noted: list[Note] = field(default_factory=list)

    # --- the machine's state

    def of(self, pipeline: str = "p") -> Update:
        return self.updates.pipelines.get(pipeline) or Update(pipeline=pipeline)

    @property
    def facts(self) -> Facts:
        return Facts(
            now=self.now,
            steady=self.steady,
            disk=Disk(bound=BOUND, free=BOUND),
            conditions=self.conditions,
            spent=self.spent,
            per_day=self.per_day,
            pinned=self.pinned,
        )

    def effect(self) -> None:
        """Count an effect that is about to be done."""
        if self.cut_in is not None:
            self.cut_in -= 1
            if self.cut_in < 0:
                self.cut_in = None
                raise PowerCut

    def feed(self, stimulus: Stimulus, pipeline: str = "p") -> str:
        """Pass on a stimulus, write the new state, then follow. Return why a command was refused."""
        before = self.of(pipeline)
        applied = machine.apply(self.updates, pipeline, stimulus, self.facts)
        after = applied.updates.pipelines[pipeline]
        assert after.stage == before.stage or after.stage in ORDER[before.stage], (before.stage, after.stage)
        assert after.serial >= before.serial
        assert all(applied.updates.highest.get(name, 0) >= top for name, top in self.updates.highest.items())
        if after.good != before.good:
            assert after.good == before.previous or (before.stage, after.good) == ("trial", before.candidate)
        if (before.stage, after.stage) == ("trial", "good"):
            assert pipeline in self.proven
            self.proven.discard(pipeline)
        if on_disk(applied.updates) != on_disk(self.updates):
            self.effect()
            self.saved = msgspec.json.encode(on_disk(applied.updates))
        self.updates = applied.updates
        for instruction in applied.instructions:
            self.effect()
            self.follow(pipeline, instruction)
        self.check()
        return applied.refused

    def follow(self, pipeline: str, instruction: Instruction) -> None:
        """Carry out one instruction."""
        match instruction:
            case Fetch() | Verify() | Place() | Admit():
                assert pipeline not in self.at_work
                self.at_work[pipeline] = instruction
                if isinstance(instruction, Fetch) and self.downloads.get(pipeline) != instruction.request.sha256:
                    self.downloads[pipeline] = "part"
            case Stop():
                self.at_work.pop(pipeline, None)
            case Shadow(None):
                self.beside.pop(pipeline, None)
            case Shadow(model):
                assert model is not None
                assert self.files[model.file] == model.file_sha256
                self.beside[pipeline] = model
            case Select(models):
                self.select(pipeline, models)
            case CleanUp():
                self.clean_up(pipeline)
            case Note():
                self.noted.append(instruction)

    def clean_up(self, pipeline: str) -> None:
        self.downloads.pop(pipeline, None)
        needed = {one.file for one in self.updates.deployed}
        for name in sorted(self.files.keys() - needed):
            self.effect()
            del self.files[name]

    def select(self, pipeline: str, models: Sequence[Deployed | None]) -> None:
        """Have a worker run the first model that is whole and works, and report that."""
        self.proven.discard(pipeline)
        for model in models:
            if model is None or self.files.get(model.file) == model.file_sha256:
                if model is not None and model.file_sha256 in self.broken:
                    self.heard.append((pipeline, NotTakenOver("It crashed.")))
                    continue
                self.runs[pipeline] = model
                identity = model.sha256 if model is not None else "0" * 64
                self.heard.append((pipeline, TookOver(identity)))
                return

    # --- what happens to it

    def boot(self) -> None:
        """Start the daemon after a cut, as often as that takes."""
        while True:
            try:
                self._boot()
            except PowerCut:
                continue
            return

    def _boot(self) -> None:
        self.steady = 0.0
        self.updates = msgspec.json.decode(self.saved, type=Updates)
        self.at_work, self.beside, self.runs, self.heard = {}, {}, {}, []
        for pipeline in self.pipelines:
            self.feed(Booted(), pipeline)
            if pipeline not in self.runs:
                self.select(pipeline, selection(self.of(pipeline)))

    def do(self, stimulus: Stimulus, pipeline: str = "p") -> None:
        """Pass on a stimulus. If power is cut during that, start again."""
        try:
            self.feed(stimulus, pipeline)
        except PowerCut:
            self.boot()

    def want(self, wanted: Deployed, pipeline: str = "p", form: DesiredModel | None = None, **fields: Any) -> None:
        """Have a bundle requested, with the plain form of a request if there is none."""
        self.catalogue[wanted.file_sha256] = wanted
        asked = form or request(wanted)
        self.do(Wanted(desired=msgspec.json.encode(asked), request=asked, **fields), pipeline)

    def ends(self, pipeline: str, answer: Stimulus) -> None:
        """End the process of a pipeline with an answer."""
        work = self.at_work.pop(pipeline)
        if isinstance(work, Place) and isinstance(answer, Placed):
            self._place(pipeline, work.bundle)
        self.do(answer, pipeline)

    def _place(self, pipeline: str, placed: Deployed) -> None:
        if pipeline in self.downloads:
            assert self.downloads.pop(pipeline) == placed.file_sha256
            self.files[placed.file] = placed.file_sha256

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.steady += seconds

    def report(self) -> None:
        """Pass on what workers have reported."""
        waiting, self.heard = self.heard, []
        for pipeline, stimulus in waiting:
            self.do(stimulus, pipeline)

    def accept(self, pipeline: str = "p", count: int = 1) -> None:
        """Have results of the running model accepted."""
        model = self.runs.get(pipeline)
        if model is not None:
            if self.of(pipeline).stage == "trial" and model == self.of(pipeline).candidate:
                self.proven.add(pipeline)
            self.do(Accepted(model.model, model.version, count), pipeline)

    def works(self, pipeline: str = "p", verified: Deployed | None = None) -> bool:
        """Let the process of a pipeline succeed. Return whether there was one."""
        match self.at_work.get(pipeline):
            case Fetch(wanted):
                self.downloads[pipeline] = wanted.sha256
                self.ends(pipeline, Fetched())
            case Verify(wanted):
                assert self.downloads[pipeline] == wanted.sha256
                found = verified or self.catalogue[wanted.sha256]
                self.verified.add(found.file_sha256)
                self.ends(pipeline, Verified(found))
            case Place():
                self.ends(pipeline, Placed())
            case Admit(candidate):
                self.admitted.add(candidate.file_sha256)
                self.ends(pipeline, Admitted())
            case _:
                return False
        return True

    def go_on(self, pipeline: str = "p") -> bool:
        """Let the next thing go well. Return whether there was one."""
        before = self.of(pipeline)
        self.report()
        update = self.of(pipeline)
        if self.works(pipeline):
            return True
        if update.stage == "shadow" and update.request is not None:
            windows = update.request.policy.shadow_windows
            self.do(Compared(Comparison(windows=windows, results=windows, agreement=1.0)), pipeline)
        elif update.stage == "trial" and update.request is not None:
            self.passes(update.request.policy.trial_seconds)
            self.do(Compared(Comparison(windows=100, results=100, agreement=1.0)), pipeline)
            self.accept(pipeline, 20)
        return self.of(pipeline) != before or self.tick(pipeline)

    def settle(self, pipeline: str = "p") -> Update:
        """Let all go well until the update rests. Fail if it does not come to rest."""
        for _ in range(60):
            update = self.of(pipeline)
            if update.stage in machine.RESTING and pipeline not in self.at_work and update.candidate is None:
                return update
            assert self.go_on(pipeline), f"{update.stage} waits for nothing"
        raise AssertionError(f"no rest: {self.of(pipeline)}")

    def tick(self, pipeline: str = "p") -> bool:
        """Let time pass until the rules want to look again. Return whether they do."""
        wait = machine.due(self.of(pipeline), self.facts)
        if wait is None:
            return False
        self.passes(wait)
        self.do(Tick(), pipeline)
        return True

    # --- what must always hold

    def check(self) -> None:
        for pipeline in self.updates.pipelines:
            update = self.of(pipeline)
            kept = [one for one in (update.good, update.previous) if one is not None]
            if update.candidate is not None and update.stage not in ("verifying", "rolled_back"):
                kept.append(update.candidate)
                assert update.candidate.file_sha256 in self.verified
            if update.stage == "trial":
                assert update.candidate is not None
                assert update.candidate.file_sha256 in self.admitted
            for one in kept:
                assert self.files.get(one.file) == one.file_sha256, (pipeline, update.stage, one)
            chosen = selection(update)
            assert None in chosen
            assert update.good in chosen
            assert all(one is None or self.files[one.file] == one.file_sha256 for one in chosen)
            assert chosen[0] == (update.candidate if update.stage == "trial" else update.good)
        assert LENGTH * (len(self.files) + len(self.downloads)) <= BOUND
