"""From configuration and bundle to a plan: which plugins make up a pipeline, each with its own typed options.

A plan is made without opening a device or loading a model, so ``limpet check`` and a worker share it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from limpet import plugins
from limpet.contracts.assignment import MonitorOptions
from limpet.contracts.data import SampleSpec
from limpet.contracts.fields import WindowSpec
from limpet.device import directories
from limpet.errors import ConfigError, LimpetError, ModelError
from limpet.inference import adapted, unpacking
from limpet.inference.beside import channels_beside
from limpet.inference.decoder_fit import check_decoder
from limpet.inference.delegates import resolve_delegates
from limpet.inference.input_fit import channels_of_inputs, check_input, narrow_samples
from limpet.inference.inputs import describe, plan_inputs, plan_state, refuse_unnamed
from limpet.inference.picture_fit import picture_transforms
from limpet.inference.plan import MonitorPlan, PipelinePlan, SourcePlan
from limpet.inference.plan_warnings import warnings
from limpet.inference.postprocess_fit import misfits
from limpet.inference.resolving import Configured, Resolver
from limpet.inference.stages import Transforms
from limpet.inference.variations import refuse_unsuited
from limpet.inference.window import refuse_oversize, windows_of
from limpet.models import bundle as bundles
from limpet.models.requirements import delegate_problem
from limpet.untrusted import reading
from limpet.wording import below, bug, suggest

if TYPE_CHECKING:
    from limpet.contracts.assignment import Assignment, PipelineAssignment, PipelineOptions
    from limpet.contracts.captures import KeepOptions
    from limpet.contracts.delegate import Choice
    from limpet.contracts.model_facts import ModelFacts
    from limpet.models.manifest import Manifest


def plan_source(assignment: Assignment, name: str) -> SourcePlan:
    """Resolve one source. ``ConfigError`` has all that is wrong with it."""
    plugin = source_plugin(assignment, name)
    try:
        spec = plugin.module.describe(plugin.config)
    except ConfigError as error:
        keys = plugin.config.__struct_encode_fields__
        raise ConfigError([below(f"sources.{name}", problem, keys) for problem in error.problems]) from error
    except LimpetError:
        raise
    except Exception as error:
        raise ConfigError([f"sources.{name}: describe() of {plugin.kind!r} failed: {bug(error)}"]) from error
    if not isinstance(spec, SampleSpec):
        kind = type(spec).__name__
        raise ConfigError([f"sources.{name}: describe() of {plugin.kind!r} returned {kind}, not a SampleSpec"])
    table = assignment.sources[name]
    if table.silence is not None and not spec.live:
        raise ConfigError([f"sources.{name}.silence: a source that waits for the model is never silent"])
    silence = spec.patience if table.silence is None else table.silence
    return SourcePlan(name, plugin, spec, table.queue or spec.queue, table.queue_bytes, silence)


def source_plugin(assignment: Assignment, name: str) -> Configured:
    """Resolve the options of one source. ``ConfigError`` has all that is wrong with them."""
    table = assignment.sources[name]
    resolve = Resolver(assignment.folders.base, [])
    plugin = resolve.plugin("sources", table.kind, table.options, f"sources.{name}")
    if plugin is None:
        raise ConfigError(resolve.problems)
    return plugin


def problems_of_options(assignment: Assignment, name: str, wanted: PipelineOptions) -> list[str]:
    """Return what is wrong with the options of a pipeline, as far as its model is not needed to know.

    The assignment need not have the pipeline yet.
    """
    where = f"pipelines.{name}"
    resolve = Resolver(assignment.folders.base, [])
    resolve.all("transforms", wanted.transforms or [], f"{where}.transforms")
    if wanted.decoder is not None:
        resolve.table("decoders", wanted.decoder, f"{where}.decoder")
    resolve.all("postprocess", wanted.postprocess or [], f"{where}.postprocess")
    resolve_delegates(assignment, wanted, where, resolve.problems)
    _monitors(wanted.monitors, resolve, f"{where}.monitors")
    return resolve.problems


def plan_pipeline(assignment: Assignment, name: str, spec: SampleSpec, *, decodes: bool = True) -> PipelinePlan:
    """Resolve one pipeline on a source whose samples are ``spec``. Without ``decodes``, its outputs stay tensors.

    ``ConfigError`` has all problems of the configuration. ``ModelError``, ``DeployError`` or ``UnreadableError``
    says why its model cannot be used, such as a manifest with an unknown decoder.
    """
    model = assignment.pipelines[name].model
    path = model.path
    bundle = bundles.load(path, unpacking.folder(assignment, name), model.sha256, model.key)
    with reading(f"the manifest of {path.name}"):
        plan = _plan(assignment, assignment.pipelines[name], spec, bundle)
        check_input(plan)
        if decodes:
            refuse_unsuited(plan)
            check_decoder(plan)
        return plan


def _plan(
    assignment: Assignment, pipeline: PipelineAssignment, spec: SampleSpec, bundle: bundles.Bundle
) -> PipelinePlan:
    wanted, manifest = pipeline.options, bundle.manifest
    chosen = _plugins(assignment, pipeline, manifest, spec)
    if wanted.snapshots is not None:
        _refuse_snapshots(pipeline, spec)
    if wanted.keep is not None:
        _refuse_keep(wanted.keep, pipeline, spec)
    if problems := chosen.runtime.abilities.check(bundle.model, [choice.name for choice in chosen.delegates]):
        raise ModelError("; ".join(problems))
    named = {word for choice in chosen.delegates for word in (choice.name, choice.kind)}
    if problem := delegate_problem(manifest.requires, named):
        raise ModelError(f"{bundle.manifest.name}: {problem}")
    window = _window(pipeline, manifest, spec)
    read = read_facts(chosen.runtime, bundle)
    if read is not None:
        refuse_unnamed(read)
    facts = describe(manifest, read)
    inputs = plan_inputs(wanted.inputs, manifest, facts, spec)
    columns, samples = narrow_samples(channels_of_inputs(inputs), spec)
    _refuse_adaptations(pipeline, chosen, samples)
    correction, labels, base = pipeline.correction, bundle.labels, assignment.folders.base
    reading_table = adapted.decoder_table(wanted.decoder or manifest.decoder, correction)
    weighting = adapted.weighting(correction, labels, reading_table, base)
    offsets = adapted.offsets(correction, samples, base)
    state = plan_state(wanted.stateful, manifest, facts, inputs)
    return PipelinePlan(
        name=pipeline.name,
        bundle=bundle,
        columns=columns,
        spec=samples,
        window=window,
        transforms=Transforms((*offsets, *chosen.transforms), windows_of(window, samples, wanted.every)),
        runtime=chosen.runtime,
        decoder=chosen.decoder,
        postprocess=(*weighting, *chosen.postprocess),
        delegates=chosen.delegates,
        inputs=inputs,
        state=state,
        require=wanted.require,
        least_speed=wanted.least_speed,
        recheck=wanted.recheck,
        every=wanted.every,
        rate_tolerance=wanted.rate_tolerance,
        warnings=(*warnings(wanted, manifest, state), *adapted.left_out(correction, samples, labels)),
        test_time=wanted.test_time,
        beside=channels_beside(chosen.postprocess, samples.channels, spec),
        learned=directories.learned(assignment.folders.state, pipeline.name),
        identity=pipeline.model.sha256,
        monitors=chosen.monitors if bundle.reference else None,
    )


class _Plugins(NamedTuple):
    """What a pipeline is made of."""

    transforms: tuple[Configured, ...]
    runtime: Configured
    decoder: Configured
    postprocess: tuple[Configured, ...]
    delegates: tuple[Choice, ...]
    monitors: MonitorPlan | None


def _plugins(
    assignment: Assignment, pipeline: PipelineAssignment, manifest: Manifest, spec: SampleSpec
) -> _Plugins:
    """Resolve the plugins of a pipeline: those of the configuration, else those of the manifest.

    ``ConfigError`` has all that is wrong with the former, ``ModelError`` with the latter.
    """
    wanted, where, base = pipeline.options, f"pipelines.{pipeline.name}", assignment.folders.base
    written, bundled = Resolver(base, []), Resolver(base, [])
    if wanted.transforms is None:
        decodes = (wanted.decoder or manifest.decoder).get("kind", "")
        transforms = bundled.all("transforms", picture_transforms(manifest, decodes, spec), "transforms")
    else:
        transforms = written.all("transforms", wanted.transforms, f"{where}.transforms")
    runtime = bundled.runtime(manifest.runtime, wanted.runtime, f"{where}.runtime", written.problems)
    reading_table = adapted.decoder_table(wanted.decoder or manifest.decoder, pipeline.correction)
    if wanted.decoder is not None:
        decoder = written.table("decoders", reading_table, f"{where}.decoder")
    elif manifest.decoder:
        decoder = bundled.table("decoders", reading_table, "decoder")
    else:
        example = 'for example decoder = { kind = "classify" }'
        names = ", ".join(plugins.names("decoders"))
        raise ModelError(f"{where}.decoder: missing, and the model names none; {example} (there are: {names})")
    if wanted.postprocess is None:
        tables = adapted.postprocess_tables(manifest.postprocess, pipeline.correction)
        postprocess = bundled.all("postprocess", tables, "postprocess")
    else:
        tables = adapted.postprocess_tables(wanted.postprocess, pipeline.correction)
        postprocess = written.all("postprocess", tables, f"{where}.postprocess")
    if decoder is not None and not (written.problems or bundled.problems):
        own = wanted.postprocess is not None or wanted.decoder is not None
        (written if own else bundled).problems.extend(
            misfits(decoder, postprocess, f"{where}.postprocess" if own else "postprocess")
        )
    delegates = resolve_delegates(assignment, wanted, where, written.problems)
    monitors = _monitors(wanted.monitors, written, f"{where}.monitors")
    if written.problems:
        raise ConfigError(written.problems)
    if runtime is None or decoder is None or bundled.problems:
        raise ModelError(f"{manifest.name}: its manifest: {'; '.join(bundled.problems)}")
    return _Plugins(transforms, runtime, decoder, postprocess, delegates, monitors)


def _monitors(wanted: bool | MonitorOptions, resolve: Resolver, where: str) -> MonitorPlan | None:  # noqa: FBT001 - a key of the configuration
    """Resolve how monitors run; ``None`` if they are off. What is wrong is added to the resolver's problems."""
    if wanted is False:
        return None
    options = MonitorOptions() if wanted is True else wanted
    if options.off:
        known = plugins.names("monitors")
        resolve.problems.extend(
            f"{where}.off: {kind!r} is not one of the monitors{suggest(kind, known)}"
            for kind in options.off
            if kind not in known
        )
    found = [
        resolve.plugin("monitors", kind, table, f"{where}.options.{kind}")
        for kind, table in options.options.items()
    ]
    return MonitorPlan(options.share, tuple(options.off), tuple(one for one in found if one))


