"""What runs and what should: what a new configuration, new models or another level mean. Decides, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from limpet.deployment.assignments import assignments
from limpet.deployment.desired import Rollout, deepest, desired, on_rung
from limpet.models import store
from limpet.wire.records import Transition
from limpet.wording import joined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.config import Config
    from limpet.contracts.assignment import Assignment, FoundModel, PipelineAssignment
    from limpet.deployment.desired import Desired, DesiredPipeline


class News(NamedTuple):
    """An event of a pipeline."""

    event: str
    pipeline: str
    reason: str


class Plan:
    """What should run now: ``desired``, and as assignments ``cells``."""

    def __init__(self, config: Config, found: Mapping[str, Sequence[FoundModel]]) -> None:
        self._config = config
        self._found = found
        self._failed: dict[str, dict[str, str]] = {}
        self._opened: set[tuple[str, str]] = set()
        self._worked: set[tuple[str, str]] = set()
        self.level = 0
        self.desired: Desired = desired(config, found)
        self.cells: dict[str, Assignment] = assignments(self.desired)
        self.news = models_news({}, self.desired.pipelines)

    @property
    def deepest(self) -> int:
        """How many rungs the longest ladder has."""
        return deepest(self._config)

    @property
    def failed(self) -> list[Transition]:
        """The pipelines that have no model to run."""
        return [
            Transition(name, "failed", one.problem)
            for name, one in self.desired.pipelines.items()
            if one.model is None
        ]

    def runs(self, pipeline: str) -> bool:
        """Whether a pipeline is to run, or is not configured any more.

        If not, what a worker still reports of it is of the past.
        """
        one = self.desired.pipelines.get(pipeline)
        return one is None or one.model is not None

    @property
    def failed_models(self) -> frozenset[str]:
        """The SHA-256 of the models that did not work."""
        return frozenset(sha256 for models in self._failed.values() for sha256 in models)

    def hear(self, move: Transition) -> bool:
        """Take note of what a worker reports. Return whether a lower version of its model is of interest now.

        It is if a model of the store was opened, and failed before it ever ran. What fails later, or before that,
        is no matter of the version.
        """
        wanted, one = self._config.pipelines.get(move.pipeline), self.desired.pipelines.get(move.pipeline)
        if wanted is None or one is None or one.model is None:
            return False
        key = (move.pipeline, one.model.sha256)
        if move.state == "starting" and move.revision:
            self._opened.add(key)
        elif move.state == "running" and (move.model, move.version) == (one.model.name, one.model.version):
            self._worked.add(key)
        failed = self._failed.get(move.pipeline, {})
        if move.state != "failed" or key not in self._opened - self._worked or key[1] in failed:
            return False
        if not store.has_versions(on_rung(wanted, self.level).model):
            return False
        self._failed[move.pipeline] = {**failed, key[1]: move.reason}
        return True

    def reload(
        self, config: Config, found: Mapping[str, Sequence[FoundModel]], in_use: Mapping[str, PipelineAssignment]
    ) -> None:
        """Take a configuration, and the models that were found for it. ``in_use``: what pipelines run now.

        What failed before may be tried again.
        """
        self._failed.clear()
        self._opened.clear()
        self._worked.clear()
        self._config = config
        self.look_again(found, in_use)

    def look_again(
        self, found: Mapping[str, Sequence[FoundModel]], in_use: Mapping[str, PipelineAssignment]
    ) -> None:
        """Take what was found below the models that failed."""
        before = self.desired.pipelines
        self._found = found
        self._update(in_use)
        self.news = models_news(before, self.desired.pipelines)

    def step(self, level: int, reason: str, in_use: Mapping[str, PipelineAssignment]) -> None:
        """Take another level of the governor, for a reason. ``in_use``: what pipelines run now."""
        before, event = self.desired.pipelines, "stepped_down" if level > self.level else "stepped_up"
        self.level = level
        self._update(in_use)
        moved = [
            News(event, name, f"{reason}; runs {described(one)}")
            for name, one in self.desired.pipelines.items()
            if (one.model, one.options) != (before[name].model, before[name].options)
        ]
        self.news = [*moved, *models_news(before, self.desired.pipelines)]

    def _update(self, in_use: Mapping[str, PipelineAssignment]) -> None:
        rollout = Rollout(dict(in_use), self._failed)
        self.desired = desired(self._config, self._found, rollout=rollout, level=self.level)
        self.cells = assignments(self.desired)


def models_news(before: Mapping[str, DesiredPipeline], after: Mapping[str, DesiredPipeline]) -> list[News]:
    """Return an event for each pipeline that does not run the model that it should, unless that is no news."""
    news = []
    for name, one in after.items():
        reasons = one.passed_over or ((one.problem,) if one.problem else ())
        old = before.get(name)
        known = old is not None and (old.passed_over, old.problem) == (one.passed_over, one.problem)
        if one.model and reasons and not known:
            news.append(News("passed_over", name, f"{joined(reasons)}; runs {one.model.path.name}"))
    return news


def described(pipeline: DesiredPipeline) -> str:
    """Say in a few words how a pipeline runs."""
    options = pipeline.options
    every = f", one window in {options.every}" if options.every > 1 else ""
    model = pipeline.model.path.name if pipeline.model else "no model"
    return f"{model} on {', '.join(options.delegates)}{every}"
