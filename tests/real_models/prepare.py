"""Write a model's folder: its file, its data, the source framework's answers, and a project file.

``python -m real_models.prepare NAME FOLDER``, with the Python of the converters.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from real_models import frameworks
from real_models.entry import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from real_models.entry import Entry, Made

CATALOGUE = Path(__file__).parent / "catalogue"
MOST = 12_000
"""Numbers that a result can hold."""


def entries() -> Iterator[Entry]:
    """Yield all models, in the order of the page."""
    for path in sorted(CATALOGUE.glob("[!_]*.py")):
        yield from importlib.import_module(f"real_models.catalogue.{path.stem}").ENTRIES


def prepare(entry: Entry, folder: Path) -> None:
    """Write everything that ``limpet-convert`` gets."""
    made = entry.make(folder)
    names = sorted(frameworks.names(made.file))
    plan: dict[str, Any] = {
        "model": made.file.name,
        "format": frameworks.FORMATS[made.file.suffix],
        "names": names,
    }
    if made.inputs is not None:
        np.savez(folder / "inputs.npz", **made.inputs)
        (folder / "plan.json").write_text(json.dumps(plan))
        return
    assert made.calibration is not None
    assert made.test is not None
    np.save(folder / "calibration.npy", made.calibration)
    np.save(folder / "test.npy", made.test)
    answers = frameworks.answers(made.file, made.test, first="as_is" not in entry.options)
    np.savez(folder / "answers.npz", **{f"{number:02}": answer for number, answer in enumerate(answers)})
    np.save(folder / "targets.npy", _targets(made, answers))
    (folder / "convert.toml").write_text(project(entry, made, answers))
    plan["ordered"] = made.targets is not None or (len(answers) == 1 and answers[0].ndim < 4)
    (folder / "plan.json").write_text(json.dumps(plan))


def _targets(made: Made, answers: list[NDArray[np.float32]]) -> NDArray[Any]:
    """Return the classes, or the source's own answers. ``judging.write_targets`` puts these into another order."""
    if made.targets is not None:
        return made.targets
    return np.concatenate([one.reshape(len(one), -1) for one in answers], axis=1)


def project(entry: Entry, made: Made, answers: list[NDArray[np.float32]]) -> str:
    """Return the project file, with a decoder that can read the answers."""
    task = "regress" if made.targets is None else "classify"
    labels = [*made.labels, *entry.labels]
    usual = f'{{ kind = "tensor", most = {MOST} }}' if sum(one[0].size for one in answers) <= MOST else ""
    if made.labels:
        sums = answers[0].reshape(len(answers[0]), -1).sum(axis=1)
        usual = (
            f'{{ kind = "classify", activation = "{"none" if np.allclose(sums, 1, atol=1e-3) else "softmax"}" }}'
        )
    decoder = entry.decoder or usual
    return f"""[model]
path = "{made.file.name}"
options = {entry.options}

[data]
calibration = "calibration.npy"
test = "test.npy"
targets = "targets.npy"
golden = 2

[bundle]
name = "{entry.name}"
version = 1
task = "{task}"
{f"labels = {json.dumps(labels)}" if labels else ""}
{f"decoder = {decoder}" if decoder else ""}
licence = "{entry.licence}"
"""


def main() -> int:
    """Prepare one model."""
    sys.path.append(str(PACKAGES))  # Behind all that the environment has itself.
    name, folder = sys.argv[1], Path(sys.argv[2])
    (entry,) = (one for one in entries() if one.name == name)
    prepare(entry, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
