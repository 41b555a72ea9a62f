"""The access list in a real mosquitto with client certificates: who can read and write which topics."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import access_list
from limpet.delivery.deliveries import DeliveryInbox
from limpet.delivery.mqtt.broker_settings import BrokerSettings
from limpet.delivery.mqtt.plain_client import log_in
from limpet.enrolment import access, names
from limpet.enrolment.folder import AuthorityFolder, Issued
from limpet.errors import TransportError
from limpet.reporters import mqtt
from support import reports
from support.broker import wait_until
from support.fleet_ca import BUNDLE, FleetCa

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
REFUSED = 0x87
DEVICES = ("press-07", "press-08", "p")
PEOPLE = tuple(f"{role}:x" for role in names.ROLES)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetCa]:
    made = FleetCa(tmp_path_factory.mktemp("fleet"))
    for name in DEVICES:
        made.device(name)
    for role in names.ROLES:
        made.person(role, "x")
    with made.broker():
        yield made


def written(device: str) -> list[str]:
    """Return topics that a device writes."""
    root = f"limpet/{device}"
    return [
        f"{root}/status", f"{root}/health", f"{root}/health/motion", f"{root}/model/motion/reported",
        f"{root}/result/motion", f"{root}/event", f"{root}/event/motion", f"{root}/snapshot/motion",
        f"{root}/reply/ping", f"{root}/bundle/{BUNDLE}/missing", f"{root}/msgpack/result/motion",
        f"{root}/cloudevents/health", f"{root}/homeassistant/update/motion",
        f"homeassistant/device/{device}/config",
        f"homeassistant/sensor/{device}/motion__score/config", f"spBv1.0/limpet/NBIRTH/{device}",
        f"spBv1.0/limpet/NDATA/{device}", f"spBv1.0/limpet/NDEATH/{device}",
    ]  # fmt: skip


def read(device: str) -> list[str]:
    """Return topics that a device reads."""
    root = f"limpet/{device}"
    return [
        f"{root}/command/ping", f"{root}/command/install", f"{root}/model/motion/desired", f"{root}/trust/desired",
        f"spBv1.0/limpet/NCMD/{device}",
    ]  # fmt: skip


SHARED = [f"limpet-bundles/{BUNDLE}/list", f"limpet-bundles/{BUNDLE}/0"]


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(DEVICES, 2)))
def test_no_device_writes_or_reads_topics_of_another(fleet: FleetCa, one: str, other: str) -> None:
    with fleet.client(one) as thief, fleet.client(other) as victim, fleet.client("operator:x") as operator:
        assert set(thief.publish(*written(other), *read(other))) == {REFUSED}
        thief.subscribe("#", *written(other), *read(other))
        victim.subscribe(*read(other))
        assert REFUSED not in victim.publish(*written(other))
        sent = [topic for topic in read(other) if topic.startswith("limpet/")]
        assert REFUSED not in operator.publish(*sent)
        wait_until(lambda: set(victim.received) == set(sent))
        operator.publish(f"limpet/{one}/command/ping")  # comes after all others
        wait_until(lambda: thief.received)
        assert set(thief.received) == {f"limpet/{one}/command/ping"}


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_writes_no_command_request_root_or_chunk_of_itself(fleet: FleetCa, device: str) -> None:
    with fleet.client(device) as party:
        assert REFUSED not in party.publish(*written(device))
        assert set(party.publish(*read(device), *SHARED, "homeassistant/status", "anything", "limpet/x")) == {
            REFUSED
        }


def test_a_device_reads_bundles_and_nothing_of_people(fleet: FleetCa) -> None:
    with fleet.client("p") as party, fleet.client("sender:x") as sender:
        party.subscribe("#", "$SYS/#", "limpet-bundles/#")
        assert REFUSED not in sender.publish(*SHARED)
        wait_until(lambda: len(party.received) >= 2)
        assert {topic for topic in party.received if not topic.startswith("$SYS")} == set(SHARED)


def test_each_role_writes_what_it_must_and_nothing_else(fleet: FleetCa) -> None:
    root = "limpet/press-07"
    desired = [f"{root}/model/motion/desired"]
    may = {
        "operator:x": [f"{root}/command/ping", f"{root}/command/install", f"{root}/trust/desired", *desired],
        "sender:x": [*desired, *SHARED],
        "home-assistant:x": [f"{root}/command/install", "homeassistant/status"],
        "watcher:x": [],
        "scada:x": ["spBv1.0/limpet/NCMD/press-07", "spBv1.0/STATE/host"],
    }
    everything = {*written("press-07"), *read("press-07"), *SHARED, *itertools.chain(*may.values())}
    for name, allowed in may.items():
        with fleet.client(name) as party:
            assert REFUSED not in party.publish(*allowed), name
            assert {REFUSED} == set(party.publish(*sorted(everything - set(allowed)))), name


def test_each_role_reads_what_it_must_and_nothing_else(fleet: FleetCa) -> None:
    device = "press-08"
    topics = written(device)
    limpet = {topic for topic in topics if topic.startswith("limpet/")}
    discovery = {topic for topic in topics if topic.startswith("homeassistant/")}
    root = f"limpet/{device}"
    reads = {
        "operator:x": limpet,
        "sender:x": {f"{root}/bundle/{BUNDLE}/missing", f"{root}/model/motion/reported"},
        "home-assistant:x": limpet | discovery,
        "watcher:x": {
            f"{root}/{level}"
            for level in ("status", "health", "health/motion", "result/motion", "event", "event/motion")
        }
        | {f"{root}/model/motion/reported"},
        "scada:x": {topic for topic in topics if topic.startswith("spBv1.0/")},
    }
    with fleet.client(device) as party:
        for name, expected in reads.items():
            with fleet.client(name) as reader:
                reader.subscribe("#", *topics)
                assert REFUSED not in party.publish(*topics)
                wait_until(lambda reader=reader, expected=expected: expected <= set(reader.received))  # type: ignore[misc]
                assert set(reader.received) == expected, name


def test_every_topic_of_the_reference_is_in_the_access_list() -> None:
    page = (ROOT / "docs" / "reference" / "mqtt.md").read_text(encoding="utf-8")
    table = page.partition("| topic | retained | schema | what |")[2].partition("\n\n")[0]
    topics = [
        topic
        for line in table.splitlines()
        for topic in re.findall(r"`([^`]+)`", line.split("|")[1] if "|" in line else "")
    ]
    assert len(topics) > 10
    allowed = {*access.DEVICE_WRITES, *access.DEVICE_READS}
    assert {re.sub(r"PIPELINE|NAME|SHA256", "+", topic) for topic in topics} <= allowed


def test_the_packaged_access_list_is_current() -> None:
    assert access_list.FILE.read_text(encoding="utf-8") == access_list.text(), "run: python tools/access_list.py"


# --- certificates that the broker refuses


def test_certificates_of_another_authority_expired_ones_and_a_brokers_are_refused(fleet: FleetCa) -> None:
    foreign = AuthorityFolder(fleet.folder / "foreign")
    foreign.create("Test CA", 30)
    expired = fleet.authority.device("late", 0, renew=False)
    server = fleet.authority.broker(["other"], 30, renew=False)
    good = fleet.issued["press-07"]
    client, _ = log_in(settings(fleet, good), "good")
    client.disconnect()
    for issued in (foreign.device("press-07", 30, renew=False), expired, server):
        with pytest.raises(TransportError, match=r"TLS|without an answer|SSL|ConnectionResetError"):
            log_in(settings(fleet, issued), "bad")
    with pytest.raises(TransportError, match=r"TLS|without an answer|SSL|ConnectionResetError"):
        log_in(BrokerSettings(url=fleet.url, ca_file=fleet.authority.certificate), "none")


def settings(fleet: FleetCa, issued: Issued) -> BrokerSettings:
    return BrokerSettings(
        url=fleet.url, ca_file=fleet.authority.certificate, cert_file=issued.certificate, key_file=issued.key
    )


def test_a_device_that_is_locked_out_writes_and_reads_nothing(tmp_path: Path) -> None:
    fleet = FleetCa(tmp_path)
    fleet.device("stolen")
    fleet.device("good")
    fleet.person("operator", "x")
    with (
        fleet.broker(head="user stolen\ntopic deny #\n"),
        fleet.client("stolen") as stolen,
        fleet.client("good") as good,
        fleet.client("operator:x") as operator,
    ):
        for party in (stolen, good):
            party.subscribe("limpet/+/command/+", "limpet-bundles/#")
        assert set(stolen.publish(*written("stolen"))) == {REFUSED}
        assert REFUSED not in good.publish(*written("good"))
        operator.publish("limpet/stolen/command/ping", "limpet/good/command/ping")
        wait_until(lambda: good.received == ["limpet/good/command/ping"])
        assert stolen.received == []


# --- the reporter behind the access list


def reporter_config(fleet: FleetCa, device: str, *dialects: str) -> mqtt.Config:
    issued = fleet.issued[device]
    return mqtt.Config(
        url=fleet.url,
        ca_file=fleet.authority.certificate,
        cert_file=issued.certificate,
        key_file=issued.key,
        reconnect_max=0.1,
        dialects={name: {} for name in ("json", *dialects)},
    )


def test_all_that_a_device_publishes_and_needs_is_allowed(fleet: FleetCa, tmp_path: Path) -> None:
    inbox = DeliveryInbox(lambda: None)
    inbox.expect(["motion"], trust=True)
    inbox.want_chunks([BUNDLE])
    inbox.ask(BUNDLE, [(0, 0)], needs_list=True)
    commands: list[str] = []
    config = reporter_config(fleet, "press-07", "msgpack", "homeassistant", "cloudevents")
    with (
        fleet.client("operator:x") as operator,
        fleet.client("sender:x") as sender,
        reports.opened(
            mqtt, config, tmp_path, obey=lambda one: commands.append(one.name), deliveries=inbox
        ) as reporter,
    ):
        wait_until(lambda: reporter.health()["connected"])
        sender.subscribe(f"limpet/+/bundle/{BUNDLE}/missing")
        for message in [*reports.one_of_each(), reports.picture("motion")]:
            reporter.report(message)
        operator.publish("limpet/press-07/command/ping", "limpet/press-07/model/motion/desired")
        operator.publish("limpet/press-07/trust/desired")
        sender.publish(f"limpet-bundles/{BUNDLE}/0")
        states: list[str] = []
        wait_until(lambda: states.extend(one.kind for one in inbox.take_states()) or len(states) == 2)
        wait_until(inbox.take_chunk)
        wait_until(lambda: commands == ["ping"])
        wait_until(lambda: reporter.health()["outbox_depth"] == 0)
        assert reporter.health()["refused"] == {}
        assert reporter.health()["lost"] == []


def test_what_the_broker_refuses_is_counted_with_its_reason_code_and_logged(
    fleet: FleetCa, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = reporter_config(fleet, "press-08")  # its certificate is not that of the device press-07
    with reports.opened(mqtt, config, tmp_path) as reporter:
        wait_until(lambda: reporter.health()["connected"])
        for message in reports.results(10):
            reporter.report(message)
        wait_until(lambda: reporter.health()["refused"] == {"0x87": 11})  # the results, and the status
        assert reporter.health()["acknowledged"] == 0
    assert "refuses messages to limpet/press-07/result/motion (0x87), which are dropped" in caplog.text
