"""Which files pipelines may run: what updates selected, and what the configuration means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from limpet.models import store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.config import Config, PipelineConfig
    from limpet.contracts.assignment import FoundModel


def candidates_of(config: Config) -> dict[str, list[FoundModel]]:
    """Return the candidates of each model, by its key, in the order in which they are to run.

    Each model that an update selected has its own key, too. So all of them are examined, and a pipeline can
    change to another one at once.
    """
    found = store.candidates_of(config.models_named, config.folders)
    for name, models in config.selected.items():
        own = found[config.pipelines[name].model]
        found[_key_of_selected(name)] = [each for one in models for each in ([one] if one else own)]
        found |= {f"{_key_of_selected(name)}{one.path.name}": [one] for one in models if one}
    return found


def key(config: Config, name: str, pipeline: PipelineConfig) -> str:
    """Return the key of the model that a pipeline runs. ``pipeline``: as it is on a level of the governor."""
    if name in config.selected and pipeline.model == config.pipelines[name].model:
        return _key_of_selected(name)
    return pipeline.model


def only(
    config: Config, found: Mapping[str, Sequence[FoundModel]], name: str, model: FoundModel
) -> tuple[Config, dict[str, Sequence[FoundModel]]]:
    """Return a configuration in which a pipeline runs this model alone, and what is found for it."""
    selected = {**config.selected, name: (model,)}
    return replace(config, selected=selected), {**found, _key_of_selected(name): [model]}


def has_others(config: Config, name: str, pipeline: PipelineConfig) -> bool:
    """Whether a pipeline can have another model to run if the first one does not work."""
    model = key(config, name, pipeline)
    return model != pipeline.model or store.has_versions(model)


def _key_of_selected(pipeline: str) -> str:
    """Return a key that no configuration can have as a model: neither a path, nor a name in the store."""
    return f"@{pipeline}@"
