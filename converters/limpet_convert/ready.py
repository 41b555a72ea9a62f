"""A bundle from a ready-made ``.tflite`` model, without a project file.

The file's metadata (labels, normalisation, text) are used; options say the rest. The plan is the device's own, so
everything that ``limpet check`` would refuse is refused here.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec.structs import replace

from limpet import plugins, text_file
from limpet.contracts.data import Samples, SampleSpec, Window, fits
from limpet.contracts.delegate import CPU
from limpet.contracts.fields import Count, InputValue, Positive, UnwindowedInput, WindowSpec
from limpet.errors import ModelError
from limpet.inference import admission
from limpet.inference.input_fit import resized, windowed_columns
from limpet.inference.inputs import refuse_unnamed
from limpet.inference.single import plan_model
from limpet.inference.window import Windower
from limpet.models import bundle as bundles
from limpet.models.golden import check_golden
from limpet.models.manifest import Manifest, Tolerance, Variant
from limpet.option_values import filled
from limpet.runtimes import tflite
from limpet.untrusted import read_file
from limpet.wording import suggest
from limpet_convert import bundle_signature, bundling, card, data, package, proving, sources
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from limpet.contracts.data import Array
    from limpet.contracts.fields import TensorInfo
    from limpet.inference.plan import PipelinePlan
    from limpet.models.bundle import Bundle
    from limpet_convert.bundle_signature import Signing

SEED = 1
_LABELS = 1 << 20
_TASKS = ("classify", "detect", "regress", "anomaly")


class Wanted(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the model file does not say. ``None`` or an empty value leaves it as the file says.

    ``samples``: recordings, or ``.npy`` files with windows, for the golden vectors. ``golden``: how many vectors.
    """

    name: str = ""
    version: Count = 1
    task: str = ""
    description: str = ""
    licence: str = ""
    labels: Path | None = None
    channels: list[str] = []
    inputs: dict[str, InputValue] = {}
    unit: str = ""
    rate: Positive | None = None
    stateful: bool | None = None
    window: WindowSpec | None = None
    transforms: list[dict[str, Any]] | None = None
    decoder: dict[str, Any] | None = None
    samples: list[Path] = []
    golden: Count = 8
    purpose: str = ""
    limits: str = ""
    coreml: str = ""
    """Weights of a Core ML variant, see ``converters.coreml``. Empty for none."""


def bundle(path: Path, wanted: Wanted, folder: Path, signing: Signing | None) -> tuple[Manifest, Path]:
    """Write the bundle into ``folder``; return its manifest and its file.

    ``ConvertError``, ``ConfigError``, ``ModelError`` or ``DeployError`` says what of the model or the options
    cannot be: the device would refuse it as well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = read_file(path.resolve(), 1 << 31)
    proving.prove(model, path.name)
    with TemporaryDirectory(dir=folder) as scratch, _named_in_errors(path):
        work = Path(scratch)
        described = bundles.load(path, work)
        labels = _labels(wanted.labels) if wanted.labels else list(described.labels)
        manifest = _manifest(described, wanted, labels)
        # First without golden vectors: the device's own plan of it says what its inputs are.
        package.write(work, manifest, model, labels=labels)
        file = work / package.file_name(manifest)
        plan = plan_model(file, _spec(wanted, manifest.inputs[0].shape), ["cpu"], work)
        inputs, where = _vectors(plan, wanted)
        outputs, tolerance = _answers(plan, inputs, model)
        notes = _provenance(path, wanted, where)
        variants, others = _coreml(path, wanted, inputs, outputs, work)
        made = package.write(
            work,
            replace(manifest, tolerance=Tolerance(tolerance), provenance=notes, variants=variants),
            model,
            labels=labels,
            inputs=inputs,
            outputs=outputs,
            card=card.ready_made(manifest, labels, card.Description(wanted.purpose, wanted.limits, where), notes),
            others=others,
            signature=bundle_signature.writer(signing),
        )
        _prove(file, plan.spec, work)
        target = folder / file.name
        file.replace(target)
        return made, target


@contextmanager
def _named_in_errors(path: Path) -> Iterator[None]:
    """Return the description of the model's file as the device gives it for its unpacked copy."""
    try:
        yield
    except ModelError as error:
        reason = re.sub(r"[0-9a-f]{64}\.tflite: ", "", str(error)).removeprefix(f"{path}: ")
        hint = "; give --window, --channels or --transforms" if "transforms give" in reason else ""
        raise ConvertError(f"{path}: {reason}{hint}") from error


