"""What each input of a model gets, and whether the state that a model keeps lasts from window to window.

Decided before data flow, from the configuration, the manifest and the model file. Nothing is guessed. A model with
several inputs is refused until each of them is named. So is a model with state if the file does not show how the
state is used.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from limpet.contracts.fields import UnwindowedInput
from limpet.contracts.model_facts import ModelFacts
from limpet.errors import ModelError
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.contracts.data import Array, FloatArray, SampleSpec, TensorSpec
    from limpet.contracts.fields import InputValue, TensorInfo
    from limpet.contracts.runtime import Model
    from limpet.models.manifest import Manifest


class InputPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one input of a model gets, in the order in which the model takes them.

    ``channels`` of the window, all as they are if empty. With ``state`` it gets that output of the run before.
    With ``constant`` it gets these numbers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantized: bool = False
    channels: tuple[str, ...] = ()
    state: str = ""
    constant: float | list[float] | None = None

    @property
    def windowed(self) -> bool:
        """Whether it gets the window, or a part of it."""
        return not self.state and self.constant is None


class StatePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a model. ``inside`` says in words what the model itself keeps, and is empty if nothing.

    ``paired``: outputs are handed back as inputs. ``lasting``: windows belong together, so the state lasts from
    one to the next, until a gap. Otherwise it is cleared before each window.
    """

    inside: str = ""
    paired: bool = False
    lasting: bool = False

    def __bool__(self) -> bool:
        """Whether there is any state."""
        return bool(self.inside) or self.paired

    def __str__(self) -> str:
        """Return what there is and how it is treated."""
        what = " and ".join(part for part in (self.inside, "outputs that are handed back" * self.paired) if part)
        how = "kept from window to window, cleared after a gap" if self.lasting else "cleared before each window"
        return f"{what}: {how}"


def describe(manifest: Manifest, facts: ModelFacts | None) -> ModelFacts:
    """Return the facts of a model's file; those of its manifest if its runtime reads none."""
    return facts or ModelFacts(inputs=tuple(manifest.inputs), outputs=tuple(manifest.outputs))


def plan_inputs(
    wanted: Mapping[str, InputValue] | None, manifest: Manifest, facts: ModelFacts, spec: SampleSpec
) -> tuple[InputPlan, ...]:
    """Return what each input gets. ``ModelError`` says which one is missing or cannot be.

    ``wanted`` is the key ``inputs`` of the configuration. Without it the manifest decides.
    """
    values = _from_manifest(manifest, facts) if wanted is None else _from_config(wanted, facts)
    unassigned = [tensor for tensor in facts.inputs if tensor.name not in values]
    if unassigned and (len(facts.inputs) > 1 or wanted):
        raise ModelError(_refusal(facts, unassigned, spec))
    if wanted and not spec.channels and any(isinstance(value, list) and value for value in values.values()):
        raise ModelError("inputs: the channels of this source have no names, so an input cannot take some of them")
    planned = tuple(_plan_input(tensor, values.get(tensor.name, []), facts) for tensor in facts.inputs)
    if planned and not any(one.windowed for one in planned):
        raise ModelError("inputs: none of them gets a window of the source")
    return planned


def refuse_unnamed(facts: ModelFacts) -> None:
    """Raise ``ModelError`` if a model has no inputs, or two that cannot be distinguished."""
    others = " or ".join(f'runtime = {{ signature = "{key}" }}' for key in facts.signatures)
    hint = f"; set {others}" if others else ""
    if not facts.inputs:
        raise ModelError(f"the model's first graph takes no input{hint or ', so it cannot get a window'}")
    for name, times in Counter(tensor.name for tensor in facts.inputs).items():
        if times > 1:
            raise ModelError(f"{times} of the model's inputs have the name {name!r}{hint or '; rename them'}")


