"""``limpet inspect``: show a model, and what runs it on this machine."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet.commands._model_report import ModelReport, ReferenceReport, XnnpackCoverage, lines
from limpet.config import Config, Device
from limpet.contracts.runtime import Abilities
from limpet.errors import DeployError, ModelError
from limpet.inference import admission, trial
from limpet.inference.input_fit import resized
from limpet.inference.planning import read_facts
from limpet.inference.resolving import Resolver
from limpet.inference.single import plan_model
from limpet.models import bundle as bundles
from limpet.models import model_kind, store
from limpet.models import reference as references
from limpet.models.tflite import model_file
from limpet.models.tflite.model_file import FileMetadata
from limpet.runtimes import tflite
from limpet.trust.names import named
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse

    from limpet.contracts.messages import Placed
    from limpet.contracts.model_facts import ModelFacts
    from limpet.models.bundle import Bundle
    from limpet.models.manifest import Manifest
    from limpet.models.tflite import coverage as coverages

HELP = "Show a model: inputs, outputs, ops and what delegates cover"
GROUP = "models"
EXAMPLES = (
    ("limpet inspect motion-1.limpet", "Show a bundle."),
    ("limpet inspect motion --delegate gpu", "Show the newest version in the store, and run it on a delegate."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "model", metavar="FILE|NAME", help="A bundle (.limpet), a .tflite file, or a name in this device's store."
    )
    parser.add_argument(
        "--delegate",
        metavar="NAME",
        action="append",
        default=[],
        help="Run the model on this delegate too, and show where each op runs. Can be repeated.",
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")


def main(arguments: argparse.Namespace) -> int:
    """Print the report. Return 1 if the runtime or a delegate here refuses the model."""
    named = Path(arguments.model)
    path = (
        named
        if named.exists()
        else store.find(arguments.model, Config(Path(), Device(id="here"), {}, {}, {}).folders)
    )
    kind = model_kind.of(path)
    if kind not in {model_kind.TFLITE, model_kind.BUNDLE}:
        raise ModelError(model_kind.refused(path, kind))
    with tempfile.TemporaryDirectory() as cache:
        path = model_kind.by_content(path, kind, Path(cache))
        bundle = bundles.load(path, Path(cache))
        report = inspect(path, bundle)
        report.reference = _reference(bundle)
        report.placements = {name: _placement(path, name, Path(cache)) for name in arguments.delegate}
    print(msgspec.json.encode(report).decode() if arguments.json else printable("\n".join(lines(report))))
    return 1 if report.is_refused else 0


def inspect(path: Path, bundle: Bundle) -> ModelReport:
    """Read a model, and load it once in a child process. ``ModelError`` where the model file is damaged."""
    if bundle.manifest.runtime != "tflite":
        return _of_another_runtime(path, bundle)
    content = bundle.model.read_bytes()
    file = model_file.read(bundle.model)
    facts = tflite.describe(bundle.model, tflite.Config())
    report = ModelReport(
        file=str(path),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        min_runtime_version=file.min_runtime_version,
        runtime=f"{tflite.package} {tflite.version}",
        inputs=bundle.manifest.inputs,
        outputs=bundle.manifest.outputs,
        signatures=dict(file.signatures),
        state=_state(bundle.manifest, facts),
        state_pairs=dict(facts.pairs),
        labels=bundle.labels,
        problem=bundle.problem,
        golden=bundle.golden is not None,
        signed=bundle.signature is not None,
        signed_by=named(bundle.signature or b""),
        metadata=file.description,
        manifest=bundle.manifest,
    )
    try:
        coverage = trial.coverage(bundle.model)
    except ModelError as error:
        report.refused = str(error)
        report.ops = dict(Counter(file.ops))
    else:
        report.ops = dict(Counter(coverage.ops))
        report.delegates = {"cpu": _covered(coverage)}
    return report


def _reference(bundle: Bundle) -> ReferenceReport | None:
    if bundle.reference is None:
        return None
    try:
        return ReferenceReport.of(references.read(bundle.reference, bundle.manifest.name))
    except DeployError as error:
        return ReferenceReport(refused=str(error))


def _of_another_runtime(path: Path, bundle: Bundle) -> ModelReport:
    """Return the report of a runtime other than TFLite about its model: it has no ops that are known here."""
    content = bundle.model.read_bytes()
    manifest = bundle.manifest
    problems: list[str] = []
    runtime = Resolver(path.parent, problems).runtime(manifest.runtime, {}, "runtime", problems)
    refused, facts = "; ".join(problems), None
    if runtime is not None:
        refused = "; ".join(runtime.abilities.check(bundle.model, ["cpu"]))
        facts = None if refused else read_facts(runtime, bundle)
    able = runtime.abilities if runtime else Abilities()
    return ModelReport(
        file=str(path),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        min_runtime_version="",
        runtime=" ".join(word for word in (manifest.runtime, able.package, able.version) if word),
        refused=refused,
        inputs=manifest.inputs or list(facts.inputs if facts else ()),
        outputs=manifest.outputs or list(facts.outputs if facts else ()),
        signatures={},
        state="learns on the device what is normal" if able.learns else "",
        state_pairs={},
        labels=bundle.labels,
        problem=bundle.problem,
        golden=bundle.golden is not None,
        signed=bundle.signature is not None,
        signed_by=named(bundle.signature or b""),
        metadata=FileMetadata(),
        manifest=manifest,
    )


def _state(manifest: Manifest, facts: ModelFacts) -> str:
    """Say what a model keeps from run to run, and how a pipeline treats that; empty if it keeps nothing."""
    if not facts.state:
        return ""
    by_default = manifest.stateful is None
    lasting = facts.stateful if by_default else manifest.stateful
    if lasting is None:
        return f"{facts.state}; its file does not show for how long: a pipeline needs the key stateful"
    how = "kept from window to window, cleared after a gap" if lasting else "cleared before each window"
    return f"{facts.state}: {how}, {'by default' if by_default else 'as its manifest says'}"


def _placement(path: Path, name: str, cache: Path) -> Placed | str:
    """Return the proof of a delegate's placement, or why it is refused."""
    plan = plan_model(path, None, [name], cache)
    try:
        with admission.admitted(plan, plan.delegates[0], resized(plan)) as (_, placed):
            return placed
    except ModelError as error:
        return str(error)


def _covered(coverage: coverages.Coverage) -> XnnpackCoverage:
    """Count the ops that XNNPACK runs, and those that are left to plain kernels."""
    each = list(zip(coverage.ops, coverage.delegated, strict=True))
    return XnnpackCoverage(
        share=coverage.share,
        covered=dict(Counter(op for op, on in each if on)),
        left=dict(Counter(op for op, on in each if not on)),
    )
