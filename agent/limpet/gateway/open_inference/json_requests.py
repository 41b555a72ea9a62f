"""Requests of inference over HTTP: JSON, and after it the tensors that are binary. Pure."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from limpet.errors import UnreadableError
from limpet.gateway.channels.model_channel import PATIENCE
from limpet.gateway.errors import RequestError
from limpet.gateway.open_inference.long_numbers import cut, packed
from limpet.gateway.open_inference.messages import Bytes, InferAnswer, InferRequest, Input, Region, Wanted
from limpet.gateway.open_inference.tensors import FORMS, pack, unpack
from limpet.untrusted import reading
from limpet.wire.guest_records import MOST_DIMENSIONS, MOST_TENSORS

if TYPE_CHECKING:
    from limpet.gateway.open_inference.planning import ModelForm

    Numbers: TypeAlias = list[Any] | bytes | str
else:
    Numbers = list[int | float | bool]
    for _ in range(MOST_DIMENSIONS - 1):
        Numbers = list[int | float | bool | Numbers]

MOST_LISTS = 1 << 18
"""Lists in the JSON of a request. An empty one has 3 bytes, and takes 80 in memory."""
Size: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 40)]
Shape: TypeAlias = Annotated[list[Size], Meta(max_length=MOST_DIMENSIONS)]
TensorName: TypeAlias = Annotated[str, Meta(max_length=1000)]
Datatype: TypeAlias = Annotated[str, Meta(max_length=16, extra_json_schema={"enum": list(FORMS)})]
Shared: TypeAlias = Annotated[str, Meta(max_length=255)]


class InputParameters(msgspec.Struct, frozen=True):
    """``binary_data_size``: bytes of the tensor after the JSON. The others say where in shared memory it is."""

    binary_data_size: Size | None = None
    shared_memory_region: Shared | None = None
    shared_memory_byte_size: Size = 0
    shared_memory_offset: Size = 0


class OutputParameters(msgspec.Struct, frozen=True):
    """``binary_data``: whether the tensor comes after the JSON. The others say where in shared memory it goes."""

    binary_data: bool | None = None
    classification: int = 0
    shared_memory_region: Shared | None = None
    shared_memory_byte_size: Size = 0
    shared_memory_offset: Size = 0


class RequestParameters(msgspec.Struct, frozen=True):
    """``binary_data_output``: whether all outputs come after the JSON, unless they say otherwise.

    ``real``: quantized outputs are wanted as ``FP32``. ``timeout``: µs to wait for the model.
    """

    binary_data_output: bool = False
    real: bool = False
    timeout: Annotated[int, Meta(ge=0)] = 0
    sequence_id: int | str = 0


class JsonInput(msgspec.Struct):
    """An input. ``data``: numbers row by row, flat or in lists of lists; not there if it is elsewhere.

    Clients send ``null`` for what is not there, here and below.
    """

    name: TensorName
    datatype: Datatype
    shape: Shape
    parameters: InputParameters | None = None
    data: Numbers | None = None

    @property
    def settings(self) -> InputParameters:
        """The parameters, or their defaults."""
        return self.parameters or InputParameters()


class _CutInput(JsonInput):
    """An input whose ``data`` may have been cut out."""

    data: Numbers | str | None = None


class JsonOutput(msgspec.Struct):
    """An output that is wanted."""

    name: TensorName
    parameters: OutputParameters | None = None

    @property
    def settings(self) -> OutputParameters:
        """The parameters, or their defaults."""
        return self.parameters or OutputParameters()


class JsonRequest(msgspec.Struct):
    """The body of a request, or its first part."""

    inputs: Annotated[list[JsonInput], Meta(max_length=MOST_TENSORS)]
    outputs: Annotated[list[JsonOutput], Meta(max_length=MOST_TENSORS)] | None = None
    id: Annotated[str, Meta(max_length=1000)] | None = None
    parameters: RequestParameters | None = None

    @property
    def wanted(self) -> list[JsonOutput]:
        """The outputs that are wanted. Empty for all."""
        return self.outputs or []

    @property
    def settings(self) -> RequestParameters:
        """The parameters, or their defaults."""
        return self.parameters or RequestParameters()


class _CutRequest(JsonRequest):
    inputs: Annotated[list[_CutInput], Meta(max_length=MOST_TENSORS)]  # type: ignore[assignment]


class AnswerParameters(msgspec.Struct, omit_defaults=True):
    """Where an output is, if it is not in ``data``."""

    binary_data_size: int | None = None
    shared_memory_region: str | None = None
    shared_memory_byte_size: int | None = None
    shared_memory_offset: int | None = None


class JsonAnswerOutput(msgspec.Struct, omit_defaults=True):
    """An output of a model."""

    name: str
    datatype: str
    shape: list[int]
    parameters: AnswerParameters | None = None
    data: list[Any] | None = None


class JsonAnswer(msgspec.Struct, omit_defaults=True):
    """The body of an answer, or its first part."""

    model_name: str
    model_version: str
    outputs: list[JsonAnswerOutput]
    id: str = ""


RAW = JsonRequest([], parameters=RequestParameters(binary_data_output=True))
"""What a request without JSON wants."""
_DECODER = msgspec.json.Decoder(JsonRequest)
_CUT_DECODER = msgspec.json.Decoder(_CutRequest)
_LIST = msgspec.json.Decoder(list[int | float])
_CUT_DECODER = msgspec.json.Decoder(_CutRequest)
_NUMBERS = msgspec.json.Decoder(list[int | float])
_ENCODER = msgspec.json.Encoder()


def decoded(body: bytes | bytearray, header_length: str | None) -> tuple[JsonRequest, memoryview]:
    """Return the JSON of a body, and what follows it. ``header_length``: of the header that says where it ends."""
    view = memoryview(body)
    end = len(view)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdecimal() and len(header_length) < 20) or (
            int(header_length) > end
        ):
            raise RequestError(
                "invalid", f"Inference-Header-Content-Length must be a number, 0 to {end}, the length of the body"
            )
        end = int(header_length)
    try:
        with reading("the body"):
            return _decode(body if end == len(view) else bytes(view[:end])), view[end:]
    except UnreadableError as error:
        raise RequestError("invalid", str(error)) from error


def _decode(text: bytes | bytearray) -> JsonRequest:
    """Return the JSON of a body. Where ``data`` is a long list, it has the bytes of the tensor in its place."""
    text, long = cut(text)
    if (lists := text.count(b"[")) > MOST_LISTS:
        raise RequestError("invalid", f"the JSON has {lists} lists; at most {MOST_LISTS} are read. Send flat data")
    if not long:
        return _DECODER.decode(text)
    found = _CUT_DECODER.decode(text)
    for one in found.inputs:
        if isinstance(one.data, str):
            if one.data not in long:
                raise UnreadableError(f"the data of {one.name!r} is no list")
            one.data = _tensor(one, long.pop(one.data))
    return found


def _tensor(one: _CutInput, numbers: memoryview) -> bytes:
    return packed(one.datatype, numbers) or pack(one.datatype, _LIST.decode(b"[%b]" % bytes(numbers)), one.name)


def request(model: str, version: str, uid: int | None, body: JsonRequest, binary: memoryview) -> InferRequest:
    """Return a request without HTTP. ``RequestError`` if its parts do not fit."""
    inputs = []
    for one in body.inputs:
        content, binary = _content(one, binary)
        one.data = None  # as numbers, a tensor takes up to 30 times as much memory as in bytes
        inputs.append(Input(one.name, one.datatype, one.shape, content))
    if binary:
        raise RequestError("invalid", f"{len(binary)} bytes follow the JSON that no input claims")
    if body.settings.sequence_id not in (0, ""):
        raise RequestError("invalid", "sequences are not supported: each request begins with a fresh state")
    outputs = [Wanted(one.name, _region(one)) for one in body.wanted]
    patience = min(body.settings.timeout / 1e6 or PATIENCE, PATIENCE)
    return InferRequest(model, version, body.id or "", inputs, outputs, body.settings.real, uid, patience)


def uses_regions(body: JsonRequest) -> bool:
    """Whether a request has a tensor in shared memory."""
    inputs = any(one.settings.shared_memory_region is not None for one in body.inputs)
    return inputs or any(one.settings.shared_memory_region is not None for one in body.wanted)


def raw_request(model: str, version: str, form: ModelForm, body: bytes) -> InferRequest:
    """Return the request of a body that is the only input of a model. ``RequestError`` if that cannot be."""
    if len(form.inputs) != 1:
        raise RequestError("invalid", f"a body without JSON is one input; the model has {len(form.inputs)}")
    one = form.inputs[0]
    shape = list(one.shape)
    if shape.count(-1) == 1:
        row = FORMS[one.datatype].size * -prod(shape)
        shape[shape.index(-1)] = len(body) // row if row else 0
    return InferRequest(model, version, "", [Input(one.name, one.datatype, shape, body)], [])


def _content(one: JsonInput, binary: memoryview) -> tuple[Bytes | Region, memoryview]:
    """Return the tensor of an input, and what of the binary part is left."""
    parameters = one.settings
    if parameters.shared_memory_region is not None:
        region = Region(
            parameters.shared_memory_region, parameters.shared_memory_offset, parameters.shared_memory_byte_size
        )
        return region, binary
    size = parameters.binary_data_size
    if size is not None:
        if size > len(binary):
            raise RequestError(
                "invalid", f'input "{one.name}" claims {size} bytes after the JSON; {len(binary)} are left'
            )
        return binary[:size], binary[size:]
    if one.data is None:
        raise RequestError("invalid", f'input "{one.name}" has no data')
    if isinstance(one.data, bytes):
        return one.data, binary
    assert not isinstance(one.data, str)
    return pack(one.datatype, one.data, one.name), binary


def _region(one: JsonOutput) -> Region | None:
    parameters = one.settings
    if parameters.classification:
        raise RequestError("invalid", f'output "{one.name}": the classification extension is not supported')
    if parameters.shared_memory_region is None:
        return None
    return Region(
        parameters.shared_memory_region, parameters.shared_memory_offset, parameters.shared_memory_byte_size
    )


def encoded(answer: InferAnswer, body: JsonRequest) -> tuple[bytes, int | None]:
    """Return the body of an answer, and how long its JSON is, if something follows it."""
    binary_names = {one.name: one.settings.binary_data for one in body.wanted}
    every = body.settings.binary_data_output
    outputs, binary = [], []
    for output in answer.outputs:
        found = JsonAnswerOutput(output.name, output.datatype, output.shape)
        if output.content is None:
            assert output.region is not None
            name, offset, size = output.region
            found.parameters = AnswerParameters(None, name, size, offset or None)
        elif every if (wanted := binary_names.get(output.name)) is None else wanted:
            found.parameters = AnswerParameters(len(output.content))
            binary.append(output.content)
        else:
            found.data = unpack(output.datatype, output.content, output.name)
        outputs.append(found)
    head = _ENCODER.encode(JsonAnswer(answer.model, answer.version, outputs, answer.id))
    return (b"".join([head, *binary]), len(head)) if binary else (head, None)