def plan_state(
    wanted: bool | None,  # noqa: FBT001
    manifest: Manifest,
    facts: ModelFacts,
    inputs: Sequence[InputPlan],
) -> StatePlan:
    """Return how a model's state is treated. ``ModelError`` if nothing says so.

    ``wanted`` is the key ``stateful`` of the configuration. Without it the manifest decides, then the model file.
    """
    paired = any(one.state for one in inputs)
    lasting = manifest.stateful if wanted is None else wanted
    if not facts.state:
        # State that no file shows, as in custom ops, is cleared after a gap if the manifest or the configuration
        # names it.
        inside = "state that its maker names" if lasting and not paired else ""
        return StatePlan(inside=inside, paired=paired, lasting=paired if lasting is None else lasting)
    if lasting is None:
        lasting = facts.stateful if facts.stateful or not paired else None
    if lasting is None:
        raise ModelError(
            f"stateful: missing; the model keeps state ({facts.state}), and its file does not show for how long. "
            "Set stateful = true if each window continues the one before, stateful = false if they are independent"
        )
    return StatePlan(inside=facts.state, paired=paired, lasting=lasting)


def _from_manifest(manifest: Manifest, facts: ModelFacts) -> dict[str, InputValue]:
    """Return what the manifest says. An entry for the only input counts, whatever its name."""
    if len(facts.inputs) == len(manifest.inputs) == 1:
        return {facts.inputs[0].name: _value(manifest.inputs[0])}
    names = {tensor.name for tensor in facts.inputs}
    values: dict[str, InputValue] = {}
    for tensor in manifest.inputs:
        name = tensor.name if tensor.name in names else facts.aliases.get(tensor.name, tensor.name)
        if tensor.channels or tensor.state or tensor.constant is not None:
            values[name] = _value(tensor)
    return values


def _value(tensor: TensorInfo) -> InputValue:
    if tensor.state or tensor.constant is not None:
        return UnwindowedInput(state=tensor.state, constant=tensor.constant)
    return tensor.channels


def _from_config(wanted: Mapping[str, InputValue], facts: ModelFacts) -> dict[str, InputValue]:
    names = [tensor.name for tensor in facts.inputs]
    values: dict[str, InputValue] = {}
    for key, value in wanted.items():
        name = key if key in names else facts.aliases.get(key, "")
        if name not in names:
            shown = _shown(facts)
            there = [shown[tensor.name] for tensor in facts.inputs]
            raise ModelError(f"inputs.{key}: the model has no such input{suggest(key, there)}")
        values[name] = value
    return values


def _plan_input(tensor: TensorInfo, value: InputValue, facts: ModelFacts) -> InputPlan:
    planned = InputPlan(
        name=tensor.name, shape=tuple(tensor.shape), dtype=tensor.dtype, quantized=bool(tensor.scale)
    )
    if not isinstance(value, UnwindowedInput):
        return msgspec.structs.replace(planned, channels=tuple(value))
    if not value.state:
        return msgspec.structs.replace(planned, constant=_refuse_constant(tensor, value.constant))
    outputs = {output.name: output for output in facts.outputs}
    name = value.state if value.state in outputs else facts.aliases.get(value.state, value.state)
    output = outputs.get(name)
    if output is None:
        raise ModelError(f"inputs.{tensor.name}.state: no output {value.state!r}{suggest(value.state, outputs)}")
    if output.shape != tensor.shape or output.dtype != tensor.dtype:
        raise ModelError(
            f"inputs.{tensor.name}.state: the output {value.state!r} is {output.dtype} of shape {output.shape}, "
            f"but the input is {tensor.dtype} of shape {tensor.shape}"
        )
    return msgspec.structs.replace(planned, state=name)


def _refuse_constant(tensor: TensorInfo, constant: float | list[float] | None) -> float | list[float]:
    size = int(np.prod([max(n, 1) for n in tensor.shape]))
    if constant is None or (isinstance(constant, list) and len(constant) != size):
        raise ModelError(f"inputs.{tensor.name}.constant: give one number, or {size} for shape {tensor.shape}")
    return constant


def _shown(facts: ModelFacts) -> dict[str, str]:
    """Return the name to show for each tensor: that of a signature where there is one, as it is the shorter."""
    names = {tensor.name: tensor.name for tensor in (*facts.inputs, *facts.outputs)}
    for alias, tensor in facts.aliases.items():
        if names.get(tensor) == tensor:
            names[tensor] = alias
    return names


