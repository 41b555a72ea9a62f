"""From a request to what the model's process gets: tensors in the model's order, checked. Decides, without I/O."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

from limpet.gateway.channels.models import largest
from limpet.gateway.channels.spans import aligned
from limpet.gateway.errors import RequestError
from limpet.gateway.open_inference.messages import Region
from limpet.gateway.open_inference.tensors import DATATYPES, form_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.gateway.open_inference.messages import Bytes, InferRequest, Input, Wanted
    from limpet.wire.guest_records import Serving, TensorFacts

FLOAT = "FP32"
"""The datatype of real values, which a quantized tensor takes and gives, too."""


class TensorForm(NamedTuple):
    """A tensor of a model as clients see it. -1 in ``shape``: any size. ``real``: it can be ``FP32``, too."""

    name: str
    datatype: str
    shape: list[int]
    real: bool


class ModelForm(NamedTuple):
    """The tensors of a model, in its order."""

    inputs: list[TensorForm]
    outputs: list[TensorForm]


class Part(NamedTuple):
    """An input, where it is put, and in how many bytes. ``offset`` is relative to the request's memory."""

    dtype: str
    shape: list[int]
    offset: int
    size: int
    content: Bytes | Region


class Plan(NamedTuple):
    """A request that the model can take. ``outputs``: which outputs are wanted, by index.

    Inputs take ``inputs_size`` bytes. Outputs follow, and take ``outputs_size``. ``rows``: windows in it.
    """

    parts: list[Part]
    inputs_size: int
    outputs_size: int
    outputs: list[tuple[int, Region | None]]
    rows: int


def form(serving: Serving) -> ModelForm:
    """Return the tensors of a model. ``RequestError`` if they are none of the protocol, or share a name."""
    for tensors in (serving.inputs, serving.outputs):
        if len({one.name for one in tensors}) < len(tensors):
            raise RequestError("failed", f'model "{serving.model}" has two tensors of one name')
    return ModelForm([_form(one) for one in serving.inputs], [_form(one) for one in serving.outputs])


def _form(facts: TensorFacts) -> TensorForm:
    datatype = DATATYPES.get(facts.dtype)
    if datatype is None:
        raise RequestError("failed", f'tensor "{facts.name}" is {facts.dtype}, which this protocol does not have')
    return TensorForm(facts.name, datatype, facts.shape, facts.scale != 0)


def plan(serving: Serving, model: ModelForm, request: InferRequest) -> Plan:
    """Check a request against its model, and place its tensors. ``RequestError`` says what is wrong."""
    inputs = _in_order(model.inputs, request.inputs)
    rows = _rows(serving, inputs)
    parts: list[Part] = []
    offset = 0
    for tensor, one in zip(model.inputs, inputs, strict=True):
        part = _part(tensor, one, rows if serving.batch > 1 else 0, offset)
        parts.append(part)
        offset += aligned(part.size)
    outputs_size = sum(largest(facts, rows if serving.batch > 1 else 0) for facts in serving.outputs)
    return Plan(parts, offset, outputs_size, _wanted(model.outputs, request.outputs), rows)


def _in_order(tensors: Sequence[TensorForm], inputs: Sequence[Input]) -> list[Input]:
    if len(inputs) == len(tensors) == 1 and inputs[0].name == tensors[0].name:  # the usual case
        return [*inputs]
    found = {one.name: one for one in inputs}
    names = [tensor.name for tensor in tensors]
    if len(inputs) != len(names) or found.keys() != set(names):
        came = ", ".join(f'"{one.name}"' for one in inputs[:8]) or "none"
        wanted = ", ".join(f'"{name}"' for name in names)
        raise RequestError("invalid", f"the request has the inputs {came}; the model has {wanted}")
    return [found[name] for name in names]


def _rows(serving: Serving, inputs: Sequence[Input]) -> int:
    """Return how many windows a request has."""
    if serving.batch == 1:
        return 1
    rows = {one.shape[0] if one.shape else 0 for one in inputs}
    if len(rows) > 1 or not 1 <= (first := rows.pop()) <= serving.batch:
        raise RequestError(
            "invalid", f"the first dimension of all inputs must be the same number, 1 to {serving.batch}"
        )
    return first


def _part(tensor: TensorForm, one: Input, rows: int, offset: int) -> Part:
    kind = form_of(one.datatype, one.name)
    if one.datatype != tensor.datatype and not (tensor.real and one.datatype == FLOAT):
        also = f" or {FLOAT}" if tensor.real else ""
        raise RequestError(
            "invalid", f'input "{one.name}" has datatype {one.datatype}; the model takes {tensor.datatype}{also}'
        )
    shape = [rows, *tensor.shape[1:]] if rows else tensor.shape
    if (-1 in shape or shape != one.shape) and not _fits(shape, one.shape):
        raise RequestError("invalid", f'input "{one.name}" has shape {one.shape}; the model takes {tensor.shape}')
    size = prod(one.shape) * kind.size
    came = one.content.size if isinstance(one.content, Region) else len(one.content)
    if came != size:
        has = _counted(came, kind.size)
        raise RequestError(
            "invalid", f'input "{one.name}" has {has}; {one.datatype} of shape {one.shape} has {prod(one.shape)}'
        )
    return Part(kind.dtype, one.shape, offset, size, one.content)


def _counted(size: int, item: int) -> str:
    values, rest = divmod(size, item)
    return f"{size} bytes for values of {item} bytes" if rest else f"{values} values"


def _fits(wanted: Sequence[int], have: Sequence[int]) -> bool:
    """Whether a shape is the wanted one, in which -1 is any size."""
    return len(wanted) == len(have) and all(a in (-1, b) and b >= 0 for a, b in zip(wanted, have, strict=True))


def _wanted(tensors: Sequence[TensorForm], outputs: Sequence[Wanted]) -> list[tuple[int, Region | None]]:
    if not outputs:
        return [(index, None) for index in range(len(tensors))]
    indexes = {tensor.name: index for index, tensor in enumerate(tensors)}
    found = []
    for wanted in outputs:
        if wanted.name not in indexes:
            names = ", ".join(f'"{name}"' for name in indexes)
            raise RequestError("invalid", f'the model has no output "{wanted.name}"; it has {names}')
        found.append((indexes[wanted.name], wanted.region))
    return found
