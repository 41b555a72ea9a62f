"""The steps from a trained model to a bundle. Each command of ``limpet-convert`` takes some of them.

What a step makes is in the build folder under a fixed name, so that the next step, or a person, finds it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from msgspec.structs import replace

from limpet_convert import (
    bundle_reference,
    bundling,
    compare,
    data,
    detections,
    layers,
    libraries,
    misfit,
    observers,
    on_device,
    package,
    proving,
    regression,
    report,
    runners,
    search,
    sources,
    uncertainty,
)
from limpet_convert.card import Learned
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Tracer
from limpet_convert.quantize import STATIC, left_in_float, quantize
from limpet_convert.uncertainty import Fitted, HeldOut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array
    from limpet.models.manifest import Manifest
    from limpet_convert.bundle_signature import Signing
    from limpet_convert.compare import Comparison, Outputs
    from limpet_convert.data import Windows
    from limpet_convert.devices import Device
    from limpet_convert.layers import Diagnosis
    from limpet_convert.observers import Range
    from limpet_convert.on_device import OnDevice
    from limpet_convert.progress import Progress
    from limpet_convert.project import Project, Variant
    from limpet_convert.search import Mixture


FLOAT = "float.tflite"
RANGES = "ranges.json"
KERNEL_WINDOWS = 50


@dataclass
class Conversion:
    """The conversion of a project. Each result is made when it is first used, and once."""

    project: Project
    folder: Path
    progress: Progress
    comparisons: list[Comparison] = field(default_factory=list)
    mixture: Mixture | None = None
    diagnosed: Diagnosis | None = None
    """Shows the layer that causes the error. For a mixture it is about plain int8."""
    choice: str = ""
    """Why another variant than the wanted one is packaged, or that its file is larger than float."""
    there: OnDevice | None = None
    """The packaged variant on a device, if it was verified on one."""
    learned: Learned | None = None
    """What is packaged for the field, once it is: what was fitted, and the reference."""
    held_out: HeldOut | None = None
    """Answers for windows that were held back, of a model that has learned from its test windows."""
    _outputs: tuple[str, Outputs] = field(default=("", compare.Outputs([], 0)), init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        libraries.keep_log(self.folder)

    @cached_property
    def model(self) -> bytes:
        """The float model as TFLite, checked against the data and the labels."""
        with self.progress.step("convert"):
            made = sources.to_float(self.project)
            misfit.refuse(made, self.calibration, self.project)
            self._prove(made, FLOAT)
            (self.folder / FLOAT).write_bytes(made)
            return made

    @cached_property
    def calibration(self) -> Windows:
        """The windows that ranges are taken from."""
        return data.calibration(self.project)

    @cached_property
    def test(self) -> Windows:
        """The windows to verify with."""
        return data.held_back(self.project)

    @cached_property
    def ranges(self) -> dict[str, Range]:
        """The range of every tensor."""
        wanted = self.project.quantize
        with self.progress.step("calibrate") as report_share:
            found = observers.ranges(
                self.model, self.calibration.values, wanted.observer, wanted.percentile, report_share
            )
        text = json.dumps({name: asdict(r) for name, r in sorted(found.items())}, indent=1)
        (self.folder / RANGES).write_text(text + "\n", encoding="utf-8")
        return found

    def path(self, variant: Variant) -> Path:
        """Return the path of a variant."""
        return self.folder / f"{variant}.tflite"

    def variant(self, variant: Variant) -> Path:
        """Make a variant; the mixture is made by its search."""
        if variant == "mixed":
            return self.mix()
        ranges = self.ranges if variant in STATIC else None
        with self.progress.step(f"quantize {variant}"):
            made = quantize(self.model, variant, ranges)
            self._prove(made, self.path(variant).name)
        self.path(variant).write_bytes(made)
        return self.path(variant)

    def _prove(self, made: bytes, name: str) -> None:
        """Have a child run a model once, on a window of the calibration. ``ConvertError`` where it cannot."""
        proving.prove(made, name, [self.calibration.values[0]])

    @cached_property
    def exact(self) -> Outputs:
        """The float model's outputs on the test windows."""
        _ = self.model
        with self.progress.step("run float"):
            return compare.run(self.folder / FLOAT, self.test.values)

    def measure(self, variant: Variant) -> Comparison:
        """Compare a variant that was made with float, once."""
        for known in self.comparisons:
            if known.variant == variant:
                return known
        with self.progress.step(f"verify {variant}"):
            other = self._run(self.path(variant))
            groups = data.groups(self.project, len(self.test))
            found = compare.compare(variant, self.exact, other, self.test, self.project.bundle, groups)
        if variant == "mixed" and self.mixture:
            found.kept = dict.fromkeys(self.mixture.layers, next(iter(self.mixture.kept.values()), ""))
        if variant == self.project.bundle.variant:  # Only this one is shipped. The others are for comparison.
            compare.judged(found, self.project.verify)
        self.comparisons.append(found)
        return found

    def _run(self, path: Path) -> Outputs:
        """Run a variant on the test windows, once as long as its file stays the same."""
        digest = bundling.digest(path)
        if self._outputs[0] != digest:
            self._outputs = (digest, compare.run(path, self.test.values))
        return self._outputs[1]

    def diagnose(self, variant: Variant) -> Diagnosis:
        """Look at each layer of a static variant that was made."""
        with self.progress.step("layers") as report_share:
            made = self.path(variant).read_bytes()
            return layers.diagnose(self.model, made, self.test.values, report_share, self._parts())

    def _parts(self) -> Sequence[Array]:
        """Return what is measured apart in the outputs: a detector's boxes and its scores."""
        if self.project.bundle.task != "detect":
            return []
        shapes = [(1, *output.shape[1:]) for output in self.exact.values]
        return detections.Reader.of(self.project.bundle).parts(shapes)

    def mix(self) -> Path:
        """Search the mixture: int8 with as few layers of more precision as the thresholds need."""
        self.variant("int8")
        diagnosis = self.diagnose("int8")
        self.diagnosed = diagnosis
        wanted = self.project.search
        target = self.path("mixed")

        def good(made: bytes) -> bool:
            self._prove(made, target.name)
            target.write_bytes(made)
            other = compare.run(target, self.test.values)
            found = compare.compare("mixed", self.exact, other, self.test, self.project.bundle)
            return not compare.judged(found, self.project.verify).failures

        with self.progress.step("search"):
            plan = search.Plan(self.model, self.ranges, diagnosis)
            self.mixture = search.search(plan, wanted.precisions, wanted.max_layers, good)
        target.write_bytes(self.mixture.model)
        return target

    def check(self) -> None:
        """Find what would be found out only after the work: in the data, and between the data and the model."""
        model = self.project.model
        if (model.kind or sources.named(model.path)) == "tflite":  # As quick as a look at the data.
            _ = self.model
        windows, test = self.calibration, self.test
        data.groups(self.project, len(test))
        compare.refuse_targets(test, self.project.bundle)
        misfit.refuse_early(self.project, windows.values.shape[1:])
        misfit.refuse_targets(self.model, test, self.project.bundle)

    def coreml(self, **changes: Any) -> Path:
        """Make a Core ML package as the project's table says, but for ``changes``."""
        project = self.project
        table = project.coreml | changes
        with self.progress.step("core ml"):
            return sources.coreml(project, table, self.calibration.values, self.folder)

    def verify(self, device: Device | None = None) -> bool:
        """Make and measure the wanted variants, and write the report. Return whether the packaged variant passes.

        With a device, the packaged variant also runs there.
        """
        self.check()
        wanted = list(dict.fromkeys([*self.project.quantize.variants, self.project.bundle.variant]))
        for variant in wanted:
            self.variant(variant)
            self.measure(variant)
        self._choose_smaller()
        packaged = self.project.bundle.variant
        inspected = packaged if packaged in STATIC else next((v for v in wanted if v in STATIC), None)
        diagnosis = self.diagnose(inspected) if inspected else None
        self.diagnosed = self.diagnosed or diagnosis
        if device:
            self.there = self._on(device, packaged)
        found = report.Found(
            self.comparisons, diagnosis, self.diagnosed, self._runtimes(packaged), self.there, self.choice
        )
        report.write(self.folder, self.project, found)
        return not self.measure(packaged).failures and not (self.there and self.there.exact.failures)

    def _choose_smaller(self) -> None:
        """Package another variant where the wanted one is larger than float; ``choice`` says so.

        The smallest of the project's variants that passes is taken. For the Edge TPU nothing but int8 will do.
        """
        bundle = self.project.bundle
        large = self.measure(bundle.variant)
        if bundle.variant == "float" or large.size_ratio < 1 or bundle.edgetpu:
            return
        self.choice = f"{bundle.variant}: its file is larger than the float model's ({large.size_ratio:.2f} of it)"
        for one in sorted(self.comparisons, key=lambda one: one.size):
            if one.size_ratio < 1 and not compare.judged(one, self.project.verify).failures:
                chosen = cast("Variant", one.variant)
                large.failures.clear()  # It is for comparison now.
                self.project = replace(self.project, bundle=replace(bundle, variant=chosen))
                self.choice += f". {chosen} passes and is smaller: it is packaged instead"
                return
            one.failures.clear()
        compare.judged(large, self.project.verify)
        self.choice += ", and no other of quantize.variants that passes is smaller than float. "
        self.choice += 'Set bundle.variant to "float" for a smaller file, or see docs/how-to/convert-a-model.md'

    def _on(self, device: Device, variant: Variant) -> OnDevice:
        path = self.path(variant)
        with self.progress.step(f"on {device.name}"):
            here = compare.run(path, self.test.values)
            limits = self.project.verify
            return on_device.measure(device, path, self.exact, here, self.test, self.project.bundle, limits)

    def _edgetpu(self, int8: Path) -> Path:
        from limpet_convert.converters import edgetpu

        with self.progress.step("edge tpu"):
            made, _ = edgetpu.convert(int8)
        target = self.folder / "int8_edgetpu.tflite"
        target.write_bytes(made)
        return target

    def _runtimes(self, variant: Variant) -> dict[str, float]:
        """Return how far each kind of kernels here is from the float model, over some of the test windows."""
        from limpet.runtimes import tflite

        some = slice(None, None, max(1, len(self.test) // KERNEL_WINDOWS))
        inputs, exact = self.test.values[some], self.exact.values[0][some]
        tracer = Tracer(self.path(variant).read_bytes())
        plain = np.stack([tracer(one)[0].reshape(exact.shape[1:]) for one in inputs])
        usual = compare.run(self.path(variant), inputs).values[0]
        name = f"{tflite.package} {tflite.version}"
        found = {f"{name}, as the agent runs it": usual, f"{name}, plain kernels": plain}
        return {kernels: float(np.abs(outputs - exact).max()) for kernels, outputs in found.items()}

    def package(self, signing: Signing | None) -> Manifest:
        """Write the bundle of the packaged variant. ``ConvertError`` where int8 is float in part."""
        variant = self.project.bundle.variant
        path = self.path(variant)
        comparison = self.measure(variant)
        if variant == "int8" and (left := ", ".join(left_in_float(path.read_bytes()))):
            raise ConvertError(
                f"int8: these layers have no int8 form and stayed in float: {left}; write them otherwise, "
                'or say bundle.variant = "mixed"'
            )
        others = {"coreml": self.coreml()} if self.project.coreml else {}
        if self.project.bundle.edgetpu:
            others["edgetpu"] = self._edgetpu(path)
        fitted = self._fitted(path)
        project = replace(
            self.project,
            bundle=replace(self.project.bundle, decoder=fitted.decoder, postprocess=fitted.postprocess),
        )
        self.learned = Learned(fitted, self._reference(project, path))
        with self.progress.step("package"):
            return bundling.bundle(
                project, path, self.test.values, comparison, self.folder, others, signing, self.learned
            )

    def _fitted(self, path: Path) -> Fitted:
        """Fit temperature, quantiles and transitions of the packaged variant."""
        bundle, test = self.project.bundle, self.test
        held = self.held_out
        if self.project.data.seen and held is None:
            why = "Nothing was fitted, as the model has learned from the test windows."
            return Fitted(bundle.decoder, bundle.postprocess, notes=[why])
        if held is not None and bundle.task in {"classify", "regress"}:
            found = uncertainty.fit(bundle, self.project.uncertainty, held.outputs, held.known)
            found.notes.append(
                "The packaged model has learned from all windows. These figures are of float models that each "
                "left some recordings out."
            )
            return found
        if test.targets is None or bundle.task not in {"classify", "regress"}:
            return Fitted(bundle.decoder, bundle.postprocess)
        values = self._run(path).values
        sizes = [int(np.prod(one.shape[1:])) for one in values]
        outputs = regression.numbers(values).astype(np.float32)
        if bundle.task == "classify":
            outputs = outputs[:, : sizes[0]]
        of_model = [spec.name for spec in runners.open_model(path).outputs]
        names = uncertainty.quantities(bundle, list(zip(of_model, sizes, strict=True)))
        known = uncertainty.Known(test.targets, test.runs, names, test.occasions)
        return uncertainty.fit(bundle, self.project.uncertainty, outputs, known)

    def _reference(self, project: Project, path: Path) -> bundle_reference.Made:
        """Make the reference, by way of a bundle without one."""
        if not project.reference.enabled:
            return bundle_reference.Made()
        test, labels = self.test, project.bundle.labels
        targets = np.full(len(test.kept), -1, np.int64)
        if test.targets is not None and project.bundle.task in {"classify", "anomaly"}:
            targets[test.kept] = test.targets
        groups = data.groups(project, len(test))
        if groups is not None:
            every = np.full(len(test.kept), "", groups.astype(str).dtype)
            every[test.kept] = groups
            groups = every
        with self.progress.step("reference"), TemporaryDirectory(prefix="limpet-") as scratch:
            manifest = bundling.described(project, runners.open_model(path))
            written = package.write(Path(scratch), manifest, path.read_bytes(), labels=labels)
            bundle = Path(scratch) / package.file_name(written)
            known = bundle_reference.Labelled(targets, groups, self._confused(), self._occasions())
            return bundle_reference.make(project, bundle, labels, known)

    def _occasions(self) -> Array | None:
        """Return the occasion of each window of the recordings, if the project names them."""
        if self.project.data.occasions is None:
            return None
        every = np.full(len(self.test.kept), -1, np.int64)
        every[self.test.kept] = self.test.occasions
        return every

    def _confused(self) -> tuple[Array, Array] | None:
        """Return true and said classes of windows that were held back, if there are such."""
        if self.held_out is None or self.project.bundle.task != "classify":
            return None
        return self.held_out.known.targets, self.held_out.outputs.argmax(axis=1).astype(np.int32)
