"""From configuration and bundle to a plan: which plugins make up a pipeline, each with its own typed options.

A plan is made without opening a device or loading a model, so ``limpet check`` and a worker share it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet import plugins
from limpet.contracts.fields import WindowSpec
from limpet.device import directories
from limpet.errors import ConfigError, ModelError
from limpet.inference.decoder_fit import check_decoder
from limpet.inference.delegates import resolve_delegates
from limpet.inference.input_fit import check_input, taken, taken_channels
from limpet.inference.inputs import describe, plan_inputs, plan_state, refuse_unnamed
from limpet.inference.plan import Configured, PipelinePlan, SourcePlan
from limpet.inference.plan_warnings import warnings
from limpet.inference.resolving import Resolver
from limpet.inference.window import refuse_oversize
from limpet.models import bundle as bundles
from limpet.models import store
from limpet.untrusted import reading

if TYPE_CHECKING:
    from limpet.config import Config, PipelineConfig
    from limpet.contracts.data import SampleSpec
    from limpet.contracts.model_facts import ModelFacts
    from limpet.models.manifest import Manifest


def plan_source(config: Config, name: str) -> SourcePlan:
    """Resolve one source. ``ConfigError`` has all that is wrong with it."""
    plugin = source_plugin(config, name)
    try:
        spec = plugin.module.describe(plugin.config)
    except ConfigError as error:
        raise ConfigError([f"sources.{name}: {problem}" for problem in error.problems]) from error
    table = config.sources[name]
    if table.silence is not None and not spec.live:
        raise ConfigError([f"sources.{name}.silence: a source that waits for the model is never silent"])
    return SourcePlan(
        name, plugin, spec, table.queue, table.silence if table.silence is not None else spec.patience
    )


def source_plugin(config: Config, name: str) -> Configured:
    """Resolve the options of one source. ``ConfigError`` has all that is wrong with them."""
    table = config.sources[name]
    resolve = Resolver(config.base, [])
    plugin = resolve.plugin("sources", table.kind, table.options, f"sources.{name}")
    if plugin is None:
        raise ConfigError(resolve.problems)
    return plugin


def options_of(config: Config, name: str) -> list[str]:
    """Return what is wrong with the options of a pipeline, as far as its model is not needed to know."""
    wanted = config.pipelines[name]
    where = f"pipelines.{name}"
    resolve = Resolver(config.base, [])
    resolve.all("transforms", wanted.transforms or [], f"{where}.transforms")
    if wanted.decoder is not None:
        resolve.table("decoders", wanted.decoder, f"{where}.decoder")
    resolve_delegates(config, wanted, where, resolve.problems)
    return resolve.problems


def plan_pipeline(config: Config, name: str, spec: SampleSpec, *, decodes: bool = True) -> PipelinePlan:
    """Resolve one pipeline on a source whose samples are ``spec``. Without ``decodes``, its outputs stay tensors.

    ``ConfigError`` has all that is wrong with what a person wrote; ``ModelError``, ``DeployError`` or
    ``UnreadableError`` says why its model cannot be used, such as a manifest that asks for an unknown decoder.
    """
    wanted = config.pipelines[name]
    path = store.find(wanted.model, config.base, config.models)
    bundle = bundles.load(path, directories.models_cache(config.device.state, wanted.source))
    with reading(f"the manifest of {path.name}"):
        plan = _plan(config, name, spec, bundle)
        given = check_input(plan)
        if decodes:
            check_decoder(plan, given)
        return plan


def _plan(config: Config, name: str, spec: SampleSpec, bundle: bundles.Bundle) -> PipelinePlan:
    wanted, manifest = config.pipelines[name], bundle.manifest
    where = f"pipelines.{name}"
    written, bundled = Resolver(config.base, []), Resolver(config.base, [])
    transforms = (
        bundled.all("transforms", manifest.transforms, "transforms")
        if wanted.transforms is None
        else written.all("transforms", wanted.transforms, f"{where}.transforms")
    )
    runtime = bundled.runtime(manifest.runtime, wanted.runtime, f"{where}.runtime", written.problems)
    if wanted.decoder is None and not manifest.decoder:
        example = 'for example decoder = { kind = "classify" }'
        names = ", ".join(plugins.names("decoders"))
        raise ModelError(f"{where}.decoder: missing, and the model names none; {example} (there are: {names})")
    decoder = (
        bundled.table("decoders", manifest.decoder, "decoder")
        if wanted.decoder is None
        else written.table("decoders", wanted.decoder, f"{where}.decoder")
    )
    delegates = resolve_delegates(config, wanted, where, written.problems)
    if written.problems:
        raise ConfigError(written.problems)
    if runtime is None or decoder is None or bundled.problems:
        raise ModelError(f"{manifest.name}: its manifest: {'; '.join(bundled.problems)}")
    if problems := runtime.module.check(bundle.model, [choice.name for choice in delegates]):
        raise ModelError("; ".join(problems))
    window = _window(wanted, manifest, spec, where)
    read = read_facts(runtime, bundle)
    if read is not None:
        refuse_unnamed(read)
    facts = describe(manifest, read)
    inputs = plan_inputs(wanted.inputs, manifest, facts, spec)
    chosen, narrow = taken(taken_channels(inputs), spec)
    state = plan_state(wanted.stateful, manifest, facts, inputs)
    return PipelinePlan(
        name,
        bundle,
        chosen,
        narrow,
        window,
        transforms,
        runtime,
        decoder,
        delegates,
        inputs,
        state,
        wanted.require,
        wanted.least_speed,
        wanted.recheck,
        wanted.every,
        wanted.rate_tolerance,
        tuple(warnings(wanted, manifest, state)),
    )


def _window(wanted: PipelineConfig, manifest: Manifest, spec: SampleSpec, where: str) -> WindowSpec:
    window = wanted.window or manifest.window or WindowSpec(size=1)
    if window.seconds is not None and not spec.timed:
        why = f"the window of {where} is {window.seconds:g} s, but these samples carry no time"
        raise ConfigError([f"sources.{wanted.source}.rate: missing; {why}: give their number a second"])
    refuse_oversize(window, spec)
    return window


def read_facts(runtime: Configured, bundle: bundles.Bundle) -> ModelFacts | None:
    """Return what the runtime reads of the model's file, ``None`` if it reads none."""
    facts: ModelFacts | None = runtime.module.describe(bundle.model, runtime.config)
    return facts
