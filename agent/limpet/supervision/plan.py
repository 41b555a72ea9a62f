"""What runs and what should: what a new configuration, new models or another level mean. Decides, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from limpet.contracts.updates import ModelName
from limpet.deployment.assignments import assignments, with_shadows, with_traces
from limpet.deployment.candidates import has_others, key, only
from limpet.deployment.desired import Correct, Rollout, as_is, deepest, desired, has_backup, planned
from limpet.wire.records import Transition
from limpet.wording import joined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.config import Config
    from limpet.contracts.assignment import Assignment, FoundModel, PipelineAssignment, ShadowAssignment
    from limpet.deployment.desired import Desired, DesiredPipeline
    from limpet.wire.records import Incident


class News(NamedTuple):
    """An event of a pipeline."""

    event: str
    pipeline: str
    reason: str


class Plan:
    """What should run now: ``desired``, and as assignments ``cells``."""

    def __init__(
        self, config: Config, found: Mapping[str, Sequence[FoundModel]], correct: Correct = as_is
    ) -> None:
        self._config = config
        self._correct = correct
        self._found = found
        self._failed: dict[str, dict[str, str]] = {}
        self._refused: dict[str, dict[str, str]] = {}
        self._opened: set[tuple[str, str]] = set()
        self._worked: set[tuple[str, str]] = set()
        self._shadows: dict[str, ShadowAssignment] = {}
        self.level = 0
        self.backups: frozenset[str] = frozenset()
        """The pipelines that run their backup model."""
        self.desired: Desired = desired(config, found, Rollout(correct=correct))
        self.cells: dict[str, Assignment] = self._cells()
        self.news = models_news({}, self.desired.pipelines)

    @property
    def deepest(self) -> int:
        """How many steps down the governor can take. The first one also pauses all shadows."""
        return max(deepest(self._config), 1 if self._shadows else 0)

    @property
    def known(self) -> list[FoundModel]:
        """The models that were examined, and are intact."""
        return [one for models in self._found.values() for one in models if one.sha256 and not one.problem]

    @property
    def failed(self) -> list[Transition]:
        """The pipelines that have no model to run."""
        return [
            Transition(name, "failed", one.problem)
            for name, one in self.desired.pipelines.items()
            if one.model is None
        ]

    def has_model(self, pipeline: str) -> bool:
        """Whether a pipeline has a model to run."""
        one = self.desired.pipelines.get(pipeline)
        return one is not None and one.model is not None

    def model(self, pipeline: str) -> ModelName | None:
        """Return the model that a pipeline is to run, ``None`` if it has none."""
        one = self.desired.pipelines.get(pipeline)
        return ModelName(one.model.name, one.model.version) if one is not None and one.model is not None else None

    def has_first(self, pipeline: str) -> bool:
        """Whether a pipeline is to run the first one of its models. It is not if that one is damaged or failed."""
        one = self.desired.pipelines.get(pipeline)
        return one is not None and not one.skipped and one.model is not None

    def try_out(self, pipeline: str, model: FoundModel) -> Assignment | None:
        """Return the assignment of a cell in which a pipeline runs another model, ``None`` if it has no cell."""
        config, found = only(self._config, self._found, pipeline, model)
        cells = assignments(desired(config, found)).values()
        return next((cell for cell in cells if pipeline in cell.pipelines), None)

    def shadow(self, pipeline: str, shadow: ShadowAssignment | None) -> None:
        """Have a model run beside that of a pipeline, or no longer (``None``)."""
        self._shadows.pop(pipeline, None)
        if shadow is not None:
            self._shadows[pipeline] = shadow
        self.cells = self._cells()

    def _cells(self) -> dict[str, Assignment]:
        shadows = {} if self.level else self._shadows
        cells = {name: with_shadows(cell, shadows) for name, cell in assignments(self.desired).items()}
        return {name: with_traces(cell, self._config.api) for name, cell in cells.items()}

    def runs(self, pipeline: str) -> bool:
        """Whether a pipeline is to run, or is not configured any more.

        If not, what a worker still reports of it is of the past.
        """
        one = self.desired.pipelines.get(pipeline)
        return one is None or one.model is not None

    @property
    def failed_models(self) -> frozenset[str]:
        """The SHA-256 of the models that did not work."""
        return _all_of(self._failed) | _all_of(self._refused)

    def hear(self, move: Transition) -> bool:
        """Take note of what a worker reports. Return whether a lower version of its model is of interest now.

        It is if a model of the store was opened, and failed before it ever ran. What fails later, or before that,
        does not depend on the version.
        """
        wanted, one = self._config.pipelines.get(move.pipeline), self.desired.pipelines.get(move.pipeline)
        if wanted is None or one is None or one.model is None:
            return False
        key = (move.pipeline, one.model.sha256)
        if move.state == "starting" and move.revision:
            self._opened.add(key)
        elif move.state == "running" and (move.model, move.version) == (one.model.name, one.model.version):
            self._worked.add(key)
        if move.state != "failed" or key not in self._opened:
            return False
        return self._note(self._failed, key, move.reason)

    def hear_incident(self, incident: Incident) -> bool:
        """Take note of an event. Return whether a lower version of a model is of interest now.

        It is if a model of the store did not take over from another one. The options that are new with it can
        still be right for a lower version.
        """
        one = self.desired.pipelines.get(incident.pipeline)
        if not incident.sha256 or one is None or one.model is None or one.model.sha256 != incident.sha256:
            return False
        return self._note(self._refused, (incident.pipeline, incident.sha256), incident.why)

    def _note(self, where: dict[str, dict[str, str]], key: tuple[str, str], reason: str) -> bool:
        """Take note of a model that failed before it ever ran. Return whether it may have lower versions."""
        pipeline, sha256 = key
        wanted = self._config.pipelines.get(pipeline)
        known = self._failed.get(pipeline, {}).keys() | self._refused.get(pipeline, {}).keys()
        if wanted is None or key in self._worked or sha256 in known:
            return False
        on_level = planned(wanted, self.level, backup=pipeline in self.backups)
        if not has_others(self._config, pipeline, on_level):
            return False
        where[pipeline] = {**where.get(pipeline, {}), sha256: reason}
        return True

    def refused_models(self, config: Config) -> frozenset[str]:
        """Return the SHA-256 of the models that did not take over, and are not tried again with ``config``."""
        return _all_of(self._still_refused(config))

    def _still_refused(self, config: Config) -> dict[str, dict[str, str]]:
        if config.delegates != self._config.delegates:
            return {}
        same = {name for name, one in config.pipelines.items() if one == self._config.pipelines.get(name)}
        same -= self._selected_otherwise(config)
        return {name: models for name, models in self._refused.items() if name in same}

    def retry(self, pipeline: str, in_use: Mapping[str, PipelineAssignment]) -> bool:
        """Forget which models of a pipeline failed. Return whether it should run another one now."""
        before = self.desired.pipelines
        self._failed.pop(pipeline, None)
        self._refused.pop(pipeline, None)
        self._update(in_use)
        self.news = models_news(before, self.desired.pipelines)
        return self.desired.pipelines != before

    def reload(
        self, config: Config, found: Mapping[str, Sequence[FoundModel]], in_use: Mapping[str, PipelineAssignment]
    ) -> None:
        """Take a configuration, and the models that were found for it. ``in_use``: what pipelines run now.

        What failed before may be tried again. What did not take over from another model is, if the options of its
        pipeline changed.
        """
        self._refused = self._still_refused(config)
        self._failed.clear()
        self._opened.clear()
        self._worked.clear()
        self._config = config
        self.look_again(found, in_use)

    def select(
        self, config: Config, found: Mapping[str, Sequence[FoundModel]], in_use: Mapping[str, PipelineAssignment]
    ) -> None:
        """Take a configuration that differs in what updates selected alone. That may be tried again."""
        for name in self._selected_otherwise(config):
            self._failed.pop(name, None)
            self._refused.pop(name, None)
            self._opened = {key for key in self._opened if key[0] != name}
            self._worked = {key for key in self._worked if key[0] != name}
        self._config = config
        self.look_again(found, in_use)

    def _selected_otherwise(self, config: Config) -> set[str]:
        """Return the pipelines for which updates selected something else before."""
        before = self._config.selected
        return {name for name in config.pipelines if config.selected.get(name) != before.get(name)}

    def has_backup(self, pipeline: str) -> bool:
        """Whether a pipeline has a backup model that is intact."""
        wanted = self._config.pipelines.get(pipeline)
        return wanted is not None and has_backup(wanted, self._found)

    def runs_main(self, move: Transition) -> bool:
        """Whether a worker reports that a pipeline runs its main model, and not its backup."""
        one, wanted = self.desired.pipelines.get(move.pipeline), self._config.pipelines.get(move.pipeline)
        if one is None or one.model is None or wanted is None or move.pipeline in self.backups:
            return False
        on_level = planned(wanted, self.level, backup=False)
        mains = self._found.get(key(self._config, move.pipeline, on_level), ())
        is_main = any(each.sha256 == one.model.sha256 for each in mains)
        return is_main and (move.model, move.version) == (one.model.name, one.model.version)

    def is_about_model(self, move: Transition) -> bool:
        """Whether a pipeline failed because of its model: it was opened, or crashed its worker too often."""
        one = self.desired.pipelines.get(move.pipeline)
        if one is None or one.model is None:
            return False
        return not move.revision or (move.pipeline, one.model.sha256) in self._opened

    def back_up(self, pipelines: Mapping[str, str], in_use: Mapping[str, PipelineAssignment]) -> None:
        """Have these pipelines run their backup model, each for a reason, and the others their main one.

        What failed of a main model that is tried again is forgotten.
        """
        before = self.desired.pipelines
        began, ended = pipelines.keys() - self.backups, self.backups - pipelines.keys()
        for name in ended:
            self._failed.pop(name, None)
            self._refused.pop(name, None)
        self.backups = frozenset(pipelines)
        self._update(in_use)
        after = self.desired.pipelines
        self.news = [
            *(News("backup", name, f"{pipelines[name]}; runs {described(after[name])}") for name in sorted(began)),
            *(
                News("main_retried", name, f"tries {described(after[name])}")
                for name in sorted(ended & after.keys())
            ),
            *models_news(before, after),
        ]

    def correct(self, in_use: Mapping[str, PipelineAssignment]) -> None:
        """Have pipelines run with the corrections that are in force now."""
        self._update(in_use)
        self.news = []

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
        paused, self.level = bool(self.level), level
        self._update(in_use)
        moved = [
            News(event, name, f"{reason}; runs {described(one)}")
            for name, one in self.desired.pipelines.items()
            if (one.model, one.options) != (before[name].model, before[name].options)
        ]
        self.news = [*moved, *models_news(before, self.desired.pipelines), *self._shadow_news(reason, paused)]

    def _shadow_news(self, reason: str, paused: bool) -> list[News]:  # noqa: FBT001 - private
        """Return that shadows are paused, or go on, if that changed. ``paused``: whether they were before."""
        if paused == bool(self.level):
            return []
        event = "shadow_resumed" if paused else "shadow_paused"
        return [News(event, name, reason) for name in self._shadows if name in self.desired.pipelines]

    def _update(self, in_use: Mapping[str, PipelineAssignment]) -> None:
        names = self._failed.keys() | self._refused.keys()
        failed = {name: {**self._failed.get(name, {}), **self._refused.get(name, {})} for name in names}
        rollout = Rollout(dict(in_use), failed, self.backups, self._correct)
        self.desired = desired(self._config, self._found, rollout=rollout, level=self.level)
        self.cells = self._cells()


def _all_of(failed: Mapping[str, Mapping[str, str]]) -> frozenset[str]:
    """Return the SHA-256 of all models that are noted for a pipeline."""
    return frozenset(sha256 for models in failed.values() for sha256 in models)


def models_news(before: Mapping[str, DesiredPipeline], after: Mapping[str, DesiredPipeline]) -> list[News]:
    """Return an event for each pipeline that does not run the model that it should, unless that is no news."""
    news = []
    for name, one in after.items():
        reasons = one.skipped or ((one.problem,) if one.problem else ())
        old = before.get(name)
        known = old is not None and (old.skipped, old.problem) == (one.skipped, one.problem)
        if one.model and reasons and not known:
            news.append(News("skipped", name, f"{joined(reasons)}; runs {one.model.path.name}"))
    return news


def described(pipeline: DesiredPipeline) -> str:
    """Say in a few words how a pipeline runs."""
    options = pipeline.options
    every = f", one window in {options.every}" if options.every > 1 else ""
    model = pipeline.model.path.name if pipeline.model else "no model"
    return f"{model} on {', '.join(options.delegates)}{every}"
