"""``limpet.Pipeline``: a model in your own program, without a daemon and without MQTT."""

from __future__ import annotations

import asyncio
import html
import logging
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, overload

import numpy as np
from msgspec.structs import replace

from limpet.config import PipelineConfig
from limpet.contracts.data import Samples, SampleSpec, Window
from limpet.deployment.assignments import sources_alone
from limpet.deployment.local import first_that_works
from limpet.errors import ConfigError, DeployError, ModelError
from limpet.inference.pipeline import Pipeline as Core
from limpet.inference.planning import plan_pipeline, plan_source
from limpet.inference.reader import Expected, Reader
from limpet.inference.savings_plan import with_savings
from limpet.inference.single import likely_samples, plan_model
from limpet.models import bundle as bundles
from limpet.models import deployed
from limpet.option_values import filled
from limpet.pictures.frame import as_frames
from limpet.problems.locate import in_file
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Self, Unpack

    from limpet.contracts.assignment import Assignment
    from limpet.contracts.outputs import Output
    from limpet.contracts.stage import Spec
    from limpet.inference.pipeline import OnFailure
    from limpet.inference.plan import SourcePlan
    from limpet.wire.records import Result

T = TypeVar("T")

log = logging.getLogger(__name__)


class Options(TypedDict, total=False):
    """What ``Pipeline`` may be opened with; otherwise all is as the model says.

    ``window``, ``transforms``, ``decoder`` and ``postprocess`` are those of the configuration.
    """

    delegates: list[str]
    """Best first. Default: the CPU."""
    channels: list[str]
    """Names of the columns that ``feed`` gets, in any order, others than the model's among them."""
    rate: float
    """Samples a second."""
    shape: tuple[int, ...]
    """Shape of one sample, such as ``(96, 96)`` for a grey image."""
    window: dict[str, Any]
    transforms: list[dict[str, Any]]
    decoder: dict[str, Any]
    postprocess: list[dict[str, Any]]


