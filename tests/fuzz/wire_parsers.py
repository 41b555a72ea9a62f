"""What other processes and the network send."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from fuzz.registry import Prepared, parser
from limpet.contracts.commands import REQUESTS
from limpet.contracts.data import TensorSpec
from limpet.contracts.detected_events import ObjectEvent, ZoneEvent
from limpet.contracts.drift import MonitorFigures, MonitorState, Moved, OpenAlarm
from limpet.contracts.messages import Placed, Tensor
from limpet.delivery.mqtt.broker_settings import BrokerSettings
from limpet.delivery.mqtt.connection import Connection, Incoming
from limpet.delivery.mqtt.incoming_commands import IncomingCommands
from limpet.errors import TransportError
from limpet.inference import infer_request, tensor_stream
from limpet.learning.changes import Levels
from limpet.learning.expected import Expected as LearningExpected
from limpet.supervision.commands import Commands, Received
from limpet.supervision.health import HealthReader, now
from limpet.supervision.ledger import Ledger
from limpet.wire import border, guest_records, stream
from limpet.wire.channel import Channel
from limpet.wire.executor_records import Done, Opened
from limpet.wire.fork_records import Checked, CheckStep, Examined, FromCheck, Verdict
from limpet.wire.guest_records import Attach, Infer
from limpet.wire.guest_socket import GuestSocket
from limpet.wire.memory_file import anonymous_file, seal
from limpet.wire.records import (
    LARGEST_RECORD,
    Answered,
    Capture,
    Dismiss,
    EventDetected,
    Figures,
    FromWorker,
    Heartbeat,
    Inputs,
    Need,
    Notice,
    RawResults,
    Result,
    Results,
    SwapReport,
    Transition,
)
from limpet.worker.executor_link import ExecutorLink, Expected
from support import dialects, reports

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.audit.entry import Who
    from limpet.contracts.commands import Feedback, Undo
    from limpet.contracts.dialect import Publish
    from limpet.contracts.messages import FeedbackTaken, Reply, Undone
    from limpet.updates.stimuli import Ordered
    from limpet.wire.records import Ask

ROOT = f"limpet/{reports.ORIGIN.device}"


def _framed(record: Any) -> bytes:
    payload = msgspec.msgpack.encode(record)
    return len(payload).to_bytes(4, "little") + payload


@parser("answers of checkers, examiners and candidate checks")
def _answers_of_helpers(_: Path) -> Prepared:
    records = [
        *(Examined("motion", 3, "0" * 64), Examined(problem="damaged"), Checked(["a problem"])),
        *(CheckStep("golden"), Verdict(delegate="cpu", load_s=0.5, notes=["a note"], golden_error=0.0)),
    ]

    def take(data: bytes) -> None:
        for kind in (Examined, Checked, FromCheck):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.sendall(data[:60_000])
                ours.close()
                channel: Channel[Any] = Channel(theirs, kind, largest=LARGEST_RECORD)
                with contextlib.suppress(EOFError):
                    while True:
                        list(channel.receive())

    return Prepared([_framed(record) for record in records], take)


def _watched() -> MonitorFigures:
    """What monitors of a pipeline report."""
    alarm = OpenAlarm(fault="stuck", moved=[Moved(name="x", before=0.5, now=2.0)], since_s=9.5, p_value=1e-9)
    states = {"sensor": MonitorState(level=1.5, alarm=alarm), "adwin": MonitorState(problem="why")}
    return MonitorFigures(windows=64, busy_us=9, monitors=states, sketches={"x": [1, 2]})


@parser("channel records")
def _records(_: Path) -> Prepared:
    """What a worker says, up to what the supervisor believes of it."""
    result = Result("p", "m", 1, "cpu", False, 1, 2, 3, 4, {"label": "cat", "score": 0.9})
    records = [
        Results([result, result]),
        Heartbeat(
            {"p": Figures(1, 2, {"invoke": {5: 6}})}, {"gap": 3}, Inputs(99.5, [2], ["x", "y"], [[1.0, 2.0]])
        ),
        Heartbeat({"p": Figures(monitors=_watched())}, {}),
        Heartbeat({"p": Figures(levels=Levels(9, (1.0, 2.0), (0.5, 0.5)))}, {}),
        LearningExpected("p", "m", 1, 0.9, {"site=north": 0.5}, {"cat": 0.5}, 0.5),
        Transition("p", "running", "", "m", 1, "gpu", 0.5, placement=Placed(0.5, None)),
        Notice("p", "gap", "a gap"),
        EventDetected(
            "p",
            ObjectEvent(
                type="new",
                id=1,
                label="cat",
                score=0.5,
                box=(0, 0, 1, 1),
                zones=["drive"],
                age_s=1.0,
                unseen_s=0.0,
            ),
            5,
        ),
        EventDetected("p", ZoneEvent(type="left", zone="drive", id=1, label="cat", occupancy=0, dwell_s=1.5), 5),
        Answered(1, "", {"x": [1, 2]}),
        Need(1, "p", "gpu"),
        SwapReport("p", 1, "failed", "why"),
        Dismiss(1),
    ]

    def take(data: bytes) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            channel: Channel[FromWorker] = Channel(ours, FromWorker, largest=LARGEST_RECORD)
            theirs.sendall(data[:65536])
            theirs.shutdown(socket.SHUT_WR)
            ledger = Ledger(
                reports.ORIGIN, lambda messages: [msgspec.json.encode(message) for message in messages]
            )
            ledger.assign({"p": "cell"}, 0.0)
            with contextlib.suppress(EOFError):
                while True:
                    for record in channel.receive():
                        border.check(record, {"p"}, {1: Capture})
                        _believe(ledger, record)

    return Prepared([*map(_framed, records), b"".join(map(_framed, records))], take)


def _believe(ledger: Ledger, record: FromWorker) -> None:
    """Do with a record what the supervisor does, and encode what it would report."""
    if isinstance(record, RawResults):
        ledger.accept("cell", record.items, 0.0)
    elif isinstance(record, Heartbeat):
        ledger.add("cell", record, 0.0)
    elif isinstance(record, Transition):
        ledger.account("p").move(record)
    msgspec.json.encode(HealthReader(reports.ORIGIN).pipeline(ledger.account("p"), now()))


@parser("requests of the gateway to a model's process")
def _guest_requests(_: Path) -> Prepared:
    """What the gateway sends on a socket to a model's process, after memory that fits."""
    records = [Attach(4096), Infer(1, [guest_records.Placed("<f4", [1, 3], 0)], 2048, 1024, real=True)]

    def take(data: bytes) -> None:
        ours, theirs = socket.socketpair()
        link = GuestSocket(theirs)
        with contextlib.closing(link), ours, anonymous_file() as file:
            file.truncate(4096)
            seal(file)
            socket.send_fds(ours, [data], [file.fileno()])
            with contextlib.suppress(BlockingIOError):
                list(link.receive())

    return Prepared([b"".join(map(_framed, records))], take)