def _labels(path: Path) -> list[str]:
    try:
        found = text_file.labels(read_file(path.resolve(), _LABELS))
    except UnicodeDecodeError as error:
        raise ConvertError(f"{path}: not text: {error}") from error
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}") from error
    if not found:
        raise ConvertError(f"{path}: no label in it; write one a line, in order of the model's outputs")
    return found


def _manifest(described: Bundle, wanted: Wanted, labels: Sequence[str]) -> Manifest:
    """Return what the file and the options say together."""
    facts = tflite.describe(described.model, tflite.Config())  # Its inputs are named as the device names them.
    refuse_unnamed(facts)
    said = replace(described.manifest, inputs=list(facts.inputs), outputs=list(facts.outputs))
    names = {tensor.name for tensor in said.inputs}
    inputs = {key if key in names else facts.aliases.get(key, key): value for key, value in wanted.inputs.items()}
    if unknown := inputs.keys() - names:
        name, known = min(unknown), names | (facts.aliases.keys() - {tensor.name for tensor in said.outputs})
        raise ConvertError(f"--inputs: the model has no input {name!r}{suggest(name, known)}")
    decoder = said.decoder if wanted.decoder is None else wanted.decoder
    if not decoder:
        kind = "detect" if labels and len(said.outputs) == 4 else "classify" if labels else "regress"
        decoder = {"kind": kind}
    manifest: Manifest = filled(
        Manifest,
        msgspec.to_builtins(
            replace(
                said,
                name=wanted.name or said.name,
                version=wanted.version,
                task=wanted.task or (str(decoder.get("kind")) if decoder.get("kind") in _TASKS else ""),
                description=wanted.description or said.description,
                licence=wanted.licence or said.licence,
                inputs=[_input(tensor, inputs, wanted) for tensor in said.inputs],
                stateful=said.stateful if wanted.stateful is None else wanted.stateful,
                rate=wanted.rate or said.rate,
                window=wanted.window or said.window,
                transforms=said.transforms if wanted.transforms is None else wanted.transforms,
                decoder=decoder,
            )
        ),
    )
    return manifest


def _input(tensor: TensorInfo, inputs: Mapping[str, InputValue], wanted: Wanted) -> TensorInfo:
    """Return what an input gets: its entry in ``inputs``, else all ``channels``."""
    value = inputs.get(tensor.name, wanted.channels)
    if isinstance(value, UnwindowedInput):
        return replace(tensor, channels=[], state=value.state, constant=value.constant)
    return replace(tensor, channels=list(value), unit=wanted.unit)


def _spec(wanted: Wanted, shape: Sequence[int]) -> SampleSpec | None:
    """Return what the samples are, as a recording shows it; ``None`` where there is none to see."""
    recordings = [path for path in wanted.samples if _windows(path, shape, wanted) is None]
    if not recordings:
        windows = _windows(wanted.samples[0], shape, wanted) if wanted.samples else None
        if windows is None:
            return None
        return SampleSpec(windows.shape[2:], windows.dtype, tuple(wanted.channels), wanted.rate)
    spec: SampleSpec = _replay().describe(_played(recordings[0], wanted))
    return spec


def _replay() -> Any:
    return plugins.load("sources", "replay")