def _window(pipeline: PipelineAssignment, manifest: Manifest, spec: SampleSpec) -> WindowSpec:
    window = pipeline.options.window or manifest.window or WindowSpec(size=1)
    if window.seconds is not None and not spec.timed:
        why = f"the window of pipelines.{pipeline.name} is {window.seconds:g} s, but these samples carry no time"
        raise ConfigError([f"sources.{pipeline.sources[0]}.rate: missing; {why}: give their number a second"])
    refuse_oversize(window, spec)
    return window


def _refuse_adaptations(pipeline: PipelineAssignment, chosen: _Plugins, samples: SampleSpec) -> None:
    """Raise ``ConfigError`` if the pipeline cannot adapt what it is allowed to."""
    found = adapted.problems(pipeline.options.adapt, chosen.decoder, chosen.postprocess, samples)
    if problems := [f"pipelines.{pipeline.name}.{problem}" for problem in found]:
        raise ConfigError(problems)


def _refuse_snapshots(pipeline: PipelineAssignment, spec: SampleSpec) -> None:
    """Raise ``ConfigError`` if no pictures can be made of results."""
    where = f"pipelines.{pipeline.name}.snapshots"
    if not spec.frames:
        raise ConfigError([f"{where}: the source {pipeline.sources[0]!r} gives no pictures; remove this key"])
    if find_spec("PIL") is None:
        raise ConfigError([f"{where}: pictures need the extra 'camera': pip install 'limpet[camera]'"])


def _refuse_keep(keep: KeepOptions, pipeline: PipelineAssignment, spec: SampleSpec) -> None:
    """Raise ``ConfigError`` if windows cannot be kept as the options say."""
    where = f"pipelines.{pipeline.name}.keep"
    if spec.frames and keep.before:
        raise ConfigError([f"{where}.before: pictures before an event are not held; remove this key"])
    if spec.frames and find_spec("PIL") is None:
        raise ConfigError([f"{where}: pictures need the extra 'camera': pip install 'limpet[camera]'"])
    if keep.blur != "none" and not spec.frames:
        raise ConfigError([f"{where}.blur: the source {pipeline.sources[0]!r} gives no pictures; remove this key"])
    if keep.encrypt_for and find_spec("cryptography") is None:
        raise ConfigError([f"{where}.encrypt_for: needs cryptography: pip install 'limpet[updates]'"])


def read_facts(runtime: Configured, bundle: bundles.Bundle) -> ModelFacts | None:
    """Return what the runtime reads of the model's file, ``None`` if it reads none."""
    facts: ModelFacts | None = runtime.abilities.describe(bundle.model, runtime.config)
    return facts