@parser("executor records")
def _executor(_: Path) -> Prepared:
    """What an executor answers, with memory of a size that fits, up to the outputs of a run."""
    spec = TensorSpec("x", (1, 3), np.dtype(np.float32))
    expected = Expected((spec,), (spec,), 1.0)
    opened = Opened(Placed(1.0, 1.0), 0.1, 0.1, [(0, 64), (64, 64)], 1)
    records = [opened, Done("", [("<f4", (1, 3))]), Done("no")]

    def take(data: bytes) -> None:
        ours, theirs = socket.socketpair()
        with anonymous_file() as memory, theirs:
            memory.truncate(128)
            seal(memory)
            link = ExecutorLink(1, "gpu", expected, time.monotonic() + 1)
            link.connect(ours)
            try:
                socket.send_fds(theirs, [data[:65536] or b"\0"], [memory.fileno()])
                theirs.shutdown(socket.SHUT_WR)
                while not link.poll():
                    pass
                link.run([np.zeros((1, 3), np.float32)])
            finally:
                link.close()
                ours.close()

    whole = b"".join(map(_framed, (opened, records[1])))
    return Prepared([*map(_framed, records), whole], take)


@parser("tensor stream")
def _stream(folder: Path) -> Prepared:
    model = bytes(100)
    order = tensor_stream.Order(100, "0" * 64, [3], 2)
    windows = infer_request.tensor(np.zeros((2, 3), np.float32))
    whole = b"".join(map(_framed, (order, tensor_stream.Chunk(model), windows)))

    def take(data: bytes) -> None:
        source = io.BytesIO(data)
        try:
            stream.exactly(source, len(tensor_stream.MAGIC))
            wanted = tensor_stream.read(source, tensor_stream.Order)
            try:
                tensor_stream.receive_model(source, wanted, folder / "model.tflite")
            except TransportError:
                source.seek(len(tensor_stream.MAGIC))
            while True:
                infer_request.windows(tensor_stream.read(source, Tensor))
        except EOFError:
            pass  # as it declares

    return Prepared([tensor_stream.MAGIC + whole, tensor_stream.MAGIC + _framed(windows)], take)


class _Workers:
    """What commands need of the fleet, and of the updates."""

    def order(self, pipeline: str, ordered: Ordered) -> str:
        raise KeyError(pipeline, ordered.order)

    def feedback(self, feedback: Feedback) -> FeedbackTaken:
        raise ValueError(feedback.id)

    def undo(self, undo: Undo, who: Who) -> Undone:
        raise ValueError(f"{undo.pipeline} {who.reporter}")

    def taught(self, taught: object, who: Who) -> None:
        pass

    def restart(self, pipeline: str) -> None:
        raise KeyError(pipeline)

    def ask(self, pipeline: str, ask: Ask, fds: tuple[int, ...] = ()) -> None:
        del pipeline, ask
        for fd in fds:
            infer_request.windows(msgspec.msgpack.decode(os.pread(fd, 1 << 22, 0), type=Tensor))

    def ask_all(self, ask: Ask) -> None:
        """Take it."""


