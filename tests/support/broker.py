"""A real mosquitto on a free port of the loopback, and a client that collects what it publishes."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


PATIENCE = 40.0
"""Seconds that a condition may take: far more than any needs, so that no test depends on speed."""


def wait_until(condition: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Wait for a condition; an AssertionError says that it never came."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)


class Mosquitto:
    """A broker that can be stopped, killed, frozen, and started again on its port with what it had saved.

    ``options`` are lines of its listener, such as "protocol websockets"; ``settings`` are lines for all of it.
    ``most_queued``: 0 is no limit. Then mosquitto 2.0.11 closes the connection over each message that it refuses.
    """

    def __init__(
        self,
        directory: Path,
        options: str = "",
        settings: str = "allow_anonymous true",
        most_queued: int = 0,
    ) -> None:
        self.port = free_port()
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._config = directory / "mosquitto.conf"
        self._config.write_text(
            f"{settings}\nlistener {self.port} 127.0.0.1\n{options}\n"
            f"persistence true\npersistence_location {directory}/\n"
            f"max_inflight_messages 0\nmax_queued_messages {most_queued}\nuser root\n"
            f"log_dest file {directory}/mosquitto.log\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.directory / "mosquitto.log").read_text()

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["mosquitto", "-c", self._config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._listens)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def save(self) -> None:
        """Have it write sessions and retained messages to its disk, which it otherwise does when stopped."""
        self._signal(signal.SIGUSR1)
        wait_until((self.directory / "mosquitto.db").exists)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    def _listens(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self.log
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@contextlib.contextmanager
def mosquitto(
    directory: Path, options: str = "", settings: str = "allow_anonymous true", most_queued: int = 0
) -> Iterator[Mosquitto]:
    broker = Mosquitto(directory, options, settings, most_queued)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


class Received(NamedTuple):
    topic: str
    payload: bytes
    retained: bool

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class Listener:
    """Collects messages as a consumer would. A ``lasting`` session survives the broker and its own connection."""

    def __init__(self, port: int, topic: str = "limpet/#", *, lasting: bool = False) -> None:
        self.messages: list[Received] = []
        self.connected = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            "listener" if lasting else "",
            clean_session=not lasting,
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        self._client.reconnect_delay_set(0.05, 0.05)  # type: ignore[arg-type]  # paho says int and takes any number
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_subscribe = lambda *_: self.connected.set()
        self._client.on_disconnect = lambda *_: self.connected.clear()
        self._client.on_message = lambda _client, _data, message: self.messages.append(
            Received(message.topic, message.payload, message.retain)
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self.connected.wait(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def on(self, topic: str) -> list[Received]:
        """Return what came on ``limpet/DEVICE/topic``."""
        return [m for m in list(self.messages) if m.topic.split("/", 2)[2] == topic]

    def results(self) -> dict[str, list[Any]]:
        """Return the results of each pipeline, batches taken apart."""
        found: dict[str, list[Any]] = defaultdict(list)
        for message in list(self.messages):
            if "/result/" in message.topic:
                content = message.json
                found[message.topic.rpartition("/")[2]] += content if isinstance(content, list) else [content]
        return found


@contextlib.contextmanager
def listener(port: int, topic: str = "limpet/#", *, lasting: bool = False) -> Iterator[Listener]:
    client = Listener(port, topic, lasting=lasting)
    try:
        yield client
    finally:
        client.close()
