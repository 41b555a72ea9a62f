"""A bundle comes from a real HTTP server: whole, right and within its limits, whatever the server does."""

from __future__ import annotations

import gzip
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from limpet.contracts.updates import BundleSource
from limpet.deployer.attempts import MOST_FAILURES
from limpet.wire.deploy_records import Links
from support import certificates
from support.fetcher import Fetcher, deploy
from support.web_server import Proxy, WebServer, answer, head, part, tls_server

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.wire.deploy_records import Deploy, Ended
    from support.web_server import Request

SMALL = bytes(range(24))
BODY = bytes(range(256)) * 400


@pytest.fixture(scope="module")
def fetcher() -> Iterator[Fetcher]:
    started = Fetcher()
    yield started
    started.close()


@pytest.fixture
def server() -> Iterator[WebServer]:
    started = WebServer({"/bundle": BODY, "/small": SMALL})
    yield started
    started.close()


def links(*servers: WebServer, **options: object) -> Links:
    return Links(allow=tuple(server.url("/") for server in servers), **options)  # type: ignore[arg-type]


def order(
    folder: Path, server: WebServer, content: bytes = BODY, path: str = "/bundle", **options: object
) -> Deploy:
    return deploy(folder, content, [BundleSource(url=server.url(path))], links(server, **options))


def fetched(folder: Path) -> bytes:
    return (folder / "downloads" / "p" / "bundle.part").read_bytes()


def once(rule: Callable[[Request, socket.socket], object]) -> Callable[[Request, socket.socket], bool]:
    """Return a rule for the first request alone."""
    requests: list[Request] = []

    def first(request: Request, client: socket.socket) -> bool:
        requests.append(request)
        if len(requests) > 1:
            return False
        rule(request, client)
        return True

    return first


def always(data: bytes) -> Callable[[Request, socket.socket], bool]:
    def rule(_: Request, client: socket.socket) -> bool:
        client.sendall(data)
        return True

    return rule


def refused(ended: Ended, because: str, *, final: bool = True) -> None:
    assert ended.outcome == "failed"
    assert because in ended.reason
    assert ended.final is final


# --- resuming


def test_it_resumes_after_a_cut_at_every_byte(fetcher: Fetcher, server: WebServer, tmp_path: Path) -> None:
    for cut in range(len(SMALL)):
        server.rule = once(
            lambda _, client, cut=cut: client.sendall(answer(200, SMALL, ETag='"one"')[: cut - len(SMALL)])
        )
        folder = tmp_path / str(cut)
        folder.mkdir()
        assert fetcher.fetch(order(folder, server, SMALL, "/small")).outcome == "fetched"
        assert fetched(folder) == SMALL
        assert server.requests[-1].range == ((cut, len(SMALL)) if cut else None)
    assert len(server.requests) == 2 * len(SMALL)


def test_it_comes_to_an_end_though_each_connection_brings_one_byte(
    fetcher: Fetcher, server: WebServer, tmp_path: Path
) -> None:
    def one_byte(request: Request, client: socket.socket) -> bool:
        begin, end = request.range or (0, len(SMALL))
        body = part(SMALL, begin, end) if begin else answer(200, SMALL)
        client.sendall(body[: len(body) - (end - begin) + 1])
        return True

    server.rule = one_byte
    assert fetcher.fetch(order(tmp_path, server, SMALL, "/small")).outcome == "fetched"
    assert len(server.requests) == len(SMALL)


def test_the_next_deployer_goes_on_where_the_last_one_ended(
    fetcher: Fetcher, server: WebServer, tmp_path: Path
) -> None:
    server.rule = always(answer(200, BODY, ETag='"one"')[:-5000])
    refused(fetcher.fetch(order(tmp_path, server)), "cut off", final=False)
    server.rule = lambda *_: False
    ended = fetcher.fetch(order(tmp_path, server))
    assert ended.outcome == "fetched"
    assert server.requests[-1].range == (len(BODY) - 5000, len(BODY))
    assert server.requests[-1].headers["if-range"] == '"one"'
    assert 5000 <= ended.received < 6000


