"""Requests of inference over gRPC, and their answers, as protobuf messages. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet.gateway.channels.model_channel import PATIENCE
from limpet.gateway.errors import RequestError
from limpet.gateway.open_inference.grpc_messages import MESSAGES
from limpet.gateway.open_inference.messages import InferRequest, Input, Region, Wanted
from limpet.gateway.open_inference.tensors import form_of, pack
from limpet.wire.guest_records import MOST_DIMENSIONS, MOST_TENSORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from limpet.gateway.open_inference.messages import Bytes, InferAnswer

LONGEST_NAME, LONGEST_REGION, MOST_BYTES = 1000, 255, 1 << 40
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""Where a tensor of a datatype is if it is not raw. ``FP16`` is always raw."""


def infer_request(message: Any, uid: int | None, patience: float) -> InferRequest:
    """Return a request without protobuf. ``patience``: seconds that are left. ``RequestError``."""
    if len(message.inputs) > MOST_TENSORS or len(message.outputs) > MOST_TENSORS:
        raise RequestError("invalid", f"a request has at most {MOST_TENSORS} inputs and as many outputs")
    raw = iter(message.raw_input_contents)
    inputs = [_input(one, raw, has_raw=bool(message.raw_input_contents)) for one in message.inputs]
    if next(raw, None) is not None:
        raise RequestError("invalid", "raw_input_contents has more entries than there are inputs for them")
    if _integer(message.parameters, "sequence_id") or _text(message.parameters, "sequence_id"):
        raise RequestError("invalid", "sequences are not supported: each request begins with a fresh state")
    timeout = _integer(message.parameters, "timeout") / 1e6
    return InferRequest(
        model=_bounded(message.model_name, "model_name"),
        version=_bounded(message.model_version, "model_version"),
        id=_bounded(message.id, "id"),
        inputs=inputs,
        outputs=[_wanted(one) for one in message.outputs],
        real="real" in message.parameters and message.parameters["real"].bool_param,
        uid=uid,
        patience=min(timeout or PATIENCE, patience, PATIENCE),
    )


def _input(one: Any, raw: Iterator[bytes], *, has_raw: bool) -> Input:
    name = _bounded(one.name, "the name of an input")
    shape = list(one.shape[: MOST_DIMENSIONS + 1])
    if len(shape) > MOST_DIMENSIONS or any(dimension < 0 for dimension in shape):
        raise RequestError("invalid", f'input "{name}": use a shape of at most {MOST_DIMENSIONS} sizes, 0 or more')
    return Input(name, _bounded(one.datatype, "a datatype"), shape, _content(one, name, raw, has_raw=has_raw))


def _content(one: Any, name: str, raw: Iterator[bytes], *, has_raw: bool) -> Bytes | Region:
    if (region := _region(one.parameters, name)) is not None:
        return region
    if has_raw:
        content = next(raw, None)
        if content is None:
            raise RequestError("invalid", f'input "{name}" has no entry in raw_input_contents')
        return content
    form_of(one.datatype, name)
    field = _CONTENTS.get(one.datatype)
    if field is None:
        raise RequestError("invalid", f'input "{name}": send {one.datatype} in raw_input_contents')
    return pack(one.datatype, getattr(one.contents, field), name)


def _wanted(one: Any) -> Wanted:
    name = _bounded(one.name, "the name of an output")
    if _integer(one.parameters, "classification"):
        raise RequestError("invalid", f'output "{name}": the classification extension is not supported')
    return Wanted(name, _region(one.parameters, name))


def _region(parameters: Mapping[str, Any], tensor: str) -> Region | None:
    if "shared_memory_region" not in parameters:
        return None
    region = _text(parameters, "shared_memory_region")
    offset, size = (_integer(parameters, f"shared_memory_{each}") for each in ("offset", "byte_size"))
    if len(region) > LONGEST_REGION or not (0 <= offset <= MOST_BYTES and 0 <= size <= MOST_BYTES):
        raise RequestError("invalid", f'"{tensor}": its region of shared memory has no such name, offset or size')
    return Region(region, offset, size)


def _integer(parameters: Mapping[str, Any], name: str) -> int:
    if name not in parameters:
        return 0
    parameter = parameters[name]
    value: int = parameter.int64_param or parameter.uint64_param
    return value


def _text(parameters: Mapping[str, Any], name: str) -> str:
    return parameters[name].string_param if name in parameters else ""


def _bounded(text: str, what: str) -> str:
    if len(text) > LONGEST_NAME:
        raise RequestError("invalid", f"{what} has {len(text)} characters; the maximum is {LONGEST_NAME}")
    return text


def infer_response(answer: InferAnswer) -> Any:
    """Return an answer as a message. Each output has an entry in ``raw_output_contents``."""
    response = MESSAGES["ModelInferResponse"](model_name=answer.model, model_version=answer.version, id=answer.id)
    for output in answer.outputs:
        added = response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        if output.region is not None:
            added.parameters["shared_memory_region"].string_param = output.region.name
            added.parameters["shared_memory_offset"].int64_param = output.region.offset
            added.parameters["shared_memory_byte_size"].int64_param = output.region.size
        response.raw_output_contents.append(output.content or b"")
    return response
