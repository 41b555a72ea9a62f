"""Requests that were meant for this device, and those that other sites had a browser send."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.gateway.access.hosts import is_foreign, is_ours, names_of, without_port

NAMES = names_of("Press-07.example.com", ["Gate.example.org"])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:7470",
        "localhost:7470",
        "LOCALHOST",
        "press-07",
        "press-07.local:80",
        "press-07.example.com",
        "press-07.example.com.:443",
        "gate.example.org",
    ],
)
def test_the_device_knows_its_names_and_the_address_of_the_connection(host: str) -> None:
    assert is_ours(host, "127.0.0.1", NAMES)


@pytest.mark.parametrize(
    ("host", "name"),
    [("gate.lan:7470", "gate.lan"), ("gate.lan", "gate.lan"), ("[::2]:80", "[::2]"), ("a:b", "a:b"), ("", "")],
)
def test_a_refused_name_is_shown_as_the_configuration_wants_it(host: str, name: str) -> None:
    assert without_port(host) == name


def test_an_address_that_forwards_to_the_device_can_be_named() -> None:
    named = names_of("press-07", ["192.0.2.1"])
    assert is_ours("192.0.2.1:7470", "172.17.0.2", named)
    assert not is_ours("192.0.2.2:7470", "172.17.0.2", named)


def test_an_ipv6_address_is_in_brackets() -> None:
    assert is_ours("[::1]:7470", "::1", NAMES)
    assert is_ours("[0:0:0:0:0:0:0:1]", "::1", NAMES)
    assert not is_ours("::1", "::1", NAMES)
    assert not is_ours("[::2]", "::1", NAMES)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:7470",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "192.0.2.1",
        "user@localhost",
        "localhost/x",
        "localhost:99999",
        "localhost:x",
        "[::1",
        "localhost#",
        "localhost?x",
        "2130706433",
        ".local",
    ],
)
def test_any_other_name_is_foreign(host: str) -> None:
    assert not is_ours(host, "127.0.0.1", NAMES)


@given(st.text())
def test_what_passes_is_a_known_name_with_or_without_a_port(host: str) -> None:
    if is_ours(host, "127.0.0.1", NAMES):
        assert re.sub(r":[0-9]*$", "", host.lower()).rstrip(".") in {"127.0.0.1", *NAMES}


@pytest.mark.parametrize(
    ("method", "headers", "foreign"),
    [
        ("GET", {}, False),
        ("POST", {"origin": "http://device:7470"}, False),
        ("POST", {"origin": "https://DEVICE:7470"}, False),
        ("POST", {"origin": "http://device"}, True),
        ("POST", {"origin": "http://device:7471"}, True),
        ("POST", {"origin": "http://evil.example"}, True),
        ("POST", {"origin": "null"}, True),
        ("POST", {"origin": ""}, True),
        ("GET", {"origin": "http://evil.example"}, True),
        ("GET", {"sec-fetch-site": "same-origin"}, False),
        ("GET", {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, False),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, False),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, True),
        ("GET", {"sec-fetch-site": "same-site"}, True),
        ("POST", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, True),
    ],
)
def test_requests_of_other_sites_are_foreign_but_for_links(
    method: str, headers: dict[str, str], *, foreign: bool
) -> None:
    assert is_foreign(method, "device:7470", headers) == foreign