def test_another_source_goes_on_where_the_first_one_failed(
    fetcher: Fetcher, server: WebServer, tmp_path: Path
) -> None:
    broken = WebServer()
    broken.rule = always(answer(200, BODY)[:-5000])
    try:
        sources = [BundleSource(url=broken.url()), BundleSource(url=server.url())]
        ended = fetcher.fetch(deploy(tmp_path, BODY, sources, links(broken, server)))
    finally:
        broken.close()
    assert ended.outcome == "fetched"
    assert server.requests[0].range == (len(BODY) - 5000, len(BODY))
    assert "if-range" not in server.requests[0].headers


def test_a_file_that_is_here_already_is_not_fetched(fetcher: Fetcher, server: WebServer, tmp_path: Path) -> None:
    task = order(tmp_path, server)
    task.folder.mkdir(parents=True)
    (task.folder / "bundle.part").write_bytes(BODY)
    ended = fetcher.fetch(task)
    assert (ended.outcome, ended.received) == ("fetched", 0)
    assert not server.requests


def test_a_server_that_ignores_ranges_sends_it_all_again(
    fetcher: Fetcher, server: WebServer, tmp_path: Path
) -> None:
    first = once(lambda _, client: client.sendall(answer(200, BODY)[:-5000]))
    server.rule = lambda request, client: first(request, client) or always(answer(200, BODY))(request, client)
    assert fetcher.fetch(order(tmp_path, server)).outcome == "fetched"
    assert fetched(tmp_path) == BODY


@pytest.mark.parametrize(
    "wrong",
    [
        answer(416),
        answer(206, b"x" * 100),
        answer(206, b"x" * 100, Content_Range="bytes 0-99/102400"),
        answer(206, b"x" * 100, Content_Range="bytes zero-one/two"),
        answer(206, b"x" * 100, Content_Range=f"bytes {len(BODY) - 5000}-{len(BODY) + 7}/*"),
        answer(206, b"x" * 100, Content_Range=f"bytes {len(BODY) - 5000}-{len(BODY) - 1}/{len(BODY)}"),
        part(BODY, len(BODY) - 5000, len(BODY), ETag='"two"'),
    ],
    ids=["416", "no range", "another range", "no numbers", "too far", "wrong length", "another version"],
)
def test_a_wrong_answer_to_a_range_begins_the_file_again(
    fetcher: Fetcher, server: WebServer, tmp_path: Path, wrong: bytes
) -> None:
    first = once(lambda _, client: client.sendall(answer(200, BODY, ETag='"one"')[:-5000]))

    def rule(request: Request, client: socket.socket) -> bool:
        return first(request, client) or (request.range is not None and always(wrong)(request, client))

    server.rule = rule
    assert fetcher.fetch(order(tmp_path, server)).outcome == "fetched"
    assert fetched(tmp_path) == BODY
    assert server.requests[-1].range is None


def test_a_file_that_changed_on_the_server_is_fetched_from_its_start(
    fetcher: Fetcher, server: WebServer, tmp_path: Path
) -> None:
    server.rule = once(lambda _, client: client.sendall(answer(200, b"?" * len(BODY), ETag='"zero"')[:-5000]))
    assert fetcher.fetch(order(tmp_path, server)).outcome == "fetched"
    assert fetched(tmp_path) == BODY
    assert server.requests[1].headers["if-range"] == '"zero"'


# --- what a server may answer


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 451])
def test_a_refusal_is_final(fetcher: Fetcher, server: WebServer, tmp_path: Path, status: int) -> None:
    server.rule = always(answer(status))
    refused(fetcher.fetch(order(tmp_path, server)), str(status))
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_server_in_trouble_is_asked_again(
    fetcher: Fetcher, server: WebServer, tmp_path: Path, status: int
) -> None:
    server.rule = once(lambda _, client: client.sendall(answer(status)))
    assert fetcher.fetch(order(tmp_path, server)).outcome == "fetched"
    server.rule = always(answer(status))
    (tmp_path / "again").mkdir()
    refused(fetcher.fetch(order(tmp_path / "again", server)), str(status), final=False)


def test_a_server_that_is_not_there_may_come_back(fetcher: Fetcher, tmp_path: Path) -> None:
    gone = WebServer()
    gone.close()
    refused(fetcher.fetch(order(tmp_path, gone)), "refused", final=False)