def _commands_of(allowed: list[str]) -> Commands:
    return Commands(
        reports.ORIGIN, allowed, _Workers(), reports.device_health, lambda: None, lambda _received, _error: None
    )


class _Command:
    def __init__(self, name: str, payload: bytes) -> None:
        self.name, self.payload, self.answers = name, payload, ""

    def reply(self, reply: Reply) -> None:
        msgspec.json.encode(reply)


@parser("commands")
def _commands(_: Path) -> Prepared:
    """The first byte chooses the command, the rest is its payload."""
    names = list(REQUESTS)
    payloads = [
        b"{}", b'{"pipeline":"p"}', b'{"pipeline":"p","value":0.5}', b'{"level":"DEBUG"}',
        b'{"pipeline":"p","windows":{"shape":[1,3],"values":[1,2,3]}}',
        b'{"pipeline":"p","windows":{"shape":[1,1],"dtype":"float32","data":"AAAAAA=="}}',
    ]  # fmt: skip

    def take(data: bytes) -> None:
        name = names[data[0] % len(names)] if data else "none"
        _commands_of(names).obey(Received("mqtt", _Command(name, data[1:])))

    return Prepared([bytes([i]) + payload for i in range(len(names)) for payload in payloads], take)


@parser("mqtt requests")
def _requests(_: Path) -> Prepared:
    """Topic, response topic, correlation and payload, one behind the other, as they come with a command."""
    sound = [b"limpet/press-07/command/ping", b"operators/anna", b"question 1", b"{}"]

    def take(data: bytes) -> None:
        topic, response, correlation, payload = [*data.split(b"\x1e"), b"", b"", b"", b""][:4]
        incoming = Incoming(
            topic.decode("utf-8", "replace"), payload, False, response.decode("utf-8", "replace"), correlation
        )
        request = IncomingCommands(reports.ORIGIN.device, ROOT, [], _check_publish).take(incoming)
        if request:
            _commands_of(list(REQUESTS)).obey(Received("mqtt", request))

    return Prepared([b"\x1e".join(sound), b"\x1e".join([*sound[:1], b"", b"", b"[]"])], take)


def _check_publish(publish: Publish, correlation: bytes) -> None:
    """Refuse, as the broker's client would, what must never be published."""
    del correlation
    assert not set(publish.topic) & {"+", "#", "\0"}
    assert 0 < len(publish.topic.encode()) <= 65535


@parser("dialect requests")
def _dialects(_: Path) -> Prepared:
    """What comes on the topics that the dialects listen to."""
    listening = [dialects.opened(kind) for kind in ("homeassistant", "sparkplug")]

    def take(data: bytes) -> None:
        for dialect in listening:
            for topic in dialect.subscriptions:
                dialect.received(topic, data)

    rebirth = b"\x08\x01\x12\x1f\x0a\x17Node Control/Rebirth\x20\x0b\x70\x01\x18\x00"
    return Prepared([b"online", b"offline", rebirth], take)


_CONNACK_5 = b"\x20\x0c\x00\x00\x09\x21\x00\x14\x27\x00\x01\x00\x00\x22\x00"
_CONNACK_3 = b"\x20\x02\x00\x00"
_SUBACK_5 = b"\x90\x04\x00\x01\x00\x01"
_PUBLISH_5 = b"\x32\x24\x00\x09limpet/x\x00\x00\x07\x12\x08\x00\x06answer\x09\x00\x01c{}padding."


class _Broker(threading.Thread):
    """Says to each that connects what it was told to say, and hangs up."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.says = b""

    def run(self) -> None:
        while True:
            connection, _ = self._server.accept()
            with connection:
                try:
                    connection.recv(4096)
                    connection.sendall(self.says)
                    connection.shutdown(socket.SHUT_WR)
                    connection.settimeout(1)
                    while connection.recv(4096):
                        pass
                except OSError:
                    pass


@parser("mqtt packets")
def _packets(_: Path) -> Prepared:
    """The first byte chooses the version, the rest is what the broker says."""
    state: dict[str, Any] = {}

    def take(data: bytes) -> None:
        if not state:
            state["broker"], state["stop"] = _Broker(), threading.Event()
            state["broker"].start()
        state["broker"].says = data[1:]
        broker = BrokerSettings(url=f"mqtt://127.0.0.1:{state['broker'].port}")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            link = Connection(broker, "fuzz", "5" if data[:1] < b"\x80" else "3.1.1", None, ours)
            try:
                link.connect(60, state["stop"])
                while True:
                    link.poll(1.0)
            finally:
                link.drop()

    whole = _CONNACK_5 + _SUBACK_5 + _PUBLISH_5
    return Prepared([b"\x00" + whole, b"\xff" + _CONNACK_3 + b"\x30\x04\x00\x01x1", b"\x00" + _CONNACK_5], take)
