"""From a verified model to a bundle: manifest, golden vectors, model card, provenance, signature."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from limpet.contracts.fields import TensorInfo
from limpet.models.manifest import Manifest, Tolerance, Variant
from limpet_convert import bundle_signature, card, graph, package, runners, sign, sources
from limpet_convert.graph import Tracer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from limpet.contracts.data import Array, FloatArray, TensorSpec
    from limpet_convert.bundle_signature import Signing
    from limpet_convert.compare import Comparison
    from limpet_convert.project import Project

GOLDEN_STEPS = 3
"""Steps of the output's scale: kernels of other runtimes and delegates differ by one or two."""
FLOAT_TOLERANCE = 1e-3
"""Of the spread of a float output."""
TOOLS = (
    "limpet",
    "numpy",
    "litert-quantizer",
    "ai-edge-litert",
    "tensorflow-cpu",
    "keras",
    "torch",
    "litert-torch",
)


def bundle(  # noqa: PLR0913, PLR0917 - the parts of a bundle
    project: Project,
    model: Path,
    inputs: FloatArray,
    comparison: Comparison | None,
    folder: Path,
    others: Mapping[str, Path],
    signing: Signing | None,
    learned: card.Learned | None = None,
) -> Manifest:
    """Write the bundle into ``folder`` and return its manifest.

    ``others``: files of more variants, by runtime. ``learned``: the reference, and what was fitted in the project.
    The golden vectors are held-back windows, evenly spread. The packaged model's outputs for them on this machine
    are the expected outputs elsewhere.
    """
    runner = runners.open_model(model)
    golden = inputs[np.unique(np.linspace(0, len(inputs) - 1, project.data.golden).round().astype(int))]
    outputs = runners.run_all(runner, golden)
    where = provenance(project, model.read_bytes())
    tolerance = Tolerance(
        tolerance_of(runner.outputs[0], outputs[0], other_kernels(model.read_bytes(), [golden], outputs[:1])[0])
    )
    variants, files = variants_of(others, golden, outputs, tolerance)
    manifest = replace(
        described(project, runner),
        tolerance=tolerance,
        variants=variants,
        metrics=project.bundle.metrics | _figures(comparison, learned, seen=project.data.seen),
        provenance=where,
    )
    folder.mkdir(parents=True, exist_ok=True)
    return package.write(
        folder,
        manifest,
        model.read_bytes(),
        labels=project.bundle.labels,
        inputs=[golden.reshape(len(golden), *_closed(runner.inputs[0].shape))],
        outputs=[o.reshape(len(o), 1, *o.shape[1:]) for o in outputs],
        card=card.markdown(project, comparison, learned, where),
        reference=learned.made.member if learned else b"",
        others=files,
        signature=bundle_signature.writer(signing),
    )


def described(project: Project, runner: runners.Runner) -> Manifest:
    """Return the manifest as the project has it, without what is measured."""
    said = project.bundle
    return Manifest(
        name=said.name,
        version=said.version,
        task=said.task,
        description=said.description,
        licence=said.licence,
        inputs=[_describe(spec, said.channels, said.unit) for spec in runner.inputs],
        outputs=[_describe(spec) for spec in runner.outputs],
        stateful=said.stateful,
        rate=said.rate,
        window=said.window,
        transforms=said.transforms,
        requires=said.requires,
        limits=said.limits,
        decoder=said.decoder,
        postprocess=said.postprocess,
    )


def signing(project: Project) -> Signing | None:
    """Return who signs, if the project names keys; a file's path starts at the project file. ``ConvertError``."""
    if project.sign is None:
        return None
    wanted = [project.sign.key] if isinstance(project.sign.key, str) else project.sign.key
    signers = [sign.signer(one if one.startswith(sign.AGENT) else project.base / one) for one in wanted]
    return bundle_signature.Signing(tuple(signers), bundle_signature.expiry(project.sign.expires))


def _closed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a tensor's shape with a batch of 1 where it is left open."""
    return (1, *shape[1:]) if shape[0] == -1 else shape


def _describe(spec: TensorSpec, channels: list[str] | None = None, unit: str = "") -> TensorInfo:
    return TensorInfo(
        name=spec.name,
        shape=list(spec.shape),
        dtype=spec.dtype.name,
        scale=list(spec.scale),
        zero_point=list(spec.zero_point),
        channels=channels or [],
        unit=unit,
    )


