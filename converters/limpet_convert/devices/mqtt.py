"""A device by its broker: windows go to the command ``infer`` of a pipeline that runs there."""

from __future__ import annotations

import hashlib
import socket
import threading
import uuid
from contextlib import contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from limpet.bucket import Bucket
from limpet.contracts.commands import (
    BUSY,
    LARGEST_OUTPUTS,
    LARGEST_WINDOWS,
    MOST_WINDOWS,
    PATIENCE,
    TOO_MANY,
    Infer,
)
from limpet.contracts.dialect import Publish
from limpet.contracts.messages import Inferred, StatusMessage
from limpet.delivery.mqtt.broker_settings import BrokerSettings
from limpet.delivery.mqtt.connection import Connection
from limpet.errors import TransportError, UnreadableError
from limpet.inference import infer_request
from limpet.supervision.commands import AT_ONCE, PER_SECOND
from limpet.untrusted import reading
from limpet_convert.devices import DeviceError, Ran, gather, printable, read_model, refuse_times, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.contracts.data import FloatArray
    from limpet_convert.devices import Login

R = TypeVar("R")

KEEPALIVE = 30
NO_SUBSCRIBER = 0x10
"""The broker's reason code for a message that no subscription matches."""
LATE = 10.0
"""Seconds for the transport of an answer, beyond ``PATIENCE``."""
PRESENCE = 3.0
"""Seconds for the device's retained status, which the broker sends at once."""
_LARGEST = 2 * LARGEST_OUTPUTS
"""Bytes of an answer: its outputs are in base64."""
AT_WORK = 2.0
"""Seconds of work in one command: it must end in ``PATIENCE`` where a busy pipeline gives it a tenth."""


class Answer(msgspec.Struct):
    """A ``limpet.contracts.messages.Reply`` to ``infer``."""

    ok: bool
    error: str = ""
    result: Inferred | None = None


class Pipeline:
    """``mqtt[s]://[user@]broker[:port]/[PREFIX/]DEVICE/PIPELINE``. Default of ``PREFIX``: ``limpet``.

    It runs the model that it has: only that one can be verified.
    """

    any_model = False

    def __init__(self, url: str, login: Login) -> None:
        parts = urlsplit(url)
        names = [name for name in unquote(parts.path).split("/") if name]
        if len(names) < 2 or not parts.hostname or set("+#\0") & set(parts.path) or parts.query:
            raise DeviceError(f"{url}: it must name a pipeline, as mqtt://broker.example/press-07/motion does")
        if parts.password:
            raise DeviceError(f"{url}: put the password in a file and use --password-file FILE")
        *prefix, device, self._pipeline = names
        self.name = f"{device}/{self._pipeline}"
        self._root = "/".join([*(prefix or ["limpet"]), device])
        if login.delegate:
            raise DeviceError("--delegate: a pipeline that runs has its delegate already; leave it out")
        place = parts.netloc.rpartition("@")[2]
        try:
            self._broker = BrokerSettings(
                url=f"{parts.scheme}://{place}",
                username=unquote(parts.username or ""),
                password_file=login.password_file,
                ca_file=login.ca_file,
                cert_file=login.cert_file,
                key_file=login.key_file,
                session_expiry=0,
            )
        except ValueError as error:
            raise DeviceError(f"{url}: {error}") from error

    def run(self, model: Path, windows: FloatArray) -> Ran:
        """See ``Device``. ``DeviceError`` where the pipeline runs another model."""
        if windows[0].nbytes > LARGEST_WINDOWS:
            size = windows[0].nbytes
            raise DeviceError(f"a window has {size} bytes; a pipeline takes {LARGEST_WINDOWS}. Use ssh://")
        try:
            with _connected(self._broker, self._root) as caller:
                return gather(list(self._answers(caller, model, windows)))
        except TransportError as error:
            raise DeviceError(f"{self._broker.url}: {error}") from error

    def _answers(self, caller: _Caller, model: Path, windows: FloatArray) -> Iterator[Inferred]:
        digest = hashlib.sha256(read_model(model)).hexdigest()
        answer = printable(caller.call(self._request(windows[:1])))
        if answer.sha256 != digest:
            raise DeviceError(
                f"{self.name} runs {answer.model} {answer.version} (SHA-256 {answer.sha256[:12]}...), not "
                f"{model} ({digest[:12]}...): deploy what is verified first, or verify what runs there"
            )
        try:
            refuse_times(answer, 1)
        except UnreadableError as error:
            raise DeviceError(f"{self.name}: {error}") from error
        yield answer
        size = sum(len(output.data) for output in answer.outputs)
        for some in batches(windows[1:], answer.run_us[0] / 1e6, size):
            answer = caller.call(self._request(some))
            if answer.sha256 != digest:
                raise DeviceError(f"{self.name} runs another model now; verify it again")
            yield answer

    def _request(self, windows: FloatArray) -> bytes:
        return msgspec.json.encode(Infer(pipeline=self._pipeline, windows=infer_request.tensor(windows)))


