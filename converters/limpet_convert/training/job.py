"""All steps from a folder of recordings to a bundle. What is written appears in the output folder at the end."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.errors import ConvertError
from limpet_convert.training import (
    backends,
    curve,
    outcome,
    packaging,
    problem,
    recorded,
    tasks,
    trainer,
)
from limpet_convert.training.packaging import Chosen
from limpet_convert.training.trainer import EPOCHS, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from limpet_convert.progress import Progress
    from limpet_convert.training.problem import Problem, Task
    from limpet_convert.training.proposals import Candidate
    from limpet_convert.training.recorded import Session
    from limpet_convert.training.search import Found
    from limpet_convert.training.trainer import Held
    from limpet_convert.training.wanted import Wanted

FEW = 4
"""Settings that are converted, to find one that is small enough."""


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
        "split_by": found.split_by,
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
    test = recorded.read(wanted.test, session.channels, rate=session.rate) if wanted.test else None
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
    packaging.package(wanted, course, chosen, test, folder, report, progress)
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
