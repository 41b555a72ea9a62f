"""Messages with more fields than a request can have are refused before they are decoded."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from limpet.gateway.errors import RequestError
from limpet.gateway.open_inference.grpc_messages import MESSAGES
from limpet.gateway.open_inference.protobuf_fields import MOST_FIELDS, check_fields

REQUEST = MESSAGES["ModelInferRequest"]
MANY = MOST_FIELDS + 1
INPUTS, OUTPUTS, PARAMETERS, RAW = b"\x2a\x00", b"\x32\x00", b"\x22\x00", b"\x3a\x00"


def field(tag: int, content: bytes) -> bytes:
    """Return a field with a length."""
    size, length = bytearray(), len(content)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([tag, *size, length]) + content


@pytest.mark.parametrize(
    "data",
    [
        INPUTS * MANY,
        OUTPUTS * MANY,
        PARAMETERS * MANY,
        RAW * MANY,
        field(0x2A, b"\x22\x00" * MANY),  # parameters of an input
        field(0x2A, field(0x2A, b"\x42\x00" * MANY)),  # texts in the contents of an input
        field(0x2A, field(0x2A, b"\x10\x01" * MANY)),  # numbers, each in a field of its own
        INPUTS * 2000 + OUTPUTS * 2000 + field(0x2A, b"\x22\x00" * 100),
    ],
)
def test_a_message_with_many_fields_is_refused(data: bytes) -> None:
    REQUEST.FromString(data)  # protobuf itself takes it
    with pytest.raises(RequestError, match="fields"):
        check_fields(data, REQUEST.DESCRIPTOR)


def test_the_numbers_of_a_tensor_count_as_one_field() -> None:
    message = REQUEST(model_name="m", raw_input_contents=[bytes(100_000)])
    message.inputs.add(name="x", shape=[1] * 8).contents.fp32_contents.extend([1.5] * 100_000)
    check_fields(message.SerializeToString(), REQUEST.DESCRIPTOR)


@given(data=st.one_of(st.binary(), st.lists(st.tuples(st.integers(0, 255), st.binary()))))
def test_what_protobuf_reads_is_not_taken_for_damaged(data: Any) -> None:
    raw = field(0x3A, bytes(2 * MOST_FIELDS))  # so long that it is looked at
    raw += data if isinstance(data, bytes) else b"".join(field(tag, content) for tag, content in data)
    with contextlib.suppress(DecodeError):
        REQUEST.FromString(raw)
        with contextlib.suppress(RequestError):
            check_fields(raw, REQUEST.DESCRIPTOR)
            return
        assert any(byte & 7 in (3, 4) for byte in raw), "only groups are refused, which no request has"
