from __future__ import annotations

import contextlib
import queue
import socket
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from limpet.gateway.access import tokens
from limpet.gateway.open_inference.grpc_messages import MESSAGES, SERVICE
from limpet.gateway.process import permissions
from limpet.tables import ApiTable
from support.api_daemon import api_daemon
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.api_daemon import ApiDaemon

SIZE = 100_000
"""``request_bytes`` of the daemon with a token."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    with api_daemon(tmp_path_factory.mktemp("open"), grpc=True, api="connections = 8") as running:
        yield running


def call(channel: grpc.Channel, method: str, token: str = "", **fields: Any) -> Any:
    message = MESSAGES["ModelInferRequest" if method == "ModelInfer" else f"{method}Request"](**fields)
    metadata = [("authorization", f"Bearer {token}")] if token else []
    send = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=lambda one: one.SerializeToString(),
        response_deserializer=MESSAGES[f"{method}Response"].FromString,
    )
    return send(message, timeout=20, metadata=metadata)


def refused(channel: grpc.Channel, method: str, token: str = "", **fields: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method, token, **fields)
    return caught.value.code(), caught.value.details()


@contextlib.contextmanager
def channel(served: ApiDaemon) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as found:
        yield found


def infer_fields() -> dict[str, Any]:
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 3], "contents": {"fp32_contents": [1, 2, 3]}}
    return {"model_name": "dense", "inputs": [tensor]}


def test_programs_on_the_device_can_run_models_and_not_load_them(served: ApiDaemon) -> None:
    with channel(served) as one:
        assert call(one, "ServerLive").live
        assert len(call(one, "ModelInfer", **infer_fields()).raw_output_contents[0]) == 3
        status, reason = refused(one, "RepositoryModelLoad", model_name="other")
    assert status == grpc.StatusCode.PERMISSION_DENIED
    assert "limpet token" in reason


def test_a_client_of_a_proxy_on_the_device_has_no_rights_without_a_token(served: ApiDaemon) -> None:
    with channel(served) as to_server:
        send = to_server.unary_unary(f"/{SERVICE}/ServerMetadata")
        with pytest.raises(grpc.RpcError) as caught:
            send(b"", timeout=20, metadata=[("x-forwarded-for", "192.0.2.1")])
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert send(b"", timeout=20)


def test_a_message_that_is_damaged_or_does_not_fit_fails_its_own_call_alone(served: ApiDaemon) -> None:
    with channel(served) as one:
        send = one.unary_unary(f"/{SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            send(b"\xff\xff\xff", timeout=20)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        wrong = infer_fields()
        wrong["raw_input_contents"] = [b"abc"]
        assert refused(one, "ModelInfer", **wrong)[0] == grpc.StatusCode.INVALID_ARGUMENT
        assert refused(one, "ModelMetadata", name="n" * 2000)[0] == grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            one.unary_unary(f"/{SERVICE}/Nothing")(b"", timeout=20)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert call(one, "ServerReady").ready


def test_another_program_cannot_listen_at_the_same_port(served: ApiDaemon) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", served.grpc_port))


def test_connections_beyond_the_limit_are_closed_and_those_that_are_open_go_on(served: ApiDaemon) -> None:
    with channel(served) as one, contextlib.ExitStack() as stack:
        assert call(one, "ServerLive").live
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", served.grpc_port))) for _ in range(20)
        ]
        wait_until(lambda: sum(map(is_closed, silent)) >= 12)
        assert call(one, "ServerLive").live


def test_idle_streams_keep_no_call_waiting_and_are_limited(served: ApiDaemon) -> None:
    with channel(served) as one:
        open_stream = one.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES["ModelStreamInferResponse"].FromString,
        )
        requests: list[queue.Queue[Any]] = [queue.Queue() for _ in range(7)]
        streams = []
        for waiting in requests[:6]:
            stream = open_stream(iter(waiting.get, None), timeout=60)
            waiting.put(MESSAGES["ModelInferRequest"](**infer_fields()))
            assert len(next(stream).infer_response.raw_output_contents[0]) == 3
            streams.append(stream)
        with pytest.raises(grpc.RpcError) as caught:
            next(open_stream(iter(requests[6].get, None), timeout=20))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert call(one, "ModelInfer", **infer_fields()).model_name == "dense"
        requests[0].put(MESSAGES["ModelInferRequest"](model_name="nothing"))
        assert "nothing" in next(streams[0]).error_message  # and the stream goes on
        requests[0].put(MESSAGES["ModelInferRequest"](**infer_fields()))
        assert not next(streams[0]).error_message
        for waiting in requests:
            waiting.put(None)
        for stream in streams:
            assert list(stream) == []


def test_calls_that_send_nothing_keep_no_other_call_waiting_for_long(served: ApiDaemon) -> None:
    never: queue.Queue[None] = queue.Queue()
    with contextlib.ExitStack() as stack:
        silent = []
        for _ in range(2):
            idle = stack.enter_context(own_channel(served))
            send = idle.stream_stream(f"/{SERVICE}/ModelInfer")
            silent += [send(iter(never.get, None), timeout=60) for _ in range(60)]
        try:
            wait_until(lambda: any(one.done() for one in silent))  # all turns are taken
            with own_channel(served) as one:
                assert call(one, "ServerLive").live
                assert call(one, "ModelMetadata", name="dense").name == "dense"
                assert call(one, "ModelInfer", **infer_fields()).model_name == "dense"
            assert any(not one.done() for one in silent)
        finally:
            for _ in silent:
                never.put(None)
            for one in silent:
                one.cancel()


def own_channel(served: ApiDaemon) -> grpc.Channel:
    """Return a channel that shares no connection with others."""
    return grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}", [("grpc.use_local_subchannel_pool", 1)])


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_token_is_needed_if_there_are_tokens(tmp_path: Path) -> None:
    secret, token = tokens.new("robot")
    tmp_path.joinpath("tokens").write_text(f"{token.name} {token.sha256}\n")
    api = f'token_file = "tokens"\nrequest_bytes = {SIZE}'
    with api_daemon(tmp_path, grpc=True, api=api) as served, channel(served) as one:
        assert call(one, "ServerLive").live
        status, reason = refused(one, "ServerMetadata")
        assert status == grpc.StatusCode.UNAUTHENTICATED
        assert "authorization" in reason.lower()
        assert refused(one, "ServerMetadata", "wrong")[0] == grpc.StatusCode.UNAUTHENTICATED
        assert call(one, "ServerMetadata", secret).name == "limpet"
        # Who may not call sends no message that is read, however large it is.
        large = {"model_name": "dense", "raw_input_contents": [bytes(SIZE)]}
        assert refused(one, "ModelInfer", **large)[0] == grpc.StatusCode.UNAUTHENTICATED
        assert refused(one, "ModelInfer", secret, **large)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        # With the right to control, the daemon itself answers: this device lets no client load models.
        assert (
            refused(one, "RepositoryModelLoad", secret, model_name="other")[0] != grpc.StatusCode.UNAUTHENTICATED
        )


@pytest.mark.parametrize(
    ("addresses", "ports"), [(["127.0.0.1:7471"], {7471}), (["127.0.0.1:7471", "[::1]:7472"], {0, 7471, 7472})]
)
def test_the_sandbox_lets_it_listen_at_its_ports_alone(addresses: list[str], ports: set[int]) -> None:
    assert permissions(ApiTable(grpc=addresses)).listens == ports


def test_garbage_is_not_logged(served: ApiDaemon) -> None:
    before = len(served.daemon.log)
    for junk in (b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200):
        with socket.create_connection(("127.0.0.1", served.grpc_port)) as connection:
            connection.sendall(junk)
            wait_until(lambda one=connection: is_over(one))
    assert [line for line in served.daemon.log[before:].splitlines() if "limpet.supervision" not in line] == []


def is_over(connection: socket.socket) -> bool:
    """Whether the server closed the connection, after whatever it had to say."""
    connection.setblocking(False)
    try:
        return not connection.recv(1 << 16)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
