"""Arrays as the Open Inference Protocol sends them, without I/O. The only part of the client with numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from limpet.client.calls import Call, model_target
from limpet.client.errors import ClientError
from limpet.client.http import Request
from limpet.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.client.http import Buffer, Response
    from limpet.client.messages import ModelFacts, TensorFacts
    from limpet.client.shared_memory import Region

Array: TypeAlias = np.ndarray[Any, Any]

DTYPES = {
    "BOOL": np.dtype("?"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
LARGE = 1 << 18
"""Bytes of all inputs or of an output from which on they go through shared memory."""
_LENGTH = "Inference-Header-Content-Length"
_Count = Annotated[int, Meta(ge=0, le=1 << 31)]


class _Parameters(msgspec.Struct):
    binary_data_size: _Count | None = None
    shared_memory_region: str = ""
    shared_memory_offset: _Count = 0
    shared_memory_byte_size: _Count = 0


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: Annotated[list[_Count], Meta(max_length=8)]
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)


class _Answer(msgspec.Struct):
    outputs: list[_Output]


_answer = msgspec.json.Decoder(_Answer)


class Inputs(NamedTuple):
    """Arrays by the name of the input, row by row, in a dtype that the model takes."""

    arrays: dict[str, Array]

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def real(self) -> bool:
        """Whether all are real values. Quantized outputs are then wanted as real values, too."""
        return all(array.dtype.kind == "f" for array in self.arrays.values())


def inputs_of(facts: ModelFacts, given: Mapping[str, Any] | Any) -> Inputs:
    """Return arrays for a model. ``given``: by the input's name, or one alone. ``ClientError``."""
    if not isinstance(given, Mapping):
        if len(facts.inputs) != 1:
            raise ClientError(
                f"{facts.name} has the inputs {_names(facts.inputs)}; give a dict with an array for each"
            )
        given = {facts.inputs[0].name: given}
    if set(given) != {each.name for each in facts.inputs}:
        raise ClientError(
            f"{facts.name} has the inputs {_names(facts.inputs)}, and not {', '.join(map(str, given))}"
        )
    return Inputs({each.name: _array(facts.name, each, given[each.name]) for each in facts.inputs})


def _names(tensors: Sequence[TensorFacts]) -> str:
    return ", ".join(each.name for each in tensors)


def _array(model: str, facts: TensorFacts, given: Any) -> Array:
    """Return values in the input's dtype; real values of a quantized input in float32."""
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ClientError(f"{model}: input {facts.name} is no array: {error}") from error
    wanted = DTYPES.get(facts.datatype)
    if wanted is None:
        raise ClientError(f"{model}: input {facts.name} has the datatype {facts.datatype}; use HTTP")
    if array.dtype.kind == "f" and wanted.kind in "iu":
        wanted = DTYPES["FP32"]
    if array.dtype.kind not in "fiub":
        raise ClientError(f"{model}: input {facts.name} has the dtype {array.dtype}; give numbers")
    if array.dtype != wanted and wanted.kind in "iub" and not _fits(array, wanted):
        raise ClientError(f"{model}: input {facts.name} has values that {facts.datatype} does not have")
    return np.ascontiguousarray(array, wanted).reshape(array.shape)


def _fits(array: Array, dtype: np.dtype[Any]) -> bool:
    return bool(np.array_equal(array, array.astype(dtype)))


class Placed(NamedTuple):
    """Where tensors of one call are in a region: the inputs first. Sizes and offsets in bytes."""

    region: Region
    outputs: dict[str, tuple[int, int]]


def region_size(facts: ModelFacts, inputs: Inputs) -> int:
    """Return how many bytes of shared memory a call needs; 0 if its tensors are small."""
    outputs = _large_outputs(facts, real=inputs.real)
    if inputs.size < LARGE and not outputs:
        return 0
    return sum(aligned(size) for size in (*(each.nbytes for each in inputs.arrays.values()), *outputs.values()))