def _played(path: Path, wanted: Wanted) -> Any:
    """Return the options with which the agent's own source plays a recording."""
    options: dict[str, Any] = {"path": str(path.absolute()), "speed": "flat-out"}
    options |= {"channels": wanted.channels} if wanted.channels else {}
    options |= {"rate": wanted.rate} if wanted.rate else {}
    return filled(_replay().Config, options)


def _windows(path: Path, shape: Sequence[int], wanted: Wanted) -> Array | None:
    """Return an ``.npy`` file's windows, each of the model input's ``shape``; ``None`` for a recording."""
    if path.suffix.lower() != ".npy":
        return None
    found = data.load_array(path, "--samples")
    size = wanted.window.size if wanted.window else None
    return found if size and size > 1 and found.ndim > 2 and fits(found.shape[1:], shape) else None


def _vectors(plan: PipelinePlan, wanted: Wanted) -> tuple[list[Array], str]:
    """Return the golden inputs, ``(vectors, *shape)`` for each of the model's, and what they are made of."""
    windower = Windower(plan.window, plan.spec)
    shape, transforms = plan.transforms.spec.shape, plan.transforms.take()
    if wanted.samples:
        found = [data.transformed(window, transforms) for window in _recorded(plan, windower, wanted)]
        if not found:
            raise ConvertError(f"{wanted.samples[0]}: no window of {plan.window} in it; give a longer recording")
        chosen = np.unique(np.linspace(0, len(found) - 1, wanted.golden).round().astype(int))
        where = f"{len(chosen)} windows of {', '.join(path.name for path in wanted.samples)}"
        return _inputs(plan, [found[n] for n in chosen]), where
    random = np.random.default_rng(SEED)
    if plan.spec.dtype == np.uint8 and transforms:
        size = _closed(windower.spec.shape)
        drawn = [_window(random.integers(0, 256, size, np.uint8)) for _ in range(wanted.golden)]
        windows = [data.transformed(window, transforms) for window in drawn]
    else:
        windows = [_drawn(random, plan, _closed(shape)) for _ in range(wanted.golden)]
    return _inputs(plan, windows), f"random values with seed {SEED}, no data of a sensor"


def _window(values: Array) -> Window:
    """Return a window that follows none."""
    return Window(values, 0, 0, 0, gap=True)


def _recorded(plan: PipelinePlan, windower: Windower, wanted: Wanted) -> Iterator[Window]:
    """Yield windows before the transforms: those of a file, or those that the device cuts out of a recording."""
    for path in wanted.samples:
        windows = _windows(path, plan.bundle.manifest.inputs[0].shape, wanted)
        if windows is not None:
            yield from map(_window, windows)
            continue
        with _replay().open(_played(path, wanted), Counter()) as recording:
            for samples in recording:
                yield from windower.push(_narrowed(samples, plan))
        none = np.empty(0, np.int64)
        windower.push(
            Samples(np.empty((0, *plan.spec.shape)), none, none, 0, gap=True)
        )  # No window spans two files.


def _narrowed(samples: Samples, plan: PipelinePlan) -> Samples:
    return samples if plan.columns is None else replace(samples, values=samples.values.take(plan.columns, axis=1))


def _drawn(random: np.random.Generator, plan: PipelinePlan, shape: tuple[int, ...]) -> Array:
    """Return random input in the range of the model's first input."""
    first = plan.bundle.manifest.inputs[0]
    if not first.scale:
        whole = first.dtype.startswith(("int", "uint", "bool"))
        return random.integers(0, 2, shape).astype(np.float32) if whole else _float(random.uniform(-1, 1, shape))
    limits = np.iinfo(first.dtype)
    steps = random.integers(limits.min, limits.max, shape, endpoint=True) - (first.zero_point or [0])[0]
    return _float(steps * first.scale[0])


def _float(values: Any) -> Array:
    return np.asarray(values, np.float32)


def _closed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if size == -1 else size for size in shape)


