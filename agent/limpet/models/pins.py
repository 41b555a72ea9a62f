"""Pins: versions of bundles that a person chose to run in place of the highest ones.

They are kept in the state directory. A pin of a name holds for all pipelines, a pin of a pipeline for that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from limpet.config import Identifier
from limpet.device import state_files
from limpet.models import store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from limpet.config import Config, PipelineConfig

NAME = "pins.json"
_LARGEST = 1 << 20

Version = Annotated[int, Meta(ge=0, le=1 << 53)]


class Pins(msgspec.Struct, frozen=True):
    """``pins``: a version for each name of a bundle. ``pipelines``: a version for the model that a pipeline names.

    A pipeline with a pin runs that version of the store, also where an update brought it another model.
    """

    pins: Annotated[dict[Identifier, Version], Meta(max_length=10_000)] = {}
    pipelines: Annotated[dict[Identifier, Version], Meta(max_length=10_000)] = {}
    format: Annotated[int, Meta(ge=1, le=1)] = 1


def read(state: Path, damaged: Callable[[str], object] | None = None) -> Pins:
    """Return the pins, none if there is no file. An unreadable file counts as none.

    ``damaged`` is called with what is wrong with it, and the file is set aside. Without it, the file stays.
    """
    then = "the highest versions of all models run. Run: limpet model use NAME-VERSION"
    try:
        return state_files.read(state / NAME, Pins, _LARGEST, damaged, then) or Pins()
    except OSError:
        return Pins()


def write(state: Path, pins: Pins) -> None:
    """Replace the pins. ``OSError`` if they cannot be written."""
    state_files.replace(state / NAME, msgspec.json.encode(pins))


def applied(wanted: Config, pins: Pins) -> Config:
    """Return a configuration in which a pinned name is ``NAME@VERSION``: that version runs and no other."""
    return replace(
        wanted,
        pipelines={name: _pinned(one, pins, pins.pipelines.get(name)) for name, one in wanted.pipelines.items()},
    )


def _pinned(pipeline: PipelineConfig, pins: Pins, own: int | None) -> PipelineConfig:
    ladder = [replace(rung, model=_named(rung.model, pins)) for rung in pipeline.ladder]
    backup = pipeline.backup and replace(pipeline.backup, model=_named(pipeline.backup.model, pins))
    cascade = pipeline.cascade and replace(pipeline.cascade, model=_named(pipeline.cascade.model, pins))
    model = pipeline.model
    if own is not None and store.has_versions(model):
        model = f"{model}@{own}"
    return replace(pipeline, model=_named(model, pins), ladder=ladder, backup=backup, cascade=cascade)


def _named(model: str, pins: Pins) -> str:
    return f"{model}@{pins.pins[model]}" if store.has_versions(model) and model in pins.pins else model