def place(region: Region, facts: ModelFacts, inputs: Inputs) -> Placed:
    """Write the inputs into shared memory, and keep room for large outputs behind them."""
    offset, outputs = 0, {}
    for array in inputs.arrays.values():
        np.frombuffer(region.memory, array.dtype, array.size, offset)[...] = array.reshape(-1)
        offset = aligned(offset + array.nbytes)
    for name, size in _large_outputs(facts, real=inputs.real).items():
        outputs[name] = offset, size
        offset = aligned(offset + size)
    return Placed(region, outputs)


def _large_outputs(facts: ModelFacts, *, real: bool) -> dict[str, int]:
    """Return bytes of the outputs that are large and of a known size, by name."""
    real_size = DTYPES["FP32"].itemsize if real else 0
    sizes = {}
    for output in facts.outputs:
        dtype = DTYPES.get(output.datatype)
        if dtype is not None and -1 not in output.shape:
            size = int(np.prod(output.shape, dtype=np.int64)) * max(dtype.itemsize, real_size)
            if size >= LARGE:
                sizes[output.name] = size
    return sizes


def infer(
    facts: ModelFacts, version: int | None, inputs: Inputs, *, placed: Placed | None = None
) -> Call[dict[str, Array]]:
    """Run a model. ``placed``: tensors go through shared memory, where the inputs are already."""
    described, body, offset = [], [], 0
    for name, array in inputs.arrays.items():
        if placed is None:
            parameters: dict[str, Any] = {"binary_data_size": array.nbytes}
            body.append(array.reshape(-1).view(np.uint8).data)
        else:
            parameters = _in_region(placed.region, offset, array.nbytes)
            offset = aligned(offset + array.nbytes)
        described.append(
            {
                "name": name,
                "datatype": DATATYPES[array.dtype],
                "shape": list(array.shape),
                "parameters": parameters,
            }
        )
    request: dict[str, Any] = {
        "inputs": described,
        "parameters": {"binary_data_output": True, "real": inputs.real},
    }
    if placed is not None and placed.outputs:
        request["outputs"] = [_wanted(output.name, placed) for output in facts.outputs]
    header = msgspec.json.encode(request)
    headers = (("Content-Type", "application/octet-stream"), (_LENGTH, str(len(header))))
    target = f"{model_target(facts.name, version)}/infer"
    return Call(Request("POST", target, headers, (header, *body)), lambda response: _outputs(response, placed))


def _wanted(name: str, placed: Placed) -> dict[str, Any]:
    if name not in placed.outputs:
        return {"name": name, "parameters": {"binary_data": True}}
    return {"name": name, "parameters": _in_region(placed.region, *placed.outputs[name])}


def _in_region(region: Region, offset: int, size: int) -> dict[str, Any]:
    return {
        "shared_memory_region": region.name,
        "shared_memory_offset": offset,
        "shared_memory_byte_size": size,
    }


def aligned(offset: int) -> int:
    """Return the next offset at which any dtype can be read."""
    return -(-offset // 64) * 64


def _outputs(response: Response, placed: Placed | None) -> dict[str, Array]:
    body = memoryview(response.body)
    length = int(response.headers.get(_LENGTH.lower(), len(body)))
    if not 0 <= length <= len(body):
        raise UnreadableError(f"its JSON has {length} bytes, and the body {len(body)}")
    answer = _answer.decode(body[:length])
    rest = body[length:]
    outputs = {}
    for output in answer.outputs:
        size = output.parameters.binary_data_size
        if size is not None:
            outputs[output.name] = _tensor(output, rest[:size])
            rest = rest[size:]
        elif placed is not None and output.name in placed.outputs:
            offset, most = placed.outputs[output.name]
            size = min(output.parameters.shared_memory_byte_size or most, most)
            outputs[output.name] = _tensor(output, placed.region.memory[offset : offset + size]).copy()
        else:
            raise UnreadableError(f"output {output.name} has no data")
    return outputs


def _tensor(output: _Output, data: Buffer) -> Array:
    return np.frombuffer(data, DTYPES[output.datatype]).reshape(output.shape)
