"""What the configuration of a broker may be."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.delivery.mqtt.broker_settings import BrokerEndpoint, check_files, endpoint, password
from limpet.delivery.mqtt.settings import client_id
from limpet.errors import ConfigError, TransportError
from limpet.filling import fill
from limpet.reporters import mqtt

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", BrokerEndpoint("broker", 1883, False, "")),
        ("mqtts://broker/", BrokerEndpoint("broker", 8883, True, "")),
        ("mqtt://[::1]:1884", BrokerEndpoint("::1", 1884, False, "")),
        ("ws://broker", BrokerEndpoint("broker", 80, False, "/mqtt")),
        ("wss://broker:443/path", BrokerEndpoint("broker", 443, True, "/path")),
    ],
)
def test_endpoint(url: str, expected: BrokerEndpoint) -> None:
    assert endpoint(url) == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("broker", "must start with"),
        ("http://broker", "must start with"),
        ("mqtt://", "names no host"),
        ("mqtt://me:secret@broker", "password_file"),
        ("mqtt://broker/topic", "nothing may follow"),
        ("mqtt://broker:99999", "number from 1 to 65535"),
        ("mqtt://broker:x", "number from 1 to 65535"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_the_reason(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        endpoint(url)


@given(st.text(max_size=40))
def test_any_text_is_an_endpoint_or_a_value_error(text: str) -> None:
    for url in (text, f"mqtt://{text}", f"wss://h{text}"):
        with contextlib.suppress(ValueError):
            assert endpoint(url).host


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({}, "mqtt.url is missing"),
        ({"url": "mqtt://b", "ca_file": "ca.pem"}, "go with mqtts://"),
        ({"url": "mqtts://b", "key_file": "k.pem"}, "goes with cert_file"),
        ({"url": "mqtt://b", "password_file": "p"}, "goes with username"),
        ({"url": "mqtt://b", "qos": 2}, "mqtt.qos"),
        ({"url": "mqtt://b", "topic": "a/#"}, "mqtt.topic"),
        ({"url": "mqtt://b", "urll": ""}, "did you mean 'url'?"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_the_reason(
    table: dict[str, Any], says: str, tmp_path: Path
) -> None:
    problems: list[str] = []
    assert fill(mqtt.Config, table, "mqtt", tmp_path, problems) is None
    assert says in problems[0]


def test_paths_start_at_the_configuration_file(tmp_path: Path) -> None:
    table = {"url": "mqtts://b", "username": "u", "password_file": "secret", "ca_file": "/etc/ca.pem"}
    problems: list[str] = []
    filled = fill(mqtt.Config, table, "mqtt", tmp_path, problems)
    assert filled
    assert (filled.password_file, str(filled.ca_file)) == (tmp_path / "secret", "/etc/ca.pem")


def test_a_secret_is_found_among_the_credentials_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mqtt-password").write_text("hush\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    settings = mqtt.Config(url="mqtt://b", username="u", password_file=tmp_path / "elsewhere" / "mqtt-password")
    check_files(settings)
    assert password(settings) == "hush"
    # What it was loaded from may be there as well, for root alone.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mqtt-password").write_text("not this")
    assert password(settings) == "hush"


def test_each_missing_file_is_named(tmp_path: Path) -> None:
    settings = mqtt.Config(
        url="mqtts://b", username="u", password_file=tmp_path / "password", ca_file=tmp_path / "ca.pem"
    )
    with pytest.raises(ConfigError) as refused:
        check_files(settings)
    assert len(refused.value.problems) == 2
    assert "No such file" in str(refused.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\r\n\n", "the file is empty"),
        (b"secret\nother\n", "the file has 2 lines; write the password alone"),
        (b"\0" * 64, "bytes of zero"),
        (b"secr\xff\xe9t", "it is not UTF-8"),
        (b"s" * 100_000, "larger than"),
    ],
)
def test_a_file_that_holds_no_password_is_named_without_its_content(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(TransportError) as caught:
        password(mqtt.Config(url="mqtt://b", username="u", password_file=path))
    assert reason in str(caught.value)
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize("content", ["\nhush hush\n", "hush hush", "hush hush\r\n\r\n"])
def test_blank_lines_around_a_password_are_no_part_of_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "password").write_text(content, newline="")
    (tmp_path / "link").symlink_to("password")  # as Kubernetes lays secrets out
    settings = mqtt.Config(url="mqtt://b", username="u", password_file=tmp_path / "link")
    check_files(settings)
    assert password(settings) == "hush hush"


@pytest.mark.parametrize("key", ["password_file", "ca_file"])
def test_a_fifo_or_a_folder_in_place_of_a_secret_is_refused_at_once(tmp_path: Path, key: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", ""):
        options: dict[str, Any] = {key: tmp_path / name}
        with pytest.raises(ConfigError, match=f"^{key}: .*not a regular file"):
            check_files(mqtt.Config(url="mqtts://b", username="u", **options))


def test_no_two_reporters_of_two_devices_have_one_client_id() -> None:
    config = mqtt.Config(url="mqtt://broker")
    names = ("mqtt", "07", "07-x", "x", "07.x")
    pairs = [(device, name) for device in ("press", "press-07", "press-07-x", "press.07") for name in names]
    assert len({client_id(config, *pair) for pair in pairs}) == len(pairs)
    assert client_id(config, "press", "mqtt") == "limpet-press"
    assert client_id(mqtt.Config(url="mqtt://broker", client_id="own"), "press", "x") == "own"