def _inputs(plan: PipelinePlan, windows: Sequence[Array]) -> list[Array]:
    """Return what each input of the model gets, with the shape that it has there."""
    chosen = {one.name: columns for one, columns in windowed_columns(plan)}
    found = []
    for one, size in zip(plan.inputs, _sizes(plan, windows[0].shape), strict=True):
        if one.windowed:
            columns = chosen[one.name]
            parts = [window if columns is None else window[..., columns] for window in windows]
        else:
            value = _float(0.0 if one.constant is None else one.constant)
            parts = [np.full(size, value) if value.ndim == 0 else value.reshape(size)] * len(windows)
        found.append(np.stack([np.reshape(part, size) for part in parts]))
    return found


def _sizes(plan: PipelinePlan, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the shapes of the model's inputs without an open size."""
    return resized(plan, shape) or [one.shape for one in plan.inputs]


def _answers(plan: PipelinePlan, inputs: Sequence[Array], model: bytes) -> tuple[list[Array], float]:
    """Return what the device's runtime makes of the inputs, and how far another may be from it."""
    shapes = [one.shape[1:] for one in inputs]
    alone = bool(plan.state.inside) and not plan.state.lasting
    with admission.opened(plan, CPU, shapes if resized(plan, shapes[0]) else None) as opened:
        specs = opened.outputs
        opened.reset()
        rows = []
        for vector in zip(*inputs, strict=True):
            if alone:
                opened.reset()
            rows.append([np.array(output, np.float32) for output in opened.run(vector)])
    outputs = [np.stack(each) for each in zip(*rows, strict=True)]
    bad = next((spec.name for spec, o in zip(specs, outputs, strict=True) if not np.isfinite(o).all()), None)
    if bad is not None:
        raise ConvertError(
            f"the model's output {bad!r} is not finite for golden inputs; give real ones: --samples"
        )
    seen = [0.0] * len(outputs) if plan.state else bundling.other_kernels(model, inputs, outputs)
    allowed = [bundling.tolerance_of(*each) for each in zip(specs, outputs, seen, strict=True)]
    return outputs, max(allowed)


def _coreml(
    model: Path, wanted: Wanted, golden: Sequence[Array], outputs: list[Array], work: Path
) -> tuple[list[Variant], dict[str, bytes]]:
    """Return the Core ML variant that is wanted, with its file. ``ConvertError`` where the model cannot be one."""
    if not wanted.coreml:
        return [], {}
    table = {"weights": wanted.coreml, "licence": wanted.licence}
    made = sources.coreml_of(model.resolve(), "tflite", {}, work, table, [], work)
    (inputs,) = golden
    return bundling.variants_of({"coreml": made}, np.asarray(inputs, np.float32), outputs, Tolerance())


def _prove(file: Path, spec: SampleSpec, work: Path) -> None:
    """Load the bundle as a device does, and see its golden vectors again."""
    plan = plan_model(file, spec, ["cpu"], work)
    fixed = all(-1 not in tensor.shape for tensor in plan.bundle.manifest.inputs)
    with admission.opened(plan, CPU, None if fixed else _golden_shapes(plan)) as model:
        error = check_golden(plan.bundle, model, alone=bool(plan.state.inside) and not plan.state.lasting)
    if error > plan.bundle.manifest.tolerance.absolute:
        raise ModelError(f"the model gives other answers the second time: {error:g} apart; it cannot be proven")


def _golden_shapes(plan: PipelinePlan) -> list[tuple[int, ...]]:
    assert plan.bundle.golden is not None
    with np.load(plan.bundle.golden) as file:
        return [file[f"input_{number}"].shape[1:] for number in range(len(plan.inputs))]


def _provenance(path: Path, wanted: Wanted, golden: str) -> dict[str, Any]:
    files = {"model": path} | ({"labels": wanted.labels} if wanted.labels else {})
    files |= {f"samples {number}": one for number, one in enumerate(wanted.samples)}
    return {
        "command": f"limpet-convert package {path.name}",
        "inputs": {name: bundling.digest(file) for name, file in files.items()},
        "golden": golden,
        "tools": bundling.tools(),
    }
