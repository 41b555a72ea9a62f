"""How the protocol describes models: metadata, configuration, statistics, index. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.gateway.open_inference.planning import ModelForm, TensorForm
    from limpet.gateway.open_inference.statistics import ModelStatistics, Times
    from limpet.wire.gateway_records import ServedModel
    from limpet.wire.guest_records import Serving


class Ready(msgspec.Struct):
    """The answer to ``GET /v2/models/MODEL/ready``. A model that is not ready has status 503."""

    name: str
    ready: bool = True


class TensorMetadata(msgspec.Struct):
    """An input or an output. -1 in ``shape``: any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """The answer to ``GET /v2/models/MODEL``. ``versions``: those that can be used. ``platform``: the runtime."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class TensorConfiguration(msgspec.Struct):
    """As Triton's ``ModelInput``. ``dims``: without the batch, if the model has one."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfiguration(msgspec.Struct):
    """The answer to ``GET /v2/models/MODEL/config``, as Triton has it. ``parameters``: delegate and checksum."""

    name: str
    platform: str
    backend: str
    version_policy: dict[str, dict[str, int]]
    max_batch_size: int
    input: list[TensorConfiguration]
    output: list[TensorConfiguration]
    parameters: dict[str, dict[str, str]]


class Duration(msgspec.Struct, frozen=True):
    """How often something was done, and for how many ns in all."""

    count: int = 0
    ns: int = 0


class InferenceTimes(msgspec.Struct):
    """As Triton's ``inference_stats``. The cache is not there."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration = Duration()
    cache_miss: Duration = Duration()


class OneModelStatistics(msgspec.Struct):
    """As Triton's ``model_stats``. ``last_inference``: ms since 1970."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferenceTimes
    batch_stats: list[Duration] = []


class Statistics(msgspec.Struct):
    """The answer to ``GET /v2/models/MODEL/stats``."""

    model_stats: list[OneModelStatistics]


class Indexed(msgspec.Struct):
    """A model in the answer to ``POST /v2/repository/index``."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


def metadata(name: str, versions: Sequence[str], serving: Serving, form: ModelForm) -> ModelMetadata:
    """Return a model's metadata. ``versions``: those that can be used."""
    return ModelMetadata(
        name,
        list(versions) or [str(serving.version)],
        serving.runtime,
        [TensorMetadata(one.name, one.datatype, one.shape) for one in form.inputs],
        [TensorMetadata(one.name, one.datatype, one.shape) for one in form.outputs],
    )


def configuration(name: str, serving: Serving, form: ModelForm) -> ModelConfiguration:
    """Return a model's configuration."""
    batched = serving.batch > 1
    return ModelConfiguration(
        name,
        serving.runtime,
        serving.runtime,
        {"latest": {"num_versions": 1}},
        serving.batch if batched else 0,
        [_configured(one, batched=batched) for one in form.inputs],
        [_configured(one, batched=batched) for one in form.outputs],
        {"delegate": {"string_value": serving.delegate}, "sha256": {"string_value": serving.sha256}},
    )


def _configured(one: TensorForm, *, batched: bool) -> TensorConfiguration:
    return TensorConfiguration(one.name, f"TYPE_{one.datatype}", one.shape[1:] if batched else one.shape)


def statistics(by_model: Mapping[tuple[str, str], ModelStatistics]) -> Statistics:
    """Return statistics, by name and version."""
    return Statistics([_counted(name, version, one) for (name, version), one in sorted(by_model.items())])


def _counted(name: str, version: str, one: ModelStatistics) -> OneModelStatistics:
    rest = max(one.success.ns - one.queue.ns - one.run.ns, 0)
    halves = Duration(one.success.count, rest // 2)  # copies in, and copies out
    times = InferenceTimes(
        _duration(one.success), _duration(one.fail), _duration(one.queue), halves, _duration(one.run), halves
    )
    return OneModelStatistics(name, version, one.last_ms, one.windows, round(one.runs), times)


def _duration(times: Times) -> Duration:
    return Duration(times.count, times.ns)


def indexed(models: Sequence[ServedModel], *, ready: bool) -> list[Indexed]:
    """Return the repository's index. ``ready``: only models that can be used now."""
    return [
        Indexed(one.name, str(one.version), "READY" if one.ready else "UNAVAILABLE", one.reason)
        for one in models
        if one.ready or not ready
    ]