def _refusal(facts: ModelFacts, unassigned: Sequence[TensorInfo], spec: SampleSpec) -> str:
    """Return which inputs are not assigned, with a line that a person can copy into the configuration."""
    shown = _shown(facts)
    inputs = ", ".join(f"{shown[tensor.name]} {tensor.shape} {tensor.dtype}" for tensor in facts.inputs)
    outputs = ", ".join(f"{shown[tensor.name]} {tensor.shape}" for tensor in facts.outputs)
    missing = ", ".join(shown[tensor.name] for tensor in unassigned)
    return (
        f"inputs: nothing says what {missing} of this model gets. Its inputs are {inputs}; its outputs are "
        f"{outputs}. Name channels of the source, an output to hand back as state, or a constant, for example: "
        f"inputs = {{ {', '.join(_example(facts, shown, spec))} }}"
    )


def _example(facts: ModelFacts, shown: Mapping[str, str], spec: SampleSpec) -> list[str]:
    left = list(spec.channels) or ["channel"]
    lines = []
    for tensor in facts.inputs:
        if tensor.name in facts.pairs:
            value = f"{{ state = {json.dumps(shown[facts.pairs[tensor.name]])} }}"
        elif not tensor.shape:
            value = "{ constant = 1 }"
        else:
            width = max(tensor.shape[-1], 1)
            value = json.dumps(left[:width] or [*spec.channels][:width] or ["channel"], ensure_ascii=False)
            left = left[width:]
        lines.append(f"{_toml_key(shown[tensor.name])} = {value}")
    return lines


def _toml_key(name: str) -> str:
    plain = name.replace("-", "").replace("_", "")
    return name if plain.isascii() and plain.isalnum() else json.dumps(name)


def complete(model: Model, inputs: Sequence[InputPlan], state: StatePlan) -> Model:
    """Return a model that takes windows alone: constants and the state of earlier runs are added to them."""
    return model if all(one.windowed for one in inputs) else Completed(model, inputs, state)


class Completed:
    """A ``Model`` around another, which has more inputs and outputs: those that hold constants and state."""

    def __init__(self, model: Model, inputs: Sequence[InputPlan], state: StatePlan) -> None:
        """Raise ``ModelError`` if the model is not the one that was planned for."""
        if len(inputs) != len(model.inputs):
            raise ModelError(f"the model has {len(model.inputs)} inputs, but its file describes {len(inputs)}")
        numbers = {output.name: number for number, output in enumerate(model.outputs)}
        self._model = model
        self._state = state
        self._held = {i: _held(spec, one) for i, (spec, one) in enumerate(zip(model.inputs, inputs, strict=True))}
        self._pairs = [(i, numbers[one.state]) for i, one in enumerate(inputs) if one.state]
        kept = {number for _, number in self._pairs}
        self._shown = [number for number in range(len(model.outputs)) if number not in kept]
        self.inputs = tuple(spec for i, spec in enumerate(model.inputs) if self._held[i] is None)
        self.outputs = tuple(model.outputs[number] for number in self._shown)

    @property
    def delegate(self) -> str:
        """The delegate in use."""
        return self._model.delegate

    @property
    def delegate_share(self) -> float:
        """Share of the ops that are on it."""
        return self._model.delegate_share

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run once, and keep the state for the next run. ``ModelError`` leaves the state as it was."""
        windows = iter(inputs)
        outputs = self._model.run([next(windows) if held is None else held for held in self._held.values()])
        for number, output in self._pairs:
            state = self._held[number]
            assert state is not None
            if outputs[output].size != state.size:
                raise ModelError(f"the state {self._model.outputs[output].name!r} changes its size")
            state[...] = outputs[output].reshape(state.shape)
        return [outputs[number] for number in self._shown]

    def absorb(self, byte_values: FloatArray) -> bool:
        """Leave it to the model."""
        return self._model.absorb(byte_values)

    def reset(self) -> None:
        """Begin with zeros as the state."""
        for number, _ in self._pairs:
            state = self._held[number]
            assert state is not None
            state.fill(0)
        if self._state.inside:
            self._model.reset()


def _held(spec: TensorSpec, planned: InputPlan) -> Array | None:
    """Return what an input holds between runs, as real values; ``None`` if it gets windows."""
    shape = [max(n, 1) for n in spec.shape]
    if planned.state:
        return np.zeros(shape, np.float32 if spec.quantized else spec.dtype)
    if planned.constant is None:
        return None
    held: Array = np.empty(shape)
    held[...] = np.reshape(planned.constant, shape if isinstance(planned.constant, list) else ())
    return held
