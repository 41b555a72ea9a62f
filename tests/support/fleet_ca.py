"""A fleet with certificates: an authority, a real mosquitto with the access list, and clients that log in."""

from __future__ import annotations

import contextlib
import ssl
import threading
from typing import TYPE_CHECKING

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from limpet.enrolment import access
from limpet.enrolment.folder import AuthorityFolder, Issued
from support.broker import Mosquitto, free_port, mosquitto, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.enrolment.names import Role

BUNDLE = "c" * 64


class FleetCa:
    """A certificate authority, its devices and people, and the URL of the broker that trusts it."""

    def __init__(self, folder: Path) -> None:
        self.authority = AuthorityFolder(folder / "ca")
        self.authority.create("Test CA", 30)
        self.folder = folder
        self.port = 0
        self.issued: dict[str, Issued] = {}

    def device(self, name: str) -> None:
        self.issued[name] = self.authority.device(name, 30, renew=False)

    def person(self, role: Role, name: str) -> None:
        self.issued[f"{role}:{name}"] = self.authority.person(role, name, 30, renew=False)

    @property
    def url(self) -> str:
        return f"mqtts://localhost:{self.port}"

    @contextlib.contextmanager
    def broker(self, root: str = "limpet", head: str = "") -> Iterator[Mosquitto]:
        """Run the broker. On its plain listener no one may do anything. ``head`` begins the access list."""
        server = self.authority.broker(["localhost", "127.0.0.1"], 30, renew=False)
        self.port = free_port()
        acl = self.folder / "limpet.acl"
        acl.write_text(head + access.text(root, self.authority.people()))
        options = (
            f"listener {self.port} 127.0.0.1\ncafile {self.authority.certificate}\n"
            f"certfile {server.certificate}\nkeyfile {server.key}\n"
            "require_certificate true\nuse_identity_as_username true\n"
        )
        settings = f"allow_anonymous true\nacl_file {acl}\nlog_type all"
        with mosquitto(self.folder / "broker", options, settings, 10_000) as running:
            yield running

    @contextlib.contextmanager
    def client(self, name: str) -> Iterator[Party]:
        """Log a device or person in."""
        issued = self.issued[name]
        assert issued.key
        party = Party(self.port, self.authority.certificate, issued.certificate, issued.key)
        try:
            yield party
        finally:
            party.close()


class Party:
    """An MQTT 5 client with a certificate. ``received``: topics that came."""

    def __init__(self, port: int, ca: Path, certificate: Path, key: Path) -> None:
        self.received: list[str] = []
        self._codes: dict[int, int] = {}
        self._ready = threading.Event()
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(certificate, key)
        client.tls_set_context(context)
        client.on_connect = lambda *_: self._ready.set()
        client.on_message = lambda _client, _data, message: self.received.append(message.topic)
        client.on_publish = lambda _client, _data, mid, reason, _props: self._codes.update({mid: reason.value})
        client.on_subscribe = lambda _client, _data, mid, _codes, _props: self._codes.update({mid: 0})
        self._client = client
        client.connect("localhost", port)
        client.loop_start()
        assert self._ready.wait(10)

    def publish(self, *topics: str) -> list[int]:
        """Publish to topics; return the broker's reason codes. 0x87 is a refusal."""
        mids = [self._client.publish(topic, b"x", 1).mid for topic in topics]
        wait_until(lambda: all(mid in self._codes for mid in mids))
        return [self._codes[mid] for mid in mids]

    def subscribe(self, *topics: str) -> None:
        for topic in topics:
            _, mid = self._client.subscribe(topic, 1)
            assert mid is not None
            wait_until(lambda mid=mid: mid in self._codes)  # type: ignore[misc]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
