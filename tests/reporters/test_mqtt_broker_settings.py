"""What the configuration of a broker may be."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import config
from limpet.errors import ConfigError
from limpet.mqtt.broker import Endpoint, check_files, endpoint, password
from limpet.reporters import mqtt

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", Endpoint("broker", 1883, False, "")),
        ("mqtts://broker/", Endpoint("broker", 8883, True, "")),
        ("mqtt://[::1]:1884", Endpoint("::1", 1884, False, "")),
        ("ws://broker", Endpoint("broker", 80, False, "/mqtt")),
        ("wss://broker:443/path", Endpoint("broker", 443, True, "/path")),
    ],
)
def test_endpoint(url: str, expected: Endpoint) -> None:
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
        ({}, "mqtt.url: missing"),
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
    assert config.fill(mqtt.Config, table, "mqtt", tmp_path, problems) is None
    assert says in problems[0]


def test_paths_start_at_the_configuration_file(tmp_path: Path) -> None:
    table = {"url": "mqtts://b", "username": "u", "password_file": "secret", "ca_file": "/etc/ca.pem"}
    problems: list[str] = []
    filled = config.fill(mqtt.Config, table, "mqtt", tmp_path, problems)
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
