"""Sends a file in chunks to the devices that request them, through one broker, until none does any more."""

from __future__ import annotations

import secrets
from contextlib import suppress
from itertools import filterfalse
from math import inf
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

from paho.mqtt.enums import MQTTErrorCode

from limpet.bucket import Bucket
from limpet.contracts.chunks import bundles_root
from limpet.delivery.mqtt import reasons
from limpet.delivery.mqtt.broker_settings import endpoint
from limpet.delivery.mqtt.plain_client import log_in
from limpet.distribution.fleet import Fleet
from limpet.distribution.rounds import Rounds
from limpet.errors import LimpetError, TransportError, UnreadableError
from limpet.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from limpet.delivery.mqtt.broker_settings import BrokerSettings
    from limpet.delivery.mqtt.guarded_client import GuardedClient
    from limpet.distribution.chunked_file import ChunkedFile

RETRY = 1.0
"""Seconds between two attempts to connect."""
PATIENCE = 10.0
"""Seconds in which the broker must answer a message or a subscription."""
LOOK = 0.1
"""Seconds that one wait for the broker lasts at most."""
LIST_EVERY = 5.0
"""Seconds between two times that the list is published as a device lacks it. The broker has it already, mostly."""
MOST_RECEIVED = 1000
"""Messages that may wait while the broker answers."""
PROGRESS = 5.0
"""Seconds between two lines about the progress."""
SILENCE = 10.0
"""Seconds after which devices that have not reported are named, once."""


class Request(NamedTuple):
    """A desired state to publish, as it is in its file, for a pipeline of each device."""

    payload: bytes
    pipeline: str
    devices: Sequence[str]


class Plan(NamedTuple):
    """What to do. ``root``: the root of all topics. ``request``: published first, if there is one.

    ``wait``: until all devices are good or failed. Otherwise, until none has requested anything for ``idle``
    seconds. ``keep``: the list of chunks stays at the broker.
    """

    root: str
    bytes_per_second: float
    idle: float
    request: Request | None
    wait: bool
    keep: bool


