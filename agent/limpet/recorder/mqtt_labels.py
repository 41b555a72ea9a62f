"""Labels by command over MQTT: ``limpet/<device>/command/label`` with ``{"label": "walk"}``.

The recorder is a separate client beside the daemon: it has its own client id and subscribes to this one command.
The broker's access list says who may send it.
"""

from __future__ import annotations

import socket
import threading
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING

import msgspec

from limpet.backoff import Backoff
from limpet.bucket import Bucket
from limpet.contracts.commands import LABEL
from limpet.contracts.messages import Reply
from limpet.delivery.mqtt.connection import Connection, RefusedError, UnpublishableError
from limpet.delivery.mqtt.incoming_commands import IncomingCommands
from limpet.delivery.mqtt.negotiation import Negotiation
from limpet.delivery.mqtt.settings import client_id
from limpet.errors import LimpetError, TransportError, UnreadableError
from limpet.problems.form import of_json
from limpet.recordings.label_command import SetLabel
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from limpet.contracts.dialect import Publish
    from limpet.delivery.mqtt.settings import Config

PATIENCE = 10.0
"""Seconds until the first attempt to connect must have ended."""
LARGEST = 1024
"""Bytes of a command."""
_PER_SECOND, _AT_ONCE = 5.0, 20.0
_PAUSES = Backoff(first=0.5, longest=10.0)


class MqttLabels:
    """Listens in its own thread while its ``with`` block lasts. ``trouble``: why there is no connection.

    ``allowed``: the labels that may be sent; empty for any.
    """

    def __init__(self, settings: Config, device: str, allowed: Sequence[str]) -> None:
        self.trouble = ""
        self._settings = msgspec.structs.replace(settings, session_expiry=0)
        self._device = device
        self._root = f"{settings.topic}/{device}"
        self._allowed = tuple(allowed)
        self._bucket = Bucket(_PER_SECOND, _AT_ONCE)
        self._changes: list[tuple[str, int]] = []
        self._lock = threading.Lock()
        self._replies: list[tuple[Publish, bytes]] = []
        self._stop = threading.Event()
        self._tried = threading.Event()
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._listen, name="labels", daemon=True)

    def __enter__(self) -> Self:
        """Connect. ``TransportError`` if the first attempt fails; later ones are repeated."""
        self._thread.start()
        if not self._tried.wait(PATIENCE) or self.trouble:
            trouble = self.trouble or "the broker does not answer"
            self.__exit__()
            raise TransportError(f"no labels over MQTT: {self._settings.url}: {trouble}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._waker.send(b"x")
        self._thread.join(PATIENCE)

    def take(self) -> list[tuple[str, int]]:
        """Return the labels that came, empty for none, each with its time (monotonic, ns)."""
        with self._lock:
            changes, self._changes = self._changes, []
        return changes

    def _listen(self) -> None:
        negotiation = Negotiation(self._settings.protocol)
        failures = 0
        while not self._stop.is_set():
            negotiation.start()
            try:
                self._serve(negotiation)
                failures = 0
            except RefusedError as error:
                self.trouble = str(error)
                if negotiation.refused(error.code):
                    continue
            except LimpetError as error:
                self.trouble = str(error)
            failures += 1
            self._tried.set()
            self._stop.wait(_PAUSES.pause(failures))

    def _serve(self, negotiation: Negotiation) -> None:
        """Connect, and answer commands until the connection ends. ``LimpetError``."""
        name = f"{client_id(self._settings, self._device, 'mqtt')}:record"
        connection = Connection(self._settings, name, negotiation.version, None, self._wake, clean=True)
        try:
            connection.connect(self._settings.keepalive, self._stop)
            negotiation.accepted()
            if refused := connection.subscribe([f"{self._root}/command/{LABEL}"]):
                raise TransportError(refused[0])
            commands = IncomingCommands(self._device, self._root, (), lambda *reply: self._replies.append(reply))
            self.trouble = ""
            self._tried.set()
            while not self._stop.is_set():
                self._answer(connection, commands)
                connection.poll(1.0)
            self._answer(connection, commands)
            connection.disconnect()
        finally:
            connection.drop()

    def _answer(self, connection: Connection, commands: IncomingCommands) -> None:
        incoming, connection.incoming[:] = list(connection.incoming), []
        for one in incoming:
            if command := commands.take(one):
                command.reply(self._obeyed(command.payload))
        replies, self._replies = self._replies, []
        for reply, correlation in replies:
            try:
                connection.publish(reply, correlation=correlation)
            except UnpublishableError as error:
                self.trouble = f"a reply could not be sent: {error}"
        connection.acks.clear()

    def _obeyed(self, payload: bytes) -> Reply:
        """Set the label that a command asks for, and return the answer."""
        try:
            label = self._label(payload)
        except UnreadableError as error:
            return Reply(device=self._device, command=LABEL, ok=False, error=str(error))
        with self._lock:
            self._changes.append((label, monotonic_ns()))
        return Reply(device=self._device, command=LABEL, ok=True, result={"label": label or None})

    def _label(self, payload: bytes) -> str:
        """Return the label that a command names, empty for none. ``UnreadableError``."""
        if self._bucket.level(monotonic()) < 1:
            raise UnreadableError(f"too many commands: {_PER_SECOND:g} a second are obeyed")
        self._bucket.spend(1)
        if len(payload) > LARGEST:
            raise UnreadableError(f"the payload has {len(payload)} bytes; {LARGEST} is the limit")
        with reading("the payload"):
            try:
                label = msgspec.json.decode(payload, type=SetLabel).label or ""
            except msgspec.ValidationError:
                raise UnreadableError(of_json(payload, SetLabel, LABEL)) from None
        if label and self._allowed and label not in self._allowed:
            raise UnreadableError(f"the label {label!r} is not one of {', '.join(self._allowed)}")
        return label
