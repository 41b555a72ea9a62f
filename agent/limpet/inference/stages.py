"""The stages of a pipeline, opened one behind the other: each knows the form of what it will get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec.structs import replace

from limpet.contracts.data import Window
from limpet.contracts.decoder import Adjustable, Batching, Enrolling, Scoring
from limpet.contracts.postprocess import Idling
from limpet.contracts.stage import Stage
from limpet.contracts.transform import Abilities, ByteTable
from limpet.errors import LimpetError, ModelError
from limpet.inference.develop import Develop, leading
from limpet.wording import bug

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import TensorSpec
    from limpet.contracts.stage import Spec
    from limpet.inference.resolving import Configured


class Transforms:
    """The transforms of a plan. ``windows`` is the form of what the first one gets, ``spec`` that of the result.

    They are opened once to find that out. The first pipeline that takes them gets the very same stages, so that a
    start opens them once. A stage may have memory, so each further pipeline gets new ones. ``abilities`` are those
    of each stage. On frames the first stage develops them, and has the leading transforms of pictures in it.
    """

    def __init__(self, plugins: Sequence[Configured], windows: Spec) -> None:
        """Raise ``ModelError`` if one of them cannot work on what it gets."""
        self.plugins = tuple(plugins)
        self.windows = windows
        self._developed = len(leading(plugins)) if windows.frames else 0
        later = tuple(plugin.abilities for plugin in self.plugins[self._developed :])
        self.abilities: tuple[Abilities, ...] = (Abilities(keeps_range=True), *later) if windows.frames else later
        self._opened: list[Stage] | None = self.open(windows)
        self.spec = self._opened[-1].spec if self._opened else windows

    def take(self) -> list[Stage]:
        """Return stages that no other pipeline has."""
        stages, self._opened = self._opened, None
        return self.open(self.windows) if stages is None else stages

    def open(self, windows: Spec) -> list[Stage]:
        """Return new stages for windows of another form. ``ModelError`` if one of them cannot work on those."""
        stages: list[Stage] = []
        spec = windows
        if windows.frames:
            stages.append(Develop(windows, self.plugins[: self._developed], _open_transform))
            spec = stages[0].spec
        for number, plugin in enumerate(self.plugins[self._developed :], self._developed):
            stage = _open_transform(plugin, spec, f"transforms[{number}]")
            stages.append(stage)
            spec = stage.spec
        return stages


def _open_transform(plugin: Configured, spec: Spec, where: str) -> Stage:
    """Open a transform. ``ModelError`` if it cannot work on what it would get, or breaks its contract."""
    stage = _open(plugin, spec, where)
    _refuse_breach(plugin, stage, [ByteTable] if plugin.abilities.byte_table else [])
    return stage


def open_decoder(plugin: Configured, spec: Spec) -> Stage:
    """Open a decoder behind a model. ``ModelError`` if it cannot read what the model gives."""
    stage = _open(plugin, spec, "decoder")
    able = plugin.abilities
    promised = {Batching: able.batches, Adjustable: able.threshold, Enrolling: able.enrols, Scoring: able.scores}
    declared = [contract for contract, is_promised in promised.items() if is_promised]
    _refuse_breach(plugin, stage, declared)
    return stage


def open_postprocess(plugins: Sequence[Configured], spec: Spec) -> list[Stage]:
    """Open the stages behind a decoder. ``ModelError`` if one of them cannot be opened."""
    stages = []
    for number, plugin in enumerate(plugins):
        stage = _open(plugin, spec, f"postprocess[{number}]")
        _refuse_breach(plugin, stage, [Idling] * plugin.abilities.idles)
        stages.append(stage)
    return stages


def _open(plugin: Configured, spec: Spec, where: str) -> Stage:
    """Open a stage. ``ModelError`` says why it cannot work on what it would get, or what is wrong in its code."""
    try:
        stage: Stage = plugin.module.open(plugin.config, spec)
    except LimpetError:
        raise
    except (ValueError, MemoryError) as error:
        raise ModelError(f"{where}: {error}") from error
    except Exception as error:
        raise ModelError(f"{where}: open() of the plugin {plugin.kind!r} failed: {bug(error)}") from error
    return stage


def decode_once(plugin: Configured, decoder: Stage, window: Window) -> None:
    """Have a decoder decode a window that is made up. ``ModelError`` says what is wrong with it or its result."""
    try:
        decoded = decoder(window)
    except LimpetError:
        raise
    except Exception as error:
        raise ModelError(f"the decoder {plugin.kind!r} failed on outputs of zeros: {bug(error)}") from error
    if not isinstance(decoded, Window):
        raise ModelError(
            f"the decoder {plugin.kind!r} returned {type(decoded).__name__}; it must return the window"
        )
    refuse_result(plugin.kind, decoded.result)


def refuse_result(kind: str, result: Any) -> None:
    """Raise ``ModelError`` if the result of a decoder cannot be reported."""
    try:
        plain = msgspec.to_builtins(result)
    except Exception as error:
        raise ModelError(f"the result of the decoder {kind!r} cannot be encoded: {error}") from error
    if not isinstance(plain, dict):
        raise ModelError(
            f"the result of the decoder {kind!r} is a {type(result).__name__}; it must be a mapping or a struct"
        )


def _refuse_breach(plugin: Configured, stage: Stage, declared: Sequence[type]) -> None:
    """Raise ``ModelError`` if a plugin's stage lacks what its contract or its abilities promise."""
    for contract in (Stage, *declared):
        if not isinstance(stage, contract):
            raise ModelError(
                f"the plugin {plugin.kind!r} breaks its contract: what its open() returns is no "
                f"{contract.__module__}.{contract.__name__}{_lacks(stage, contract)}"
            )


def _lacks(stage: object, contract: type) -> str:
    """Return which members of a contract an object does not have, as the end of a sentence."""
    public = [name for name in vars(contract) if name == "__call__" or not name.startswith("_")]
    lacking = [name for name in (*contract.__annotations__, *public) if name not in dir(stage)]
    return f": it has no {' and no '.join(lacking)}" if lacking else ""


def after_model(
    features: Spec,
    outputs: Sequence[TensorSpec],
    labels: Sequence[str],
    rate: float | None,
    channels: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Spec:
    """Return the form of windows behind a model: their values are its first output.

    ``rate``: windows a second. The labels name the last axis if there are as many. ``channels``: those of the
    samples that the model takes, and others that stages look at.
    """
    picture = _picture(features.shape)
    spec = replace(
        features,
        outputs=tuple(outputs),
        labels=tuple(labels),
        samples=tuple(channels[0]),
        beside=tuple(channels[1]),
        rate=rate,
        channels=(),
        hop=None,
        picture=picture,
    )
    if not outputs:
        return spec
    first = outputs[0]
    dtype = np.dtype(np.float32) if first.quantized else first.dtype
    named = bool(first.shape) and first.shape[-1] == len(labels) == len(set(labels))
    return replace(spec, shape=first.shape, dtype=dtype, channels=tuple(labels) if named else ())


def _picture(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return width and height of windows of one picture, with its colours last or first."""
    if len(shape) != 4 or shape[0] not in {1, -1} or min(shape[1:]) < 1:
        return None
    if shape[3] in _COLOURS:
        return shape[2], shape[1]
    return (shape[3], shape[2]) if shape[1] in _COLOURS else None


_COLOURS = {1, 3, 4}
