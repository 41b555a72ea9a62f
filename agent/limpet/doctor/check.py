"""All problems of a configuration, and what it would run. Each pipeline runs once, in a child process."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import structs

from limpet import config as configuration
from limpet.accelerators.inventory import missing
from limpet.contracts.assignment import PipelineOptions
from limpet.contracts.delegate import CPU
from limpet.delivery import reporters
from limpet.deployment.assignments import sources_alone
from limpet.deployment.local import first_that_works, look_up
from limpet.device.machine import Machine
from limpet.doctor import local_api
from limpet.errors import ConfigError, ConfigFileError, DeployError, LimpetError, ModelError
from limpet.inference import monitoring, needs, planning, trial, unpacking
from limpet.inference.delegates import resolve_delegates
from limpet.inference.savings_plan import with_savings
from limpet.models import bundle as bundles
from limpet.models import deployed, store
from limpet.problems.locate import locate
from limpet.trust import library
from limpet.trust.settings import FOLDER, trust_of
from limpet.wording import below

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from limpet.config import Config, PipelineConfig
    from limpet.contracts.assignment import Assignment, FoundModel
    from limpet.contracts.data import SampleSpec
    from limpet.errors import Problem
    from limpet.inference.plan import PipelinePlan
    from limpet.tables import ApiTable

    Found = dict[str, list[FoundModel]]


class PipelineFound(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline that can run here. ``rung``: 0, or the rung of its ladder.

    ``every``: one window in so many is run. ``delegates`` are tried in this order.
    """

    name: str
    source: str
    model: str
    version: int
    delegates: tuple[str, ...]
    every: int = 1
    rung: int = 0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a line for people."""
        every = f", one window in {self.every}" if self.every > 1 else ""
        rung = f" (rung {self.rung} of its ladder)" if self.rung else ""
        on = ", ".join(self.delegates)
        line = f"{self.name}: {self.source} -> {self.model} {self.version} on {on}{every}{rung}"
        return "; ".join([line, *self.notes])


class Findings(NamedTuple):
    """What a check finds. ``problems`` keep the daemon or a pipeline from running."""

    problems: list[str]
    pipelines: list[PipelineFound]
    warnings: list[str]

    @property
    def lines(self) -> list[str]:
        """Pipelines and warnings as lines for people."""
        return [*map(str, self.pipelines), *self.warnings]


def check_file(path: Path) -> tuple[list[Problem], Findings]:
    """Return all that is wrong with a file, in its order, and what else there is to say."""
    try:
        text, tables = configuration.parse(path)
    except ConfigFileError as error:
        return list(error.found), Findings([], [], [])
    read = configuration.examine(tables, path.absolute().parent)
    complete = read.no_reporter or not read.problems
    wanted = deployed.as_chosen(read.config)
    found = inspect(wanted, read.wrong, complete=complete)
    return locate(path, text, [*read.problems, *found.problems]), found


def inspect(
    wanted: Config, wrong: Mapping[str, PipelineConfig] | None = None, *, complete: bool = True
) -> Findings:
    """Return all problems of a well-formed configuration, and the pipelines that are fine.

    ``wrong`` has other pipelines, with something wrong in their tables: only their options are checked.
    ``complete``: no reporter that is wrong was left out.
    """
    found = Findings([], [], [])
    _reporters(wanted, found, complete=complete)
    _trust(wanted, found)
    if wanted.api is not None:
        found.problems.extend(local_api.problems(wanted.api))
        found.problems.extend(_guest_problems(wanted, wanted.api))
        found.warnings.extend(f"warning: api: {each.what}: {each.why}" for each in local_api.risks(wanted.api))
    specs = _sources(wanted, found.problems)
    with _aside(wanted) as aside:
        models = look_up(aside)
        for name, pipeline in wanted.pipelines.items():
            if pipeline.source not in specs:
                wrong = {**(wrong or {}), name: pipeline}
                continue
            for level in range(len(pipeline.ladder) + 1):
                try:
                    ready, warnings = _rung(aside, models, name, level, specs[pipeline.source])
                    found.pipelines.append(ready)
                    found.warnings.extend(warnings)
                except ConfigError as error:
                    found.problems.extend(error.problems)
                except LimpetError as error:
                    found.problems.append(_placed(error, pipeline, name, level))
            if pipeline.backup is not None:
                found.problems.extend(_backup_problems(aside, models, name, specs[pipeline.source]))
    for name, pipeline in (wrong or {}).items():
        found.problems.extend(planning.problems_of_options(sources_alone(wanted, ()), name, pipeline.options))
    return found


def _guest_problems(config: Config, table: ApiTable) -> list[str]:
    """Return why models for clients cannot be loaded: they are not in the store, or a delegate is wrong."""
    found = {text: store.candidates(text, config.folders) for text in table.models}
    problems = [f"api.models: {first.problem}" for first, *_ in found.values() if first.problem]
    wanted = PipelineOptions(delegates=table.delegates)
    resolve_delegates(sources_alone(config, ()), wanted, "api", problems)
    return problems


def _backup_problems(config: Config, models: Found, name: str, spec: SampleSpec) -> list[str]:
    """Return why the backup model of a pipeline cannot run in its place."""
    pipeline = config.pipelines[name]
    assert pipeline.backup is not None
    alone = structs.replace(pipeline, model=pipeline.backup.model, ladder=[], backup=None)
    try:
        _rung(structs.replace(config, pipelines={name: alone}, selected={}), models, name, 0, spec)
    except ConfigError as error:
        return list(error.problems)
    except LimpetError as error:
        return [f"pipelines.{name}.backup.model: {error}"]
    return []


def _placed(error: LimpetError, pipeline: PipelineConfig, name: str, level: int) -> str:
    """Return why a pipeline cannot run on a rung, with the keys that it is about."""
    where = f"pipelines.{name}"
    if str(error).startswith(f"{where}."):
        return str(error)
    if level:
        where = f"{where}.ladder[{level - 1}]"
    elif isinstance(error, DeployError):
        where = f"{where}.model"
    return below(where, str(error), pipeline.__struct_encode_fields__)


def _reporters(wanted: Config, found: Findings, *, complete: bool) -> None:
    """Add what is wrong with the reporters.

    A file that this user may not open is a problem only if this user runs the daemon.
    """
    problems, denied = reporters.inspect(wanted, complete=complete)
    found.problems.extend(problems)
    if _is_owner(wanted.device.state, missing=True):
        found.problems.extend(denied)
    else:
        found.warnings.extend(f"warning: not checked: {line}; check as the user of the service" for line in denied)


def _trust(wanted: Config, found: Findings) -> None:
    """Add what is wrong with the root of trust, and a warning if it expires soon."""
    if (trust := trust_of(wanted)) is None:
        return
    try:
        library.require()
        from limpet.trust import chain, files  # they load cryptography

        report = chain.report_of(files.read(trust), trust.now())
    except LimpetError as error:
        found.problems.append(f"trust.root: {error}")
        return
    if report.problem:
        found.warnings.append(f"warning: trust: {report.problem}")


def _is_owner(state: Path, *, missing: bool) -> bool:
    """Whether the state directory is this user's. ``missing``: what to return if there is none."""
    try:
        return state.stat().st_uid == os.geteuid()
    except FileNotFoundError:
        return missing
    except OSError:
        return False


