"""All steps from a folder of recordings to a bundle. What is written appears in the output folder at the end."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.models import store
from limpet_convert import compare, package, project
from limpet_convert.conversion import Conversion
from limpet_convert.errors import ConvertError
from limpet_convert.training import (
    backends,
    curve,
    outcome,
    pieces,
    problem,
    project_file,
    recorded,
    tasks,
    trainer,
    windows,
)
from limpet_convert.training.trainer import EPOCHS, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from limpet.contracts.data import FloatArray
    from limpet_convert.progress import Progress
    from limpet_convert.project import Variant
    from limpet_convert.training.fitting import Backend, Fitted
    from limpet_convert.training.networks import Network
    from limpet_convert.training.pieces import Piece
    from limpet_convert.training.problem import Problem, Task
    from limpet_convert.training.proposals import Candidate
    from limpet_convert.training.recorded import Session
    from limpet_convert.training.search import Found
    from limpet_convert.training.tasks import Answers, Lesson
    from limpet_convert.training.trainer import Held

VARIANTS: tuple[Variant, ...] = ("int8", "int16x8", "float")
"""In this order: the first that keeps what the float model does is packaged."""
MODEL = "model"
FEW = 4
"""Settings that are converted, to find one that is small enough."""


@dataclass(frozen=True)
class Wanted:
    """What the command line says. ``window`` in samples, ``budget`` in seconds."""

    folder: Path
    task: Task
    name: str
    output: Path
    budget: float
    version: int | None = None
    kilobytes: float | None = None
    target: str = ""
    channels: tuple[str, ...] = ()
    window: int | None = None
    framework: str = ""
    test: Path | None = None
    false_alarms: float = 0.01
    force: bool = False


@dataclass(frozen=True)
class Chosen:
    """A trained setting. ``transforms`` and ``decoder`` go into the bundle; ``answers`` are those of the folds."""

    candidate: Candidate
    network: Network
    fitted: Fitted
    transforms: list[dict[str, Any]]
    decoder: dict[str, Any]
    answers: Answers


def run(wanted: Wanted, progress: Progress, say: Callable[[str], object]) -> dict[str, Any]:
    """Train, convert and package. Return the report; its ``bundle`` is ``None`` if none was written, and ``why``.

    ``say`` takes a line for people. ``ConvertError`` says what cannot be learned, and what is needed for it.
    """
    backend = backends.choose(wanted.framework)
    with progress.step("read"):
        session, test, notes = _read(wanted)
    found = _problem(session, wanted)
    notes += found.warnings
    for line in notes:
        say(f"Note: {line}")
    course = Trainer(backend, found, tasks.lesson(found, wanted.false_alarms))
    with progress.step("windows"):
        plan = trainer.propose(found, [wanted.window] if wanted.window else ())
        usable = course.usable(plan.candidates, wanted.kilobytes)
    for line in plan.reasons:
        say(line)
    if not usable:
        raise ConvertError(_none_usable(wanted, found))
    with progress.step("search") as share:
        searched = course.search(usable, wanted.budget, share)
    say(_searched(searched, len(usable)))
    report = {
        "format": 1,
        "task": wanted.task,
        "framework": backend.name,
        "labels": list(found.labels),
        "channels": list(found.channels),
        "recordings": len(session.recordings),
        "held_by": found.held_by,
        "folds": found.fold_count,
        "search": outcome.searched(searched),
        "reasons": list(plan.reasons),
        "notes": notes,
        "bundle": None,
        "why": "",
    }
    with _scratch(wanted.output) as scratch:
        for number, candidate in enumerate(_ranked(searched, course, wanted)):
            if _try(wanted, course, candidate, test, scratch / str(number), report, progress):
                break
        else:
            raise ConvertError(f"--max-kb {wanted.kilobytes:g}: the model is larger after conversion; allow more")
        made = scratch / str(number)
        outcome.write(made, report)
        _move(made, wanted.output)
    return report


def _read(wanted: Wanted) -> tuple[Session, Session | None, list[str]]:
    """Return the session, the test session, and what is left out of the first and why."""
    wanted_channels = [*wanted.channels, *([wanted.target] if wanted.target and wanted.channels else [])]
    session = recorded.read(wanted.folder, wanted_channels)
    session, notes = _channels(session, wanted)
    test = recorded.read(wanted.test, session.channels) if wanted.test else None
    return session, test, [*session.notes, *notes]


def _ranked(searched: Found[Candidate], course: Trainer, wanted: Wanted) -> list[Candidate]:
    """Return the best setting. With a limit of size, also the next best smaller ones."""
    if wanted.kilobytes is None:
        return [searched.best]
    best_first = sorted(searched.trials, key=lambda one: (-one.rung, -one.score))
    found = [searched.best]
    for candidate in dict.fromkeys(one.setting for one in best_first):
        if course.network(candidate).kilobytes < course.network(found[-1]).kilobytes:
            found.append(candidate)
    return found[:FEW]


def _try(  # noqa: PLR0913, PLR0917 - what goes into a bundle
    wanted: Wanted,
    course: Trainer,
    candidate: Candidate,
    test: Session | None,
    folder: Path,
    report: dict[str, Any],
    progress: Progress,
) -> bool:
    """Measure, train and package a setting in ``folder``. Return whether it is small enough."""
    folder.mkdir()
    with progress.step("measure"):
        held = course.held(candidate, range(course.problem.fold_count), EPOCHS)
        answers = course.answers(candidate, held)
        figures = course.lesson.figures(answers)
        points = curve.curve(course, candidate, held, EPOCHS) if course.lesson.curve else []
    report |= {"held_out": figures, "curve": points, "advice": curve.advice(points, figures)}
    with progress.step("train"):
        fitted, normalise = course.final(candidate, max(1, int(np.median(held.epochs))))
    transforms = [*candidate.features.transforms, normalise]
    decoder = course.lesson.decoder(figures)
    chosen = Chosen(candidate, course.network(candidate), fitted, transforms, decoder, answers)
    report["setting"] = _setting(chosen, held)
    if not figures["better_than_chance"] and not wanted.force:
        report["why"] = f"The model is no better than {_guess(course.problem.task)}."
        return True
    _package(wanted, course, chosen, test, folder, report, progress)
    return wanted.kilobytes is None or report["sizes"]["model"] <= 1024 * wanted.kilobytes


def _guess(task: Task) -> str:
    return "the mean as a guess" if task == "regress" else "chance on windows that it did not learn from"


def _channels(session: Session, wanted: Wanted) -> tuple[Session, list[str]]:
    """Return the session with the channels to learn from, and what is left out and why."""
    if wanted.channels:
        return session, []
    notes = []
    still = [name for name in problem.still(session) if name != wanted.target]
    if still:
        notes.append(f"{', '.join(still)}: never changes; left out.")
    leaking = problem.leaking(session.recordings, session.channels) if wanted.task == "classify" else []
    if leaking := [name for name in leaking if name not in still]:
        notes.append(
            f"{', '.join(leaking)}: changes with the label alone, so it gives the label away; left out. "
            "Name it in --channels to learn from it."
        )
    left = [name for name in session.channels if name not in {*still, *leaking}]
    if not set(left) - {wanted.target}:
        raise ConvertError(f"no channel is left to learn from: {' '.join(notes)}")
    return session.chosen(left), notes


def _problem(session: Session, wanted: Wanted) -> Problem:
    if wanted.task == "classify":
        return problem.classify(session, wanted.window)
    if wanted.task == "regress":
        return problem.regress(session, wanted.target, wanted.window)
    return problem.anomaly(session, wanted.window)


def _none_usable(wanted: Wanted, found: Problem) -> str:
    if wanted.kilobytes is not None:
        return f"--max-kb {wanted.kilobytes:g}: no network is that small. Allow more, or use a shorter --window."
    counts = Counter[str]()
    for piece in found.pieces:
        counts[piece.label] += len(piece.values)
    label, samples = min(counts.items(), key=lambda one: one[1])
    return f"no window fits: label {label!r} has {samples} samples. Record more of it, or use a shorter --window."


def _searched(found: Found[Candidate], usable: int) -> str:
    tried = sum(1 for one in found.trials if not one.rung)
    early = "" if found.complete else " The time was too short for the whole plan; allow more with --budget."
    return f"Tried {tried} of {usable} settings. Chosen: {found.best.words}.{early}"


def _setting(chosen: Chosen, held: Held) -> dict[str, Any]:
    one = chosen.candidate
    return {
        "window": one.size,
        "hop": one.hop,
        "features": one.features.name,
        "network": chosen.network.kind,
        "width": one.width,
        "learning_rate": one.rate,
        "parameters": chosen.network.parameters,
        "operations": chosen.network.operations,
        "epochs": list(held.epochs),
    }


def _package(  # noqa: PLR0913, PLR0917 - what goes into a bundle
    wanted: Wanted,
    course: Trainer,
    chosen: Chosen,
    test: Session | None,
    scratch: Path,
    report: dict[str, Any],
    progress: Progress,
) -> None:
    """Write the model, its data and its project file, and make the bundle of them. Fill in the report."""
    found, one = course.problem, chosen.candidate
    chosen.fitted.model.save(scratch / f"{MODEL}{course.backend.suffix}")
    data: dict[str, Any] = {"calibration": "data/calibration", "test": "data/calibration", "seen": True}
    seen = project_file.excerpt(found.whole, one.size, one.hop)
    project_file.write_pieces(seen, scratch / "data" / "calibration")
    tested = replace(found, pieces=tuple(seen))
    if test is not None:
        whole = _test_problem(found, test, wanted)
        some = project_file.excerpt(whole.pieces, one.size, one.hop, project_file.MOST_TESTED)
        tested = replace(whole, pieces=tuple(some))
        project_file.write_pieces(tested.pieces, scratch / "data" / "test")
        data |= {"test": "data/test", "seen": False}
    if not tested.pieces:
        raise ConvertError(f"{wanted.test}: every span is shorter than a window of {one.size} samples")
    cut = windows.cut(tested.pieces, one.window, chosen.transforms, found.rate)
    project_file.write_targets(tested.targets(cut), scratch / "data" / "targets.npy")
    data["targets"] = "data/targets.npy"
    version = wanted.version or _next_version(wanted.output, wanted.name)
    tables = _tables(wanted, found, chosen, report, course.backend, version)
    tables["data"] = data
    conversion = _converted(tables, scratch, _normal(course, chosen), wanted.false_alarms, progress)
    threshold = tables["bundle"]["decoder"].get("threshold")
    if threshold is not None:
        report["held_out"] = tasks.lesson(found, wanted.false_alarms, threshold).figures(chosen.answers)
    if test is not None:
        report["test"] = _tested(conversion, tasks.lesson(tested, wanted.false_alarms, threshold), tested, cut)
    manifest = conversion.package(None)
    report["bundle"] = str(wanted.output / package.file_name(manifest))
    report["version"] = version
    report["variant"] = conversion.project.bundle.variant
    compared = conversion.measure(conversion.project.bundle.variant)
    report["sizes"] = {
        "model": compared.size,
        "float": round(compared.size / compared.size_ratio),
        "bundle": (scratch / package.file_name(manifest)).stat().st_size,
    }
    report["agreement_with_float"] = compared.agreement


def _tables(  # noqa: PLR0913, PLR0917 - what a project file says
    wanted: Wanted, found: Problem, chosen: Chosen, report: dict[str, Any], backend: Backend, version: int
) -> dict[str, dict[str, Any]]:
    one, figures = chosen.candidate, report["held_out"]
    units = {unit for unit in found.units if unit}
    held = {"by": found.held_by, "folds": found.fold_count} | {
        name: round(figures[name], 4)
        for name in ("accuracy", "balanced_accuracy", "f1", "mae", "r2")
        if name in figures
    }
    bundle: dict[str, Any] = {
        "name": wanted.name,
        "version": version,
        "task": found.task,
        "description": outcome.description(found, one),
        "channels": list(found.channels),
        "window": {"size": one.size, "hop": one.hop},
        "transforms": chosen.transforms,
        "decoder": chosen.decoder,
        "metrics": {"held_out": held},
    }
    if found.task == "classify":
        bundle["labels"] = list(found.labels)
    if len(units) == 1:
        bundle["unit"] = next(iter(units))
    if found.rate:
        bundle["rate"] = found.rate
    return {
        "model": {"path": f"{MODEL}{backend.suffix}", "options": backend.options},
        "bundle": bundle,
        "card": {"data": outcome.data_line(report), "limits": outcome.limits_line(found)},
    }


def _normal(course: Trainer, chosen: Chosen) -> FloatArray | None:
    """Return all normal windows as the model gets them, of a task that has a threshold."""
    if "threshold" not in chosen.decoder:
        return None
    normal = [piece for piece in course.problem.whole if not piece.label]
    return windows.cut(normal, chosen.candidate.window, chosen.transforms, course.problem.rate).values


def _converted(
    tables: dict[str, dict[str, Any]],
    scratch: Path,
    normal: FloatArray | None,
    false_alarms: float,
    progress: Progress,
) -> Conversion:
    """Convert to the first variant that keeps what the float model does.

    A threshold is raised until the variant itself keeps the rate of false alarms: rounding adds to its scores.
    """
    file = scratch / project_file.NAME
    for variant in VARIANTS:
        tables["bundle"]["variant"] = variant
        tables["quantize"] = {"variants": [variant]}
        project_file.write(file, tables)
        conversion = Conversion(project.read(file), scratch, progress)
        if normal is not None:
            decoder = tables["bundle"]["decoder"]
            outputs = compare.run(conversion.variant(variant), normal).values[0]
            decoder["threshold"] = max(decoder["threshold"], tasks.threshold(outputs, normal, false_alarms))
            project_file.write(file, tables)
            conversion.project = project.read(file)
        if conversion.verify():
            return conversion
    raise ConvertError(f"{file.name}: no variant keeps what the float model does; see report.md")


def _test_problem(found: Problem, test: Session, wanted: Wanted) -> Problem:
    """Return the pieces of the test session. ``ConvertError`` if it does not go with what was learned."""
    if found.rate and test.rate and abs(test.rate - found.rate) > recorded.RATES * found.rate:
        raise ConvertError(
            f"{wanted.test}: has {test.rate:g} samples a second, but {wanted.folder} has {found.rate:g}"
        )
    tested = _pieces(found, test, wanted)
    unknown = sorted({piece.label for piece in tested} - set(found.labels))
    if found.task == "classify" and unknown:
        raise ConvertError(f"{wanted.test}: label {unknown[0]!r} is not in {wanted.folder}")
    if not tested:
        raise ConvertError(f"{wanted.test}: nothing has a label. Run: limpet label {wanted.test}")
    if found.task == "anomaly" and all(piece.label for piece in tested):
        raise ConvertError(f"{wanted.test}: nothing is normal. Record that too, to see how often it is reported.")
    return replace(found, pieces=tuple(tested), names=tuple(one.file for one in test.recordings), folds={})


def _pieces(found: Problem, test: Session, wanted: Wanted) -> list[Piece]:
    chosen = test.chosen(found.channels)
    if found.task == "classify":
        return pieces.of_spans(chosen.recordings)
    if found.task == "anomaly":
        normal, strange = problem.normal_and_strange(chosen)
        return [*normal, *strange]
    if wanted.target:
        return pieces.everything(chosen.recordings, test.column(wanted.target))
    return problem.numbered(pieces.of_spans(chosen.recordings))


def _tested(conversion: Conversion, lesson: Lesson, tested: Problem, cut: windows.Windows) -> dict[str, Any]:
    """Return what the packaged model makes of the test session."""
    inputs = conversion.test.values
    outputs = compare.run(conversion.path(conversion.project.bundle.variant), inputs).values[0]
    goal = tasks.Goal(outputs)
    values = lesson.answer(outputs.reshape(len(cut), -1), inputs, goal)
    answers = tasks.Answers(values, tested.targets(cut), tested.recording_of(cut), cut.piece)
    return lesson.figures(answers)


def _next_version(folder: Path, name: str) -> int:
    """Return the version after the highest one in the folder."""
    return max(store.stored(folder).get(name, {}), default=0) + 1


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """Make a folder in the output folder that is gone at the end, whatever happens."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".train-") as folder:
        yield Path(folder)


def _move(scratch: Path, output: Path) -> None:
    """Move everything into the output folder, the bundle last."""
    bundles_last: Sequence[Path] = sorted(scratch.iterdir(), key=lambda path: path.suffix == ".limpet")
    for path in bundles_last:
        target = output / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