def test_a_compressed_body_is_refused(fetcher: Fetcher, server: WebServer, tmp_path: Path) -> None:
    server.rule = always(answer(200, gzip.compress(BODY), Content_Encoding="gzip"))
    refused(fetcher.fetch(order(tmp_path, server)), "compressed")
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_a_body_in_chunks_of_http_is_taken(fetcher: Fetcher, server: WebServer, tmp_path: Path) -> None:
    body = b"".join(
        b"%x\r\n%s\r\n" % (len(BODY[at : at + 999]), BODY[at : at + 999]) for at in range(0, len(BODY), 999)
    )
    server.rule = always(head(200, Transfer_Encoding="chunked") + body + b"0\r\n\r\n")
    assert fetcher.fetch(order(tmp_path, server)).outcome == "fetched"
    assert fetched(tmp_path) == BODY


def test_a_header_without_end_is_refused(fetcher: Fetcher, server: WebServer, tmp_path: Path) -> None:
    def rule(_: Request, client: socket.socket) -> bool:
        client.sendall(b"HTTP/1.1 200 OK\r\n")
        with suppress(OSError):
            while True:
                client.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")
        return True

    server.rule = rule
    refused(fetcher.fetch(order(tmp_path, server)), "headers", final=False)


@pytest.mark.parametrize(
    "block", [b"HTTP/1.1 100 Continue\r\n" + b"X: " + b"x" * 60000 + b"\r\n\r\n", b"x" * 70000]
)
def test_attack_what_comes_before_a_file_is_bounded_and_counts_for_the_budget(
    fetcher: Fetcher, server: WebServer, tmp_path: Path, block: bytes
) -> None:
    sent: list[int] = []

    def rule(_: Request, client: socket.socket) -> bool:
        with suppress(OSError):
            while True:
                sent.append(client.send(block))
        return True

    server.rule = rule
    sources, where = [BundleSource(url=server.url())], links(server)
    ended = fetcher.fetch(deploy(tmp_path, BODY, sources, where, most_bytes=150_000))
    refused(ended, "150000 bytes that may be fetched now are used up", final=False)
    assert len(server.requests) <= 3
    assert 150_000 <= ended.received < 300_000


def test_a_request_without_sources_is_final(fetcher: Fetcher, tmp_path: Path) -> None:
    refused(fetcher.fetch(deploy(tmp_path, BODY, [])), "names no source")
    refused(fetcher.fetch(deploy(tmp_path, BODY, [BundleSource()])), "neither")


# --- redirects


def test_a_redirect_within_the_allowed_urls_is_followed(
    fetcher: Fetcher, server: WebServer, tmp_path: Path
) -> None:
    server.rule = once(lambda _, client: client.sendall(answer(302, Location="/small/../bundle?v=2")))
    assert fetcher.fetch(order(tmp_path, server, path="/elsewhere")).outcome == "fetched"
    assert [request.target for request in server.requests] == ["/elsewhere", "/bundle?v=2"]


def test_attack_redirect_out_of_the_allowed_urls(fetcher: Fetcher, server: WebServer, tmp_path: Path) -> None:
    evil = WebServer({"/bundle": BODY})
    try:
        for location in (
            evil.url(),
            f"//127.0.0.1:{evil.port}/bundle",
            f"http://127.0.0.1:{server.port}@127.0.0.1:{evil.port}/bundle",
            f"http://127.0.0.1:{server.port}\\@127.0.0.1:{evil.port}/bundle",
            f"file://{tmp_path}/bundle",
            "/other/bundle",
            "/models/..%2fother/bundle",
        ):
            server.rule = always(answer(302, Location=location))
            task = deploy(
                tmp_path, BODY, [BundleSource(url=server.url("/models/b"))], Links(allow=(server.url("/models"),))
            )
            before = len(server.requests)
            refused(fetcher.fetch(task), "redirect")
            assert len(server.requests) == before + 1, location
        assert not evil.requests
    finally:
        evil.close()


def test_attack_redirects_without_end(fetcher: Fetcher, server: WebServer, tmp_path: Path) -> None:
    server.rule = always(answer(307, Location="/bundle"))
    refused(fetcher.fetch(order(tmp_path, server)), "redirects more than 5 times")
    assert len(server.requests) == 6


