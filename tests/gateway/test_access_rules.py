"""Who may do what, as pure decisions."""

from __future__ import annotations

from typing import Literal, NamedTuple

import pytest

from limpet.gateway.access import tokens
from limpet.gateway.access.credentials import Credentials
from limpet.gateway.access.rights import Rights, client_of, needed, refusal


class Peer(NamedTuple):
    transport: Literal["unix", "tcp"] = "tcp"
    address: str = "127.0.0.1"
    loopback: bool = True
    certificate: str = ""
    uid: int | None = None
    key: str = ""


LOCAL, FAR, UNIX = Peer(), Peer(address="192.0.2.9", loopback=False), Peer("unix", "", uid=1000)


@pytest.mark.parametrize(
    ("peer", "token", "protected", "rights"),
    [
        (UNIX, "", False, Rights.CONTROL),
        (UNIX, "", True, Rights.CONTROL),
        (LOCAL, "", False, Rights.VIEW),
        (LOCAL, "", True, Rights.NONE),
        (LOCAL, "anna", True, Rights.CONTROL),
        (LOCAL, "anna", False, Rights.VIEW),
        (FAR, "", False, Rights.NONE),
        (FAR, "", True, Rights.NONE),
        (FAR, "anna", True, Rights.CONTROL),
        (FAR._replace(certificate="tablet"), "", True, Rights.CONTROL),
        (FAR._replace(certificate="tablet"), "", False, Rights.NONE),
    ],
)
def test_rights_come_from_the_transport_a_token_or_a_certificate(
    peer: Peer, token: str, *, protected: bool, rights: Rights
) -> None:
    assert client_of(peer, token, protected=protected).rights == rights


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/", Rights.NONE),
        ("/static/app.js", Rights.NONE),
        ("/v2/health/live", Rights.NONE),
        ("/v2/health/ready", Rights.NONE),
        ("/api/login", Rights.NONE),
        ("/api/log", Rights.CONTROL),
        ("/api/log\n", Rights.CONTROL),
        ("/api/login\n", Rights.CONTROL),
        ("/api/commands/restart", Rights.CONTROL),
        ("/v2/repository/models/m/load", Rights.CONTROL),
        ("/v2/repository/models/m/unload", Rights.CONTROL),
        ("/v2/repository/index", Rights.VIEW),
        ("/v2/models/m/infer", Rights.VIEW),
        ("/v2/health/live/", Rights.VIEW),
        ("/metrics", Rights.VIEW),
        ("/static", Rights.VIEW),
        ("//static/app.js", Rights.VIEW),
        ("/a/path/that/no/one/knows", Rights.VIEW),
        ("", Rights.VIEW),
    ],
)
def test_a_path_needs_a_right_unless_it_is_known_to_be_open(path: str, right: Rights) -> None:
    assert needed(path) == right


@pytest.mark.parametrize(
    ("peer", "path", "protected", "status", "words"),
    [
        (LOCAL, "/metrics", True, 401, "limpet token"),
        (LOCAL, "/api/log", False, 403, "Unix socket"),
        (FAR, "/metrics", False, 403, "no token"),
    ],
)
def test_a_refusal_says_what_to_do(peer: Peer, path: str, *, protected: bool, status: int, words: str) -> None:
    found = refusal(client_of(peer, "", protected=protected), path, protected=protected)
    assert found is not None
    assert found[0] == status
    assert words in found[1]


def test_a_client_with_a_token_may_do_everything() -> None:
    client = client_of(FAR, "anna", protected=True)
    assert all(refusal(client, path, protected=True) is None for path in ("/", "/metrics", "/api/log"))
    assert client.name == "anna at 192.0.2.9"


def test_a_browser_is_logged_in_to_two_devices_on_one_host() -> None:
    """As through tunnels to two ports. A browser sends the cookies of both to both."""
    secret, entry = tokens.new("anna")
    press, crane = (Credentials((entry,), protected=True, device=name) for name in ("press-07", "crane/ä"))
    both = {"cookie": "; ".join(f"{one.cookie}={one.log_in(LOCAL, secret)}" for one in (press, crane))}
    assert [one.of_headers(LOCAL, both) for one in (press, crane)] == ["anna", "anna"]
    crane.log_out(both)
    assert [one.of_headers(LOCAL, both) for one in (press, crane)] == ["anna", ""]
    assert crane.cookie.isascii()
