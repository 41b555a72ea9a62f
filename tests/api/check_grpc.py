"""Triton's own client uses the local API over gRPC: run by ``make api``, not by ``make test``."""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import subprocess
from pathlib import Path

import grpc
import pytest

from limpet.gateway.open_inference import grpc_messages
from limpet.gateway.open_inference.grpc_messages import MESSAGES, SERVICE
from support.api_daemon import api_daemon
from support.broker import wait_until
from support.certificates import authority, certificate

ROOT = Path(__file__).parent.parent.parent
INFER = f"/{SERVICE}/ModelInfer"
PYTHON = ROOT / ".venv-triton" / "bin" / "python"


def test_tritons_grpc_client_works_unchanged(tmp_path: Path) -> None:
    description = tmp_path / "description.bin"
    description.write_bytes(grpc_messages.file().SerializeToString())
    with api_daemon(tmp_path, grpc=True) as served:
        address = f"127.0.0.1:{served.grpc_port}"
        done = subprocess.run(
            [PYTHON, Path(__file__).with_name("triton_grpc.py"), address, description],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert done.returncode == 0, done.stdout + done.stderr


def infer(size: int) -> bytes:
    tensor = {"name": "input", "datatype": "INT8", "shape": [1, 3]}
    message = MESSAGES["ModelInferRequest"](model_name="dense", inputs=[tensor], raw_input_contents=[bytes(size)])
    data: bytes = message.SerializeToString()
    return data


def peak_mb(pid: int) -> float:
    """Return the most memory that a process has had, in MB."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1000


def test_many_large_messages_at_once_do_not_fill_the_memory(tmp_path: Path) -> None:
    with api_daemon(tmp_path, grpc=True) as served, contextlib.ExitStack() as stack:
        pid = served.gateway_pid
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"127.0.0.1:{served.grpc_port}"
        channels = [stack.enter_context(grpc.insecure_channel(address, options)) for _ in range(16)]
        message = infer(15_900_000)
        calls = [one.unary_unary(INFER).future(message, timeout=90) for one in channels for _ in range(8)]
        statuses = {call.code() for call in calls}
        assert statuses <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE}
        assert served.gateway_pid == pid
        assert peak_mb(pid) < 500  # 128 calls with 2 GB
        assert channels[0].unary_unary(INFER)(infer(3), timeout=20)


def test_calls_without_a_message_end_and_others_go_on(tmp_path: Path) -> None:
    with (
        api_daemon(tmp_path, grpc=True, api="request_bytes = 1000000") as served,
        grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel,
    ):
        never: queue.Queue[None] = queue.Queue()
        silent = [channel.stream_stream(INFER)(iter(never.get, None), timeout=60) for _ in range(4)]
        assert channel.unary_unary(INFER)(infer(3), timeout=60)
        for call in silent:
            assert call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert "no message" in call.details()
            never.put(None)


def test_the_gateway_with_grpc_is_small_at_rest(tmp_path: Path) -> None:
    with api_daemon(tmp_path, grpc=True) as served:
        rollup = Path(f"/proc/{served.gateway_pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    assert found
    assert int(found[1]) / 1000 <= 45


def test_a_certificate_is_needed_if_authorities_of_clients_are_configured(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    (certificate_of_server, key), (own, own_key) = certificate(ca, "server"), certificate(ca, "robot")
    api = f'certificate = "{certificate_of_server}"\nkey = "{key}"\nclient_ca = "{ca}"'
    with api_daemon(tmp_path, grpc=True, api=api) as served:
        address, options = f"localhost:{served.grpc_port}", (("grpc.ssl_target_name_override", "localhost"),)
        shown = grpc.ssl_channel_credentials(ca.read_bytes(), own_key.read_bytes(), own.read_bytes())
        with grpc.secure_channel(address, shown, options) as one:
            assert one.unary_unary(INFER)(infer(3), timeout=20)
            load = MESSAGES["RepositoryModelLoadRequest"](model_name="x").SerializeToString()
            # It may control: the daemon itself refuses.
            with pytest.raises(grpc.RpcError) as caught:
                one.unary_unary(f"/{SERVICE}/RepositoryModelLoad")(load, timeout=20)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca.read_bytes()), options) as one:
            with pytest.raises(grpc.RpcError) as caught:
                one.unary_unary(INFER)(infer(3), timeout=20)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_port_that_another_program_has_is_named_and_tried_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with api_daemon(tmp_path, api=f'grpc = ["{address}"]') as served:
            wait_until(lambda: f"{address}: gRPC cannot listen there" in served.daemon.log)
            assert "it is started again" in served.daemon.log
            assert "never awaited" not in served.daemon.log