def batches(windows: FloatArray, run_s: float, output: int) -> Iterator[FloatArray]:
    """Yield as many windows at a time as a command may have, in number, bytes, bytes of ``output`` and time."""
    if not len(windows):
        return
    sizes = LARGEST_WINDOWS // windows[0].nbytes, LARGEST_OUTPUTS // max(output, 1)
    most = min(MOST_WINDOWS, *sizes, int(AT_WORK / max(run_s, 1e-6)))
    for start in range(0, len(windows), max(1, most)):
        yield windows[start : start + max(1, most)]


@contextmanager
def _connected(broker: BrokerSettings, root: str) -> Iterator[_Caller]:
    """Connect to a broker, to talk to one device. ``TransportError``."""
    wake, other = socket.socketpair()  # a link needs a socket that wakes it; it is not used here
    with wake, other:
        link = Connection(broker, f"limpet-convert-{uuid.uuid4().hex[:12]}", "5", None, wake)
        link.connect(KEEPALIVE, threading.Event())
        caller = _Caller(link, root)
        try:
            if refused := link.subscribe(caller.topics):
                raise TransportError("; ".join(refused))
            yield caller
        finally:
            link.disconnect()


class _Caller:
    """Sends ``infer`` to a device. ``TransportError``, ``DeviceError``."""

    def __init__(self, link: Connection, root: str) -> None:
        self._link = link
        self._root = root
        self._replies = f"{root}/reply/infer-{uuid.uuid4().hex[:12]}"
        self._status = f"{root}/status"
        self.topics = (self._replies, self._status)
        self._bucket = Bucket(PER_SECOND, AT_ONCE / 2)
        self._number = 0
        self._presence = ""
        self._no_subscriber = False

    def call(self, payload: bytes) -> Inferred:
        """Send a command and return its answer. Where too many are sent, by others too, it waits its turn."""
        until = monotonic() + PATIENCE
        while True:
            answer = self._ask(payload)
            if not answer.error.startswith((TOO_MANY, BUSY)) or monotonic() > until:
                break
            sleep(1 / PER_SECOND)
        if answer.result is None:
            hint = '; add "infer" to commands in [device] there' if "not allowed here" in answer.error else ""
            raise DeviceError(f"{self._root}: {shown(answer.error)}{hint}")
        return answer.result

    def _ask(self, payload: bytes) -> Answer:
        self._bucket.level(monotonic())
        sleep(max(0.0, self._bucket.full_at(1.0) - monotonic()))
        self._bucket.spend(1)
        if len(payload) + len(self._root) + 200 > self._link.limit:
            raise DeviceError(
                f"the broker takes no messages of {len(payload)} bytes; raise its limit, or use ssh://"
            )
        self._number += 1
        correlation = b"%d" % self._number
        question = Publish(
            f"{self._root}/command/infer", payload, content_type="application/json", response_topic=self._replies
        )
        sent = self._link.publish(question, correlation=correlation)
        return self._wait(sent, correlation)

    def _wait(self, sent: int, correlation: bytes) -> Answer:
        begun = monotonic()
        while monotonic() < begun + PATIENCE + LATE:
            try:
                self._link.poll(0.25)
            finally:  # a broker may hang up on who is refused
                self._look_at_acks(sent)
            incoming = self._link.incoming[:]
            self._link.incoming.clear()
            for message in incoming:
                if message.topic == self._replies and message.correlation == correlation:
                    return _decode(message.payload, Answer)
                if message.topic == self._status and message.payload:
                    self._presence = _decode(message.payload, StatusMessage).status
            if self._presence == "offline":
                raise DeviceError(f"{self._root}: the device is offline")
            if not self._presence and (self._no_subscriber or monotonic() > begun + PRESENCE):
                raise DeviceError(f"{self._root}: no device says that it is there; are prefix and device right?")
        raise DeviceError(f"{self._root}: no answer within {PATIENCE + LATE:.0f} s")

    def _look_at_acks(self, sent: int) -> None:
        codes = [code for number, code in self._link.acks if number == sent]
        self._link.acks.clear()
        self._no_subscriber = self._no_subscriber or NO_SUBSCRIBER in codes
        if any(code >= 0x80 for code in codes):
            raise DeviceError(f"{self._root}: this user may not write to command/infer; see its access list")


def _decode(payload: bytes, kind: type[R]) -> R:
    if len(payload) > _LARGEST:
        raise DeviceError(f"the device's answer has {len(payload)} bytes; the limit is {_LARGEST}")
    try:
        with reading("the device's answer"):
            return msgspec.json.decode(payload, type=kind)
    except UnreadableError as error:
        raise DeviceError(f"{shown(str(error))}; does the device run another version of Limpet?") from error
