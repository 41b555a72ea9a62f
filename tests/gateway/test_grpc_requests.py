from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.gateway.access.grpc_peers import GrpcPeer
from limpet.gateway.errors import RequestError
from limpet.gateway.open_inference.grpc_messages import MESSAGES
from limpet.gateway.open_inference.grpc_requests import infer_request, infer_response
from limpet.gateway.open_inference.messages import InferAnswer, InferRequest, Output, Region, Wanted

REQUEST = MESSAGES["ModelInferRequest"]
TENSOR: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2]}


def read(patience: float = 60.0, **fields: Any) -> InferRequest:
    return infer_request(REQUEST.FromString(REQUEST(**fields).SerializeToString()), 1000, patience)


def refusal(**fields: Any) -> str:
    with pytest.raises(RequestError) as caught:
        read(**fields)
    assert caught.value.cause == "invalid"
    return str(caught.value)


def test_a_tensor_is_raw_or_typed_or_in_shared_memory() -> None:
    raw = struct.pack("<2f", 1, 2)
    region = {
        "shared_memory_region": {"string_param": "r"},
        "shared_memory_byte_size": {"int64_param": 8},
        "shared_memory_offset": {"uint64_param": 16},
    }
    shared = {**TENSOR, "name": "s", "parameters": region}
    found = read(inputs=[shared, TENSOR], raw_input_contents=[raw])
    assert [one.content for one in found.inputs] == [Region("r", 16, 8), raw]
    (typed,) = read(inputs=[{**TENSOR, "contents": {"fp32_contents": [1, 2]}}]).inputs
    assert (typed.content, typed.shape) == (raw, [1, 2])


@pytest.mark.parametrize(
    ("datatype", "field", "values", "packed"),
    [
        ("BOOL", "bool_contents", [True, False], "<2?"),
        ("INT8", "int_contents", [-128, 127], "<2b"),
        ("INT16", "int_contents", [-1, 2], "<2h"),
        ("INT32", "int_contents", [-1, 2], "<2i"),
        ("INT64", "int64_contents", [-1, 2], "<2q"),
        ("UINT8", "uint_contents", [0, 255], "<2B"),
        ("UINT16", "uint_contents", [0, 9], "<2H"),
        ("UINT32", "uint_contents", [0, 9], "<2I"),
        ("UINT64", "uint64_contents", [0, 9], "<2Q"),
        ("FP64", "fp64_contents", [0.5, 9], "<2d"),
    ],
)
def test_each_datatype_has_its_field(datatype: str, field: str, values: list[Any], packed: str) -> None:
    (one,) = read(inputs=[{**TENSOR, "datatype": datatype, "contents": {field: values}}]).inputs
    assert one.content == struct.pack(packed, *values)


def test_values_that_the_datatype_does_not_have_are_refused() -> None:
    assert "INT8" in refusal(inputs=[{**TENSOR, "datatype": "INT8", "contents": {"int_contents": [128, 0]}}])
    assert "raw_input_contents" in refusal(inputs=[{**TENSOR, "datatype": "FP16"}])
    assert "BYTES" in refusal(inputs=[{**TENSOR, "datatype": "BYTES"}])


def test_raw_tensors_that_do_not_match_the_inputs_are_refused() -> None:
    assert "more entries" in refusal(inputs=[TENSOR], raw_input_contents=[b"1", b"2"])
    assert "no entry" in refusal(inputs=[TENSOR, TENSOR], raw_input_contents=[b"1"])


def test_what_the_protocol_has_and_limpet_has_not_is_refused() -> None:
    assert "sequences" in refusal(parameters={"sequence_id": {"int64_param": 7}})
    assert "sequences" in refusal(parameters={"sequence_id": {"string_param": "a"}})
    assert "classification" in refusal(
        outputs=[{"name": "y", "parameters": {"classification": {"int64_param": 3}}}]
    )
    assert "at most" in refusal(inputs=[TENSOR] * 65)
    assert "at most" in refusal(inputs=[{**TENSOR, "shape": [1] * 9}])
    assert "characters" in refusal(id="i" * 1001)


def test_outputs_real_values_and_time_are_as_wanted() -> None:
    found = read(
        patience=9.0,
        id="seven",
        outputs=[{"name": "y"}],
        parameters={"real": {"bool_param": True}, "timeout": {"int64_param": 500_000}},
    )
    assert (found.id, found.uid, found.real, found.patience) == ("seven", 1000, True, 0.5)
    assert found.outputs == [Wanted("y")]
    assert read(patience=9.0).patience == 9.0


def test_an_answer_has_an_entry_of_raw_contents_for_each_output() -> None:
    outputs = [
        Output("a", "UINT8", [2], None, Region("r", 4, 2)),
        Output("b", "UINT8", [2], b"\x01\x02"),
    ]
    answer = infer_response(InferAnswer("m", "3", "seven", outputs))
    assert list(answer.raw_output_contents) == [b"", b"\x01\x02"]
    assert answer.outputs[0].parameters["shared_memory_offset"].int64_param == 4
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "3", "seven")


@given(st.binary(max_size=200))
def test_any_message_is_a_request_or_refused(data: bytes) -> None:
    try:
        message = REQUEST.FromString(data)
    except Exception:  # noqa: BLE001 - protobuf raises its own errors, which the server catches all
        return
    try:
        infer_request(message, None, 1.0)
    except RequestError:
        return


def test_a_peer_has_its_address_whatever_the_family() -> None:
    assert GrpcPeer("ipv4:127.0.0.1:4321", {}, [1]).loopback
    other = GrpcPeer("ipv6:%5B2001:db8::5%5D:4321", {}, [1])
    assert (other.address, other.loopback, other.uid) == ("2001:db8::5", False, None)
    assert other.key == "2001:db8::/64"
    with pytest.raises(ValueError, match="unix"):
        GrpcPeer("unix:/tmp/x", {}, [1])


@pytest.mark.parametrize(
    ("family", "host", "written"),
    [
        (socket.AF_INET, "127.0.0.1", "ipv4:127.0.0.1"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "ipv4:127.0.0.1"),  # as gRPC listens
        (socket.AF_INET6, "::1", "ipv6:%5B::1%5D"),
    ],
)
def test_the_kernel_counts_what_came_over_a_connection(
    family: socket.AddressFamily, host: str, written: str
) -> None:
    with socket.socket(family) as listener, socket.socket(family) as client:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, 0))
        listener.listen()
        client.connect(listener.getsockname())
        client.sendall(bytes(1000))
        accepted, _ = listener.accept()
        with accepted:
            accepted.recv(1000, socket.MSG_WAITALL)
            port = client.getsockname()[1]
            peer = GrpcPeer(f"{written}:{port}", {}, [listener.getsockname()[1]])
            before = len(list(Path("/proc/self/fd").iterdir()))
            assert peer.received == 1000
            assert len(list(Path("/proc/self/fd").iterdir())) == before
            assert GrpcPeer(f"{written}:{port}", {}, [1]).received is None


def test_the_name_of_a_verified_certificate_is_never_empty() -> None:
    pem = {"x509_pem_cert": [b"-----BEGIN"]}
    assert GrpcPeer("ipv4:10.0.0.1:1", {"x509_common_name": [b"robot"]}, [1]).certificate == ""
    assert GrpcPeer("ipv4:10.0.0.1:1", {**pem, "x509_common_name": [b"robot"]}, [1]).certificate == "robot"
    assert GrpcPeer("ipv4:10.0.0.1:1", pem, [1]).certificate