def test_a_url_that_is_not_allowed_is_not_visited(fetcher: Fetcher, server: WebServer, tmp_path: Path) -> None:
    task = deploy(tmp_path, BODY, [BundleSource(url=server.url())], Links(allow=(server.url("/models/"),)))
    refused(fetcher.fetch(task), "updates.allow")
    refused(fetcher.fetch(deploy(tmp_path, BODY, [BundleSource(url=server.url())])), "updates.allow")
    assert not server.requests


# --- attacks on time, length and content


def test_attack_wrong_length_is_refused_before_the_body(
    fetcher: Fetcher, server: WebServer, tmp_path: Path
) -> None:
    for length in (len(BODY) - 1, len(BODY) + 1, 10**12, -5):
        server.rule = always(head(200, Content_Length=length) + BODY)
        ended = fetcher.fetch(order(tmp_path, server))
        refused(ended, f"has {length} bytes")
        assert ended.received <= 8192  # what is read at once


def test_attack_endless_download_is_cut_at_the_length_of_the_request(
    fetcher: Fetcher, server: WebServer, tmp_path: Path
) -> None:
    def endless(_: Request, client: socket.socket) -> bool:
        client.sendall(head(200))
        with suppress(OSError):
            while True:
                client.sendall(b"?" * 65536)
        return True

    server.rule = endless
    ended = fetcher.fetch(order(tmp_path, server))
    refused(ended, "another SHA-256")
    assert len(fetched(tmp_path)) <= len(BODY)
    assert ended.received < 2 * len(BODY) + 1000


def test_attack_wrong_content_is_thrown_away_once_and_then_refused(
    fetcher: Fetcher, server: WebServer, tmp_path: Path
) -> None:
    server.rule = once(lambda _, client: client.sendall(answer(200, b"?" * len(BODY))))
    assert fetcher.fetch(order(tmp_path, server)).outcome == "fetched"
    assert fetched(tmp_path) == BODY
    server.rule = always(answer(200, b"?" * len(BODY)))
    (tmp_path / "again").mkdir()
    before = len(server.requests)
    refused(fetcher.fetch(order(tmp_path / "again", server)), "another SHA-256")
    refused(fetcher.fetch(order(tmp_path / "again", server)), "another SHA-256")
    assert len(server.requests) == before + 2


@pytest.mark.parametrize(
    ("where", "because"),
    [
        ("in the headers", "takes longer than"),
        ("in the body", "sends too slowly"),
        ("in a chunk", "takes longer than"),
        ("in silence", "takes longer than"),
    ],
)
def test_attack_slow_loris_is_given_up(
    fetcher: Fetcher, server: WebServer, tmp_path: Path, where: str, because: str
) -> None:
    over = threading.Event()

    def slow(_: Request, client: socket.socket) -> bool:
        if where == "in the body":
            client.sendall(head(200))
        elif where == "in a chunk":
            client.sendall(head(200, Transfer_Encoding="chunked"))
        with suppress(OSError):
            while not over.wait(0.02):
                if where != "in silence":
                    client.sendall(b"0")
        return True

    server.rule = slow
    ended = fetcher.fetch(order(tmp_path, server, timeout=0.06))
    over.set()
    refused(ended, because, final=False)
    assert len(server.requests) <= MOST_FAILURES


def test_a_deployer_ends_when_its_time_is_over(fetcher: Fetcher, server: WebServer, tmp_path: Path) -> None:
    def drip(_: Request, client: socket.socket) -> bool:
        client.sendall(head(200))
        with suppress(OSError):
            while True:
                client.sendall(b"?" * 100)
                time.sleep(0.02)
        return True

    server.rule = drip
    task = deploy(tmp_path, BODY, [BundleSource(url=server.url())], links(server), seconds=0.5)
    refused(fetcher.fetch(task), "takes too long", final=False)