def tolerance_of(spec: TensorSpec, output: Array, seen: float) -> float:
    """Return what another runtime may differ by: three steps, or twice what other kernels here were seen to."""
    least = GOLDEN_STEPS * spec.scale[0] if spec.scale else FLOAT_TOLERANCE * max(float(np.ptp(output)), 1e-3)
    return float(f"{max(least, 2 * seen):.4g}")


def other_kernels(model: bytes, inputs: Sequence[Array], outputs: Sequence[Array]) -> list[float]:
    """Return how far the plain kernels' outputs are from those of the kernels that the runtime prefers.

    A deep int8 model adds up what two ways of rounding differ by: on MobileNetV2 to some twenty steps.
    """
    tracer = Tracer(model, [one.shape[1:] for one in inputs])
    found = [tracer(*each) for each in zip(*inputs, strict=True)]
    return [
        max(float(np.abs(np.ravel(a[n]) - np.ravel(b)).max()) for a, b in zip(found, output, strict=True))
        for n, output in enumerate(outputs)
    ]


def variants_of(
    others: Mapping[str, Path], golden: FloatArray, outputs: list[Array], tolerance: Tolerance
) -> tuple[list[Variant], dict[str, bytes]]:
    """Return the variants with a tolerance each: what they were seen to differ by, and half of it again.

    What the Edge TPU's compiler made runs nowhere but there: its tolerance stays the manifest's.
    """
    variants, files = [], dict[str, bytes]()
    for runtime, path in others.items():
        if runtime == "edgetpu":
            files[path.name] = path.read_bytes()
            variants.append(Variant(runtime="tflite", model=path.name, delegates=["edgetpu"], tolerance=tolerance))
            continue
        found = runners.run_all(runners.open_model(path), golden)
        seen = max(float(np.abs(a - b).max()) for a, b in zip(outputs, found, strict=True))
        name = path.name if path.is_file() else f"{path.name}.zip"
        files[name] = path.read_bytes() if path.is_file() else package.folder_bytes(path)
        variants.append(
            Variant(runtime=runtime, model=name, tolerance=Tolerance(float(f"{1.5 * seen + 1e-6:.4g}")))
        )
    return variants, files


def _figures(comparison: Comparison | None, learned: card.Learned | None, *, seen: bool) -> dict[str, Any]:
    """Return what was measured. Windows that the model has ``seen`` only compare variants."""
    if comparison is None:
        return {}
    found: dict[str, Any] = {
        "agreement": round(comparison.agreement, 5),
        "size_ratio": round(comparison.size_ratio, 4),
    }
    found |= {"uncertainty": learned.fitted.figures} if learned and learned.fitted.figures else {}
    if seen:
        return found
    found |= {"float": _plain(comparison.exact), comparison.variant: _plain(comparison.converted)}
    return found | ({"groups": comparison.groups} if comparison.groups else {})


def _plain(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in metrics.items() if isinstance(value, float)}


def provenance(project: Project, model: bytes) -> dict[str, Any]:
    """Return what went in, by its hash, the tools, and the way that an ONNX model was converted to ``model`` by.

    No time, user or place: those are not inputs.
    """
    data = project.data
    paths = {
        "project": project.file,
        "model": project.model.path,
        "calibration": data.calibration,
        "test": data.test,
    }
    others = {"targets": data.targets, "groups": data.groups, "occasions": data.occasions}
    others["reference"] = project.reference.data
    paths |= {name: path for name, path in others.items() if path}
    return {
        "command": f"limpet-convert run {project.file.name}",
        "inputs": {name: digest(path) for name, path in paths.items()},
        "tools": tools(),
        "quantize": {"observer": project.quantize.observer, "variant": project.bundle.variant},
    } | ({"way": graph.way(model)} if (project.model.kind or sources.named(project.model.path)) == "onnx" else {})


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's names and files in their order."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256()
    for file in sorted(f for f in path.rglob("*") if f.is_file()):
        whole.update(f"{file.relative_to(path).as_posix()}\0{digest(file)}\n".encode())
    return whole.hexdigest()


def tools() -> dict[str, str]:
    """Return the versions of what makes bundles here."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