def _sources(wanted: Config, problems: list[str]) -> dict[str, SampleSpec]:
    """Return what the samples of each source are, and add what is wrong with the others to ``problems``."""
    specs = {}
    for name in wanted.sources:
        try:
            alone = sources_alone(wanted, [name])
            needs.of_description(alone.folders, name, planning.source_plugin(alone, name))
            specs[name] = planning.plan_source(alone, name).spec
        except ConfigError as error:
            problems += error.problems
    return specs


def _rung(
    config: Config, models: Found, name: str, level: int, spec: SampleSpec
) -> tuple[PipelineFound, list[str]]:
    """Return a pipeline on one rung of its ladder, and warnings. ``LimpetError`` says why it does not run.

    As the daemon does, this skips versions that do not work, if there is a lower one that does.
    """
    made, one = first_that_works(config, name, lambda cell: _tried(cell, name, spec), models, level)
    warnings = [*made.warnings, *(f"skipped {why}" for why in one.skipped)]
    warnings += filter(None, [monitoring.misfit(made)])
    described = _describe(made, config.pipelines[name].source, level)
    return described, [f"{name}: warning: {warning}" for warning in warnings]


def _tried(assignment: Assignment, name: str, spec: SampleSpec) -> PipelinePlan:
    """Plan a pipeline, and run it once. ``LimpetError`` says why it would fail at its start."""
    try:
        made = with_savings(assignment, name, planning.plan_pipeline(assignment, name, spec))
    except LimpetError as error:
        if refusal := _refusal(assignment, name):
            raise ModelError(f"{error}; {refusal}") from error
        raise
    lacking = _lacking(made)
    if CPU not in made.delegates and len(lacking) == len(made.delegates):
        raise ModelError(f"{'; '.join(lacking)}; with `require`, Limpet does not fall back to the CPU")
    if reason := trial.failure(assignment, made):
        raise ModelError(reason)
    return made