class Pipeline(Generic[T]):
    """Windows, transforms, one model and its decoder, in this process. Not thread-safe.

    Open a model file and give it arrays::

        with Pipeline("motion-1.limpet", output=Classification) as pipeline:
            for result in pipeline.feed(rows):
                print(result.output.label)

    Or open a pipeline of a configuration, which reads its own sensor::

        with Pipeline.from_config("limpet.toml", "motion") as pipeline:
            for result in pipeline:
                print(result.output)

    ``output`` is the type that results must have, such as ``Classification``, ``Anomaly``, ``Detections`` or
    ``Regression``. The type checker then knows ``result.output``. Without it, ``result.output`` may be any of
    them. A model runs without the sandbox of the daemon: use only models that you trust.
    """

    @overload
    def __init__(
        self: Pipeline[Output], model: Path | str, *, output: None = None, **options: Unpack[Options]
    ) -> None: ...

    @overload
    def __init__(self, model: Path | str, *, output: type[T], **options: Unpack[Options]) -> None: ...

    def __init__(self, model: Path | str, *, output: type[Any] | None = None, **options: Unpack[Options]) -> None:
        """Open a bundle (``.limpet``) or a bare ``.tflite`` model. ``Options`` has what may be said beside it.

        ``LimpetError``: the file is no model, it cannot run here, or its results are not of type ``output``.
        """
        if unknown := options.keys() - Options.__annotations__:
            name = min(unknown)
            raise TypeError(f"Pipeline() has no option {name!r}{suggest(name, Options.__annotations__)}")
        table: dict[str, Any] = {"source": "samples", "model": str(model)}
        table |= {
            key: options[key] for key in ("window", "transforms", "decoder", "postprocess") if key in options
        }
        wanted: PipelineConfig = filled(PipelineConfig, table, "")
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="limpet-")))
            delegates = options.get("delegates", ["cpu"])
            try:
                plan = plan_model(Path(model), _samples(Path(model), folder, options), delegates, folder, wanted)
            except DeployError as error:  # a file that is missing, damaged or no bundle
                raise ModelError(str(error)) from error
            core = stack.enter_context(Core(replace(plan, learned=None)))
            for warning in core.plan.warnings:
                log.warning("%s: %s", model, warning)
            self._take(core, None, output)
            self._stack = stack.pop_all()

    @overload
    @classmethod
    def from_config(cls, path: Path | str, name: str, *, output: None = None) -> Pipeline[Output]: ...

    @overload
    @classmethod
    def from_config(cls, path: Path | str, name: str, *, output: type[T]) -> Pipeline[T]: ...

    @classmethod
    def from_config(cls, path: Path | str, name: str, *, output: type[Any] | None = None) -> Pipeline[Any]:
        """Open the pipeline ``name`` of a configuration file, to be iterated over in this process.

        ``ConfigError`` has all that is wrong with the file. ``LimpetError`` says why the pipeline cannot run. A
        version in the store that does not work is skipped as in the daemon, with a warning in the log.
        """
        config = deployed.read_config(path)

        def opened(assignment: Assignment) -> Core:
            return Core(with_savings(assignment, name, plan_pipeline(assignment, name, source.spec)))

        with in_file(path):
            if name not in config.pipelines:
                raise ConfigError([f"pipelines: no pipeline {name!r}{suggest(name, config.pipelines)}"])
            wanted = config.pipelines[name].source
            source = plan_source(sources_alone(config, [wanted]), wanted)
            core, runs = first_that_works(config, name, opened)
        for why in runs.skipped:
            log.warning("pipeline %s: skipped %s", name, why)
        made: Pipeline[Any] = cls.__new__(cls)
        with ExitStack() as stack:
            stack.push(core)
            made._take(core, source, output)
            made._stack = stack.pop_all()
        return made

    def _take(self, core: Core, source: SourcePlan | None, output: type[Any] | None) -> None:
        """Take an open pipeline. ``ModelError`` if its results are of another type than wanted."""
        found = core.plan.output
        if output is not None and found is not output:
            gives = found.__name__ if found else "no type that it declares"
            last = core.plan.postprocess[-1] if core.plan.postprocess else core.plan.decoder
            raise ModelError(
                f"{core.plan.name}: {'postprocess' if core.plan.postprocess else 'the decoder'} {last.kind!r} "
                f"gives {gives}, not {output.__name__}; change `output`"
            )
        self._core, self._source = core, source
        self._next = 0
        if problem := core.learn():
            log.warning("%s: %s", core.plan.name, problem)

    # --- what it is

    @property
    def window(self) -> Spec:
        """What ``infer`` takes: shape ``(rows, *shape of one sample)`` with -1 for any number, dtype, channels."""
        return self._core.plan.transforms.windows

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the model's classes, empty if it has none."""
        return tuple(self._core.plan.bundle.labels)

    @property
    def delegate(self) -> str:
        """The delegate that the model is on now."""
        return self._core.model.delegate

    @property
    def discarded(self) -> int:
        """How many samples are in no window, because they are NaN or infinite or before a gap."""
        return self._core.in_no_window

    # --- results

    def infer(self, values: ArrayLike) -> Result[T]:
        """Run one window, apart from those that ``feed`` cuts, and return its result.

        ``values`` has the shape of ``window``; that of one sample will do for windows of one. ``ValueError`` if it
        has another shape or type, or a value is NaN or infinite. ``ModelError`` if model or decoder refuse it.
        """
        form = self.window
        array = _converted(values, form.dtype)
        if _is_of(array.shape, form.shape[1:]) and form.shape[0] in {1, -1}:
            array = array[None]
        if not _is_of(array.shape, form.shape):
            raise ValueError(
                f"a window has shape {_shape(form.shape)}, not {_shape(array.shape)}{_way(form.shape[1:], array)}"
            )
        if not np.isfinite(array).all():
            raise ValueError("a value of the window is NaN or infinite")
        values = as_frames(array) if form.frames else array
        window = Window(values, time.monotonic_ns(), time.time_ns(), len(array) - 1)
        with np.errstate(all="ignore"):
            result, _ = self._core.graph.infer(window)
        return result

    def feed(
        self,
        values: ArrayLike,
        times: ArrayLike | None = None,
        *,
        gap: bool = False,
        failed: OnFailure | None = None,
    ) -> list[Result[T]]:
        """Take the next samples and return a result for each window that they complete.

        ``values`` has shape ``(n, *shape of one sample)``. ``times`` are their n times in seconds, such as Unix
        time. Default: they follow each other at the pipeline's rate, or have come now. ``gap``: samples are
        missing before these. NaN or infinite samples are a gap, too; ``discarded`` counts them.

        ``ValueError`` for other shapes or types. If a window fails, ``failed`` gets the ``ModelError`` and the
        next one follows. Without it the error is raised.
        """
        spec = self._core.plan.spec if self._core.plan.columns is None else None
        dtype = self._core.plan.spec.dtype
        array = _converted(values, dtype)
        if array.ndim == 0 or (spec is not None and not _is_of(array.shape[1:], spec.shape)):
            wanted = self._core.plan.spec.shape
            raise ValueError(
                f"samples have shape {_shape(('n', *wanted))}, not {_shape(array.shape)}{_way(wanted, array)}"
            )
        monotonic_ns, wall_ns = self._times(len(array), times)
        if self._core.plan.spec.frames:  # Those of a window to come are kept, whatever becomes of the array.
            array = as_frames(array if self._core.plan.window.size == 1 else array.copy())
        samples = Samples(array, monotonic_ns, wall_ns, self._next, gap)
        self._next += len(array)
        return self._results(samples, failed)

    def __iter__(self) -> Iterator[Result[T]]:
        """Read the source and yield a result for each window, until the source ends."""
        for results in self._blocks():
            yield from results

    async def __aiter__(self) -> AsyncIterator[Result[T]]:
        """Do the same without blocking the event loop: the source is read in a thread."""
        blocks = self._blocks()
        thread = ThreadPoolExecutor(1, "limpet-pipeline")
        loop = asyncio.get_running_loop()
        try:
            while (results := await loop.run_in_executor(thread, next, blocks, None)) is not None:
                for result in results:
                    yield result
        finally:  # ``next`` returns within a second, also without a sample
            thread.submit(blocks.close)
            thread.shutdown(wait=False)

    async def stream(self, blocks: AsyncIterable[ArrayLike]) -> AsyncIterator[Result[T]]:
        """Feed blocks of samples as they come, and yield the results. The model runs in a thread."""
        async for block in blocks:
            for result in await asyncio.to_thread(self.feed, block):
                yield result

    def _blocks(self) -> Generator[list[Result[T]]]:
        """Read the source; yield the results of each block, at least once a second."""
        if self._source is None:
            raise TypeError(
                "this pipeline has no source: use infer() or feed(), or open it with Pipeline.from_config()"
            )
        source, expected = self._source.plugin, Expected(self._source.silence, self._source.spec)
        for samples in Reader(source.module, source.config, Counter(), expected):
            yield self._results(samples, None)

    def _results(self, samples: Samples, failed: OnFailure | None) -> list[Result[T]]:
        with np.errstate(all="ignore"):
            return list(self._core.feed(samples, failed))

    def _times(self, count: int, times: ArrayLike | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the monotonic and wall times of samples in ns. ``ValueError`` if there is not one for each."""
        rate = self._core.plan.spec.rate
        if times is not None:
            seconds = np.asarray(times, np.float64)
            if seconds.shape != (count,) or not np.isfinite(seconds).all():
                raise ValueError(f"times: expected {count} finite numbers of seconds, one for each sample")
            stamps = np.round(seconds * 1e9).astype(np.int64)
            return stamps, stamps
        if rate is None:
            return np.full(count, time.monotonic_ns()), np.full(count, time.time_ns())
        ordinals = np.arange(self._next, self._next + count)
        return np.round(ordinals * (1e9 / rate)).astype(np.int64), np.full(count, time.time_ns())

    # --- house-keeping

    def close(self) -> None:
        """Free the model."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Pipeline {', '.join(f'{name}: {value}' for name, value in self._facts())}>"

    def _repr_html_(self) -> str:
        """Show it as a table in a notebook."""
        rows = (f"<tr><th>{html.escape(n)}</th><td>{html.escape(v)}</td></tr>" for n, v in self._facts())
        return f"<table><caption>limpet.Pipeline</caption>{''.join(rows)}</table>"

    def _facts(self) -> list[tuple[str, str]]:
        plan, form = self._core.plan, self.window
        manifest = plan.bundle.manifest
        facts = [("model", f"{manifest.name} {manifest.version}")]
        facts += [("source", self._source.name)] if self._source else []
        facts += [("window", f"{_shape(form.shape)} {form.dtype}")]
        facts += [("channels", ", ".join(form.channels))] if form.channels else []
        facts += [("rate", f"{form.rate:g} Hz")] if form.rate else []
        facts += [("decoder", plan.decoder.kind)]
        facts += [("labels", ", ".join(self.labels))] if self.labels else []
        return [*facts, ("delegate", self.delegate)]


def _samples(model: Path, folder: Path, options: Options) -> SampleSpec:
    """Return what samples a program will feed: as the model says, but for what the program says."""
    spec = likely_samples(bundles.load(model, folder / "cache").manifest)
    if "channels" in options:
        spec = replace(spec, channels=tuple(options["channels"]), shape=(len(options["channels"]),))
    if "shape" in options:
        spec = replace(spec, shape=options["shape"])
    return replace(spec, rate=options.get("rate", spec.rate), live=False)


def _converted(values: ArrayLike, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values as an array of a dtype. ``ValueError`` if that would change them."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"expected numbers, got {array.dtype}")
    if dtype.kind in "iu":
        if array.dtype.kind == "f":
            raise ValueError(f"expected {dtype}, got {array.dtype}; for an image, bytes from 0 to 255")
        bounds = np.iinfo(dtype)
        if array.size and not (bounds.min <= array.min() and array.max() <= bounds.max):
            raise ValueError(f"expected {dtype}, got integers outside {bounds.min} to {bounds.max}")
    return np.ascontiguousarray(array, dtype)


def _is_of(shape: Sequence[int], form: Sequence[int]) -> bool:
    """Whether a shape is of a form, which has -1 for any size."""
    return len(shape) == len(form) and all(there in {size, -1} for size, there in zip(shape, form, strict=True))


def _way(sample: Sequence[int], array: NDArray[Any]) -> str:
    """Return the end of a message: how an array of another shape can be used, if it is clear what it is."""
    if _is_of(array.shape, sample):
        return "; values[None] has one sample"
    if tuple(sample) == (1,) and array.ndim == 1:
        return "; values[:, None] has one channel"
    picture = array.shape[-3:]
    if array.dtype == np.uint8 and len(sample) == len(picture) == 3 and picture[-1] == sample[-1]:
        return f"; for pictures of this size, open the pipeline with shape={_shape(picture)}"
    return ""


def _shape(shape: Sequence[object]) -> str:
    inner = ", ".join("n" if size == -1 else str(size) for size in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"
