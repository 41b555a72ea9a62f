"""What comes over MQTT about models: to a device, to a sender, and to a certificate authority."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fuzz.registry import Prepared, parser
from limpet.contracts.chunks import MOST_CHUNKS
from limpet.delivery.deliveries import DeliveryInbox
from limpet.delivery.mqtt.connection import Incoming
from limpet.delivery.mqtt.incoming_models import IncomingModels
from limpet.distribution.fleet import Fleet
from limpet.distribution.rounds import Rounds
from limpet.enrolment import certificates
from limpet.enrolment import folder as enrolment
from limpet.errors import UnreadableError
from support import reports

if TYPE_CHECKING:
    from pathlib import Path

ROOT = f"limpet/{reports.ORIGIN.device}"
FILE = "a" * 64


@parser("requests and chunks over mqtt")
def _models(_: Path) -> Prepared:
    """Topic and payload, one behind the other."""
    sound = (f"{ROOT}/model/motion/desired", f"{ROOT}/trust/desired", f"limpet-bundles/{FILE}/7")

    def take(data: bytes) -> None:
        topic, payload = [*data.split(b"\x1e"), b""][:2]
        inbox = DeliveryInbox(lambda: None)
        inbox.expect(["motion"], trust=True)
        inbox.want_chunks([FILE])
        models = IncomingModels(ROOT, "mqtt", inbox, lambda _cause, text: text.encode())
        models.take(Incoming(topic.decode("utf-8", "replace"), payload, False, "", b""), 0.0)
        models.deliver_due(0.0)
        assert {one.name for one in inbox.take_states()} <= {"", "motion"}
        while chunk := inbox.take_chunk():
            assert chunk.name == FILE
            assert -1 <= chunk.index < MOST_CHUNKS

    return Prepared([f"{topic}\x1e{{}}".encode() for topic in sound], take)


@parser("what devices say to a sender")
def _devices(_: Path) -> Prepared:
    lacks = b'{"device":"a","sha256":"' + FILE.encode() + b'","ranges":[[0,5],[9,9]],"needs_list":true}'

    def take(data: bytes) -> None:
        fleet, rounds = Fleet(FILE, [], 0.0), Rounds(100)
        with contextlib.suppress(UnreadableError):
            rounds.request(fleet.take_missing("a", data, 0.0).ranges, 0.0)
        with contextlib.suppress(UnreadableError):
            fleet.take_reported("a", data)
        assert rounds.waiting <= 100

    return Prepared([lacks], take)


@parser("signing requests")
def _signing_requests(folder: Path) -> Prepared:
    _, sound, _ = enrolment.request(folder, "press-07")
    return Prepared([sound.read_bytes()], certificates.read_request)