def test_bytes_of_failed_attempts_count_for_the_budget(
    fetcher: Fetcher, server: WebServer, tmp_path: Path
) -> None:
    server.rule = always(answer(200, b"?" * len(BODY)))
    task = deploy(tmp_path, BODY, [BundleSource(url=server.url())], links(server), most_bytes=len(BODY) + 5000)
    ended = fetcher.fetch(task)
    refused(ended, "used up", final=False)
    assert len(BODY) + 5000 <= ended.received < len(BODY) + 5000 + 65536 + 1000


# --- TLS and proxies


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.authority(tmp_path_factory.mktemp("certificates"))


def secure(authority: Path, *, clients: bool = False) -> WebServer:
    certificate, key = certificates.certificate(authority, "server")
    return WebServer({"/bundle": BODY}, tls_server(certificate, key, authority if clients else None))


def test_a_server_must_have_a_certificate_of_the_authority(
    fetcher: Fetcher, authority: Path, tmp_path: Path
) -> None:
    server = secure(authority)
    source = BundleSource(url=server.url(host="localhost"))
    allow = (server.url("/", "localhost"),)
    try:
        assert (
            fetcher.fetch(deploy(tmp_path, BODY, [source], Links(allow=allow, ca_file=authority))).outcome
            == "fetched"
        )
        (tmp_path / "system").mkdir()
        ended = fetcher.fetch(deploy(tmp_path / "system", BODY, [source], Links(allow=allow)))
        refused(ended, "certificate verify failed", final=False)
        other = BundleSource(url=server.url())
        ended = fetcher.fetch(
            deploy(tmp_path / "system", BODY, [other], Links(allow=(server.url("/"),), ca_file=authority))
        )
        refused(ended, "certificate verify failed", final=False)
    finally:
        server.close()


def test_a_client_certificate_is_shown(fetcher: Fetcher, authority: Path, tmp_path: Path) -> None:
    server = secure(authority, clients=True)
    certificate, key = certificates.certificate(authority, "device")
    source = BundleSource(url=server.url(host="localhost"))
    allow = (server.url("/", "localhost"),)
    try:
        without = fetcher.fetch(deploy(tmp_path, BODY, [source], Links(allow=allow, ca_file=authority)))
        assert (without.outcome, without.final) == ("failed", False)
        shown = Links(allow=allow, ca_file=authority, certificate=certificate, key=key)
        assert fetcher.fetch(deploy(tmp_path, BODY, [source], shown)).outcome == "fetched"
    finally:
        server.close()


def test_a_redirect_from_https_to_http_is_refused(
    fetcher: Fetcher, server: WebServer, authority: Path, tmp_path: Path
) -> None:
    secured = secure(authority)
    secured.rule = always(answer(302, Location=server.url()))
    allow = (secured.url("/", "localhost"), server.url("/"))
    source = BundleSource(url=secured.url(host="localhost"))
    try:
        refused(fetcher.fetch(deploy(tmp_path, BODY, [source], Links(allow=allow, ca_file=authority))), "to http")
    finally:
        secured.close()
    assert not server.requests


def test_a_certificate_that_cannot_be_read_is_named(fetcher: Fetcher, server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    refused(fetcher.fetch(order(tmp_path, server, ca_file=tmp_path / "ca.pem")), "certificates", final=False)
    refused(fetcher.fetch(order(tmp_path, server, certificate=tmp_path / "none.pem")), "No such file", final=False)


def test_a_proxy_is_used_for_http_and_https(
    fetcher: Fetcher, server: WebServer, authority: Path, tmp_path: Path
) -> None:
    secured, proxy = secure(authority), Proxy()
    try:
        through = proxy.url.replace("//", "//anna:secret@")
        assert fetcher.fetch(order(tmp_path, server, proxy=through)).outcome == "fetched"
        assert proxy.requests[0].target == server.url()
        assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")
        (tmp_path / "tls").mkdir()
        source = BundleSource(url=secured.url(host="localhost"))
        allow = (secured.url("/", "localhost"),)
        ended = fetcher.fetch(
            deploy(tmp_path / "tls", BODY, [source], Links(allow=allow, ca_file=authority, proxy=proxy.url))
        )
        assert ended.outcome == "fetched"
        assert (proxy.requests[1].method, proxy.requests[1].target) == ("CONNECT", f"localhost:{secured.port}")
    finally:
        secured.close()
        proxy.close()
