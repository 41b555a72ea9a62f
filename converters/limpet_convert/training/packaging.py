"""From a trained model to a bundle: its files, its project file, the conversion, and the test session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from limpet.models import store
from limpet_convert import compare, project
from limpet_convert import package as bundles
from limpet_convert.conversion import Conversion
from limpet_convert.errors import ConvertError
from limpet_convert.training import (
    outcome,
    pieces,
    problem,
    project_file,
    recorded,
    tasks,
    windows,
)
from limpet_convert.uncertainty import HeldOut, Known

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import FloatArray
    from limpet_convert.progress import Progress
    from limpet_convert.project import Variant
    from limpet_convert.training.fitting import Backend, Fitted
    from limpet_convert.training.networks import Network
    from limpet_convert.training.pieces import Piece
    from limpet_convert.training.problem import Problem
    from limpet_convert.training.proposals import Candidate
    from limpet_convert.training.recorded import Session
    from limpet_convert.training.tasks import Answers, Lesson
    from limpet_convert.training.trainer import Trainer
    from limpet_convert.training.wanted import Wanted

VARIANTS: tuple[Variant, ...] = ("int8", "int16x8", "float")
"""In this order: the first that keeps what the float model does is packaged."""
MODEL = "model"


@dataclass(frozen=True)
class Chosen:
    """A trained setting. ``transforms`` and ``decoder`` go into the bundle; ``answers`` are those of the folds."""

    candidate: Candidate
    network: Network
    fitted: Fitted
    transforms: list[dict[str, Any]]
    decoder: dict[str, Any]
    answers: Answers


def package(  # noqa: PLR0913, PLR0917 - what goes into a bundle
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
    project_file.write_occasions(tested.recording_of(cut), scratch / "data" / "occasions.npy")
    data |= {"targets": "data/targets.npy", "occasions": "data/occasions.npy"}
    version = wanted.version or _next_version(wanted.output, wanted.name)
    tables = _tables(wanted, found, chosen, report, course.backend, version)
    tables["data"] = data
    conversion = _converted(tables, scratch, _normal(course, chosen), wanted.false_alarms, progress)
    threshold = tables["bundle"]["decoder"].get("threshold")
    if threshold is not None:
        report["held_out"] = tasks.lesson(found, wanted.false_alarms, threshold).figures(chosen.answers)
    if test is not None:
        report["test"] = _tested(conversion, tasks.lesson(tested, wanted.false_alarms, threshold), tested, cut)
    if test is None and found.task != "anomaly":
        conversion.held_out = _held_out(chosen.answers, tables["bundle"])
    manifest = conversion.package(None)
    report["bundle"] = str(wanted.output / bundles.file_name(manifest))
    report["version"] = version
    report["variant"] = conversion.project.bundle.variant
    compared = conversion.measure(conversion.project.bundle.variant)
    report["sizes"] = {
        "model": compared.size,
        "float": round(compared.size / compared.size_ratio),
        "bundle": (scratch / bundles.file_name(manifest)).stat().st_size,
    }
    report["agreement_with_float"] = compared.agreement


def _held_out(answers: Answers, bundle: dict[str, Any]) -> HeldOut:
    """Return the answers of the folds, which say how sure such a model may be."""
    known = Known(answers.targets, answers.recordings, bundle["decoder"].get("names", ()))
    return HeldOut(answers.values, known)


def _tables(  # noqa: PLR0913, PLR0917 - what a project file says
    wanted: Wanted, found: Problem, chosen: Chosen, report: dict[str, Any], backend: Backend, version: int
) -> dict[str, dict[str, Any]]:
    one, figures = chosen.candidate, report["held_out"]
    units = {unit for unit in found.units if unit}
    held = {"by": found.split_by, "folds": found.fold_count} | {
        name: round(figures[name], 4)
        for name in ("accuracy", "balanced_accuracy", "f1", "mae", "r2")
        if name in figures
    }
    bundle: dict[str, Any] = {
        "name": wanted.name,
        "version": version,
        "task": found.task,
        "description": outcome.description(found, one),
        "channels": [] if found.sound else list(found.channels),
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