class Sending:
    """``run`` sends until the end. ``say`` prints a line."""

    def __init__(self, broker: BrokerSettings, file: ChunkedFile, plan: Plan, say: Callable[[str], None]) -> None:
        self._broker = broker
        self._file = file
        self._plan = plan
        self._say = say
        devices = plan.request.devices if plan.request else ()
        self.fleet = Fleet(file.sha256, devices if plan.wait else (), monotonic())
        self.rounds = Rounds(file.count)
        self._bucket = Bucket(plan.bytes_per_second, max(plan.bytes_per_second / 4, file.chunk))
        self._bundle = f"{bundles_root(plan.root)}/{file.sha256}"
        self._client: GuardedClient | None = None
        self._answers: dict[int, list[ReasonCode]] = {}
        self._awaited: int | None = None
        self._listed_at = 0.0
        self._active_at = monotonic()
        self._received: list[tuple[str, bytes]] = []
        self._report_at = 0.0
        self._silence_at = monotonic() + SILENCE

    def run(self) -> None:
        """Send. ``TransportError`` if the broker refuses what must be done; a lost connection is made again."""
        try:
            self._connect()
            while not self._is_over():
                try:
                    self._turn()
                except TransportError as error:
                    self._reconnect(str(error))
        finally:
            self._leave()

    def _is_over(self) -> bool:
        if self._plan.wait:
            return self.fleet.is_over()
        return (
            not self.rounds.waiting and monotonic() - max(self._active_at, self.fleet.asked_at) >= self._plan.idle
        )

    def _turn(self) -> None:
        now = monotonic()
        index = self.rounds.next()
        if index is None or self._open.want_write():
            self._loop(LOOK)
        elif self._bucket.level(now) < min(self._file.chunk, self._file.length):
            self._loop(min(LOOK, max(self._bucket.full_at(self._file.chunk) - now, 0.001)))
        else:
            data = self._file.read(index)
            self._open.publish(f"{self._bundle}/{index}", data, 0)
            self._bucket.spend(len(data))
            self.rounds.note_sent(now)
            self._active_at = now
            self._loop(0.0)
        self._take()
        self._report(now)

    def _report(self, now: float) -> None:
        if now >= self._silence_at:
            self._silence_at = inf
            if silent := self.fleet.silent():
                self._say(f"nothing yet from {listed(silent)}: off, or without [updates]. Waiting")
        if self.rounds.waiting and now >= self._report_at:
            self._report_at = now + PROGRESS
            devices = counted(len(self.fleet.asked), "device")
            self._say(f"{devices}; {self.rounds.sent} chunks sent, {self.rounds.waiting} waiting")

    def _take(self) -> None:
        """Take what devices said."""
        received, self._received = self._received, []
        for topic, payload in received:
            device, _, rest = topic.removeprefix(f"{self._plan.root}/").partition("/")
            with suppress(UnreadableError):  # anyone may write there: it is of no device that works
                if rest.startswith("bundle/"):
                    missing = self.fleet.take_missing(device, payload, monotonic())
                    self.rounds.request(missing.ranges, monotonic())
                    if missing.needs_list and monotonic() - self._listed_at >= LIST_EVERY:
                        self._publish_list()
                elif news := self.fleet.take_reported(device, payload):
                    self._say(news)

    # --- the connection

    @property
    def _open(self) -> GuardedClient:
        if self._client is None:
            raise TransportError("the connection is closed")
        return self._client

    def _connect(self) -> None:
        """Log in, subscribe, and publish what is retained. ``TransportError``."""
        client, _ = log_in(self._broker, f"limpet-send-{secrets.token_hex(4)}")
        self._client = client
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        root = self._plan.root
        topics = [f"{root}/+/bundle/{self._file.sha256}/missing", f"{root}/+/model/+/reported"]
        _, mid = client.subscribe([(topic, 1) for topic in topics])
        self._expect(mid, "send this user what devices publish")
        self._publish_list()
        request = self._plan.request
        if request:
            # On a new connection again: a broker that was killed may have lost them.
            for device in filterfalse(self.fleet.has_reported, request.devices):
                self._publish(f"{root}/{device}/model/{request.pipeline}/desired", request.payload)

    def _reconnect(self, why: str) -> None:
        self._say(f"{why}; connecting again")
        while True:
            self._client = None
            sleep(RETRY)
            try:
                self._connect()
            except RefusedByBrokerError:
                raise
            except TransportError:
                continue
            self._active_at = monotonic()
            self._say("connected again")
            return

    def _publish_list(self) -> None:
        self._publish(f"{self._bundle}/list", self._file.list)
        self._listed_at = monotonic()

    def _publish(self, topic: str, payload: bytes) -> None:
        """Publish a retained message, and wait for the broker's answer. ``TransportError``."""
        info = self._open.publish(topic, payload, 1, retain=True)
        self._expect(info.mid, f"take messages on {topic} from this user")

    def _expect(self, mid: int | None, what: str) -> None:
        """Wait for an answer. ``RefusedByBrokerError`` if it is a refusal."""
        until = monotonic() + PATIENCE
        self._awaited = mid
        self._answers.clear()
        while mid not in self._answers:
            if monotonic() > until:
                raise TransportError("the broker does not answer")
            self._loop(LOOK)
        codes = self._answers.pop(mid)
        if refused := [code for code in codes if code.is_failure]:
            raise RefusedByBrokerError(
                f"the broker refuses to {what} ({refused[0].getName()}); check its access list"
            )

    def _loop(self, timeout: float) -> None:
        client = self._open
        try:
            status = client.loop(timeout)
        except Exception as error:  # what paho raises on bytes that are not MQTT
            raise TransportError(reasons.failure(error, endpoint(self._broker.url))) from error
        if status != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise TransportError(client.complaint or f"the connection is lost ({status.name})")

    def _leave(self) -> None:
        """Clear the list of chunks unless it is to stay, and disconnect."""
        with suppress(LimpetError):
            if not self._plan.keep:
                self._publish(f"{self._bundle}/list", b"")
        if self._client is not None:
            self._client.disconnect()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        with suppress(UnicodeDecodeError):
            if len(self._received) >= MOST_RECEIVED:
                return  # devices say again what they lack
            self._received.append((message.topic, bytes(message.payload)))

    def _on_publish(
        self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if mid == self._awaited:
            self._answers[mid] = [reason]

    def _on_subscribe(
        self, _client: Client, _data: Any, mid: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        if mid == self._awaited:
            self._answers[mid] = codes


class RefusedByBrokerError(LimpetError):
    """The broker does not allow this user what must be done. Another attempt would end in the same way."""
