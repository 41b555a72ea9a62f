"""Pins: versions of bundles that a person chose to run in place of the highest ones.

They are kept in the state directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from limpet import config
from limpet.config import Identifier
from limpet.device import state_files
from limpet.models import store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from limpet.config import Config, PipelineConfig

NAME = "pins.json"
_LARGEST = 1 << 20

Version = Annotated[int, Meta(ge=0, le=1 << 53)]


class _Pins(msgspec.Struct):
    """``pins``: a version for each name of a bundle."""

    pins: Annotated[dict[Identifier, Version], Meta(max_length=10_000)]
    format: Annotated[int, Meta(ge=1, le=1)] = 1


def read(state: Path, damaged: Callable[[str], object] | None = None) -> dict[str, int]:
    """Return the pins, none if there is no file. An unreadable file counts as none.

    ``damaged`` is called with what is wrong with it, and the file is set aside. Without it, the file stays.
    """
    then = "the highest versions of all models run. Run: limpet model use NAME-VERSION"
    try:
        found = state_files.read(state / NAME, _Pins, _LARGEST, damaged, then)
    except OSError:
        return {}
    return found.pins if found else {}


def write(state: Path, pins: Mapping[str, int]) -> None:
    """Replace the pins. ``OSError`` if they cannot be written."""
    state_files.replace(state / NAME, msgspec.json.encode(_Pins(dict(pins))))


def applied(wanted: Config, pins: Mapping[str, int]) -> Config:
    """Return a configuration in which a pinned name is ``NAME@VERSION``: that version runs and no other."""
    return replace(wanted, pipelines={name: _pinned(one, pins) for name, one in wanted.pipelines.items()})


def read_config(path: Path | str, damaged: Callable[[str], object] | None = None) -> Config:
    """Read a configuration file and apply the pins of its device. ``ConfigError`` as ``config.read``."""
    wanted = config.read(path)
    return applied(wanted, read(wanted.device.state, damaged))


def _pinned(pipeline: PipelineConfig, pins: Mapping[str, int]) -> PipelineConfig:
    ladder = [replace(rung, model=_named(rung.model, pins)) for rung in pipeline.ladder]
    return replace(pipeline, model=_named(pipeline.model, pins), ladder=ladder)


def _named(model: str, pins: Mapping[str, int]) -> str:
    return f"{model}@{pins[model]}" if store.has_versions(model) and model in pins else model