def _refusal(assignment: Assignment, name: str) -> str:
    """Return why the runtime does not load a pipeline's ``.tflite`` model; empty if it does."""
    pipeline = assignment.pipelines[name]
    try:
        cache = unpacking.folder(assignment, name)
        model = bundles.load(pipeline.model.path, cache, key=pipeline.model.key).model
    except LimpetError:
        return ""  # the plan has said so
    if model.suffix != ".tflite" or pipeline.options.delegates != [CPU.name]:
        return ""
    try:
        trial.coverage(model)
    except ModelError as error:
        return str(error)
    return ""


def _lacking(made: PipelinePlan) -> list[str]:
    """Return a line for each accelerator that cannot be used here, with the reason."""
    reasons = {choice.name: missing(Machine(), choice)[0] for choice in made.accelerators}
    return [f"{name}: {reason}" for name, reason in reasons.items() if reason]


@contextmanager
def _aside(wanted: Config) -> Iterator[Config]:
    """Yield the configuration with a cache that is deleted afterwards, unless its state directory is this user's.

    What root unpacks there the service could not replace, and anyone else may not write there.
    """
    ours = _is_owner(wanted.device.state, missing=False)
    if ours:
        yield wanted
        return
    with TemporaryDirectory(prefix="limpet-check-") as folder:
        Path(folder, FOLDER).symlink_to(wanted.device.state / FOLDER)  # with the newest root of trust
        device = structs.replace(wanted.device, state=Path(folder), models=wanted.models)
        yield structs.replace(wanted, device=device)


def _describe(made: PipelinePlan, source: str, level: int) -> PipelineFound:
    manifest = made.bundle.manifest
    notes = [f"state is {made.state}"] if made.state else []
    notes += _overlap(made)
    notes += [made.bundle.problem] if made.bundle.problem else []
    notes += [f"not here: {line}" for line in _lacking(made)]
    return PipelineFound(
        name=made.name,
        source=source,
        model=manifest.name,
        version=manifest.version,
        delegates=tuple(choice.name for choice in made.delegates),
        every=made.every,
        rung=level,
        notes=tuple(notes),
    )


def _takes_each_row_once(made: PipelinePlan) -> bool:
    """Whether the transforms make rows in time, and the model gets only those that are new in a window."""
    spec = made.transforms.spec
    return spec.rate is not None and spec.hop is not None and bool(spec.shape) and spec.hop >= spec.shape[0]


def _overlap(made: PipelinePlan) -> list[str]:
    """Warn of windows that show the same samples several times to a model that remembers them."""
    size, hop = made.window.size, made.window.hop
    seconds, hop_seconds = made.window.seconds, made.window.hop_seconds
    overlaps = (size and hop and hop < size) or (seconds and hop_seconds and hop_seconds < seconds)
    if not (overlaps and made.state.lasting and made.state) or _takes_each_row_once(made):
        return []
    return ["its windows overlap, so samples enter the state more than once"]
