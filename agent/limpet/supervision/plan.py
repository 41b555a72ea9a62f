"""What runs and what should: what a new configuration, new models or another level mean. Decides, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from limpet.deployment.assignments import assignments
from limpet.deployment.desired import Rollout, deepest, desired
from limpet.wire.records import Transition

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

    def reload(
        self, config: Config, found: Mapping[str, Sequence[FoundModel]], in_use: Mapping[str, PipelineAssignment]
    ) -> None:
        """Take a configuration, and the models that were found for it. ``in_use``: what pipelines run now."""
        before = self.desired.pipelines
        self._config, self._found = config, found
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
        self.desired = desired(self._config, self._found, rollout=Rollout(dict(in_use)), level=self.level)
        self.cells = assignments(self.desired)


def models_news(before: Mapping[str, DesiredPipeline], after: Mapping[str, DesiredPipeline]) -> list[News]:
    """Return an event for each pipeline that does not run the model that it should, unless that is no news."""
    news = []
    for name, one in after.items():
        reasons = one.passed_over or ((one.problem,) if one.problem else ())
        old = before.get(name)
        known = old is not None and (old.passed_over, old.problem) == (one.passed_over, one.problem)
        if one.model and reasons and not known:
            news.append(News("passed_over", name, f"{'; '.join(reasons)}; runs {one.model.path.name}"))
    return news


def described(pipeline: DesiredPipeline) -> str:
    """Say in a few words how a pipeline runs."""
    options = pipeline.options
    every = f", one window in {options.every}" if options.every > 1 else ""
    model = pipeline.model.path.name if pipeline.model else "no model"
    return f"{model} on {', '.join(options.delegates)}{every}"
