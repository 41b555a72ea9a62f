"""Real deployers in their sandbox: they fetch, are killed, go on, and reach the same file."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import zstandard

from limpet.contracts.chunks import ChunkList
from limpet.contracts.updates import LARGEST_PATCHED, BundleSource
from limpet.wire.deploy_records import Ended, Lacking, Links
from support.deployer_site import Site
from support.fetcher import deploy, digest
from support.web_server import WebServer, answer, head, part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.wire.deploy_records import Deploy
    from support.deployer_site import Heard
    from support.web_server import Request

BODY = random.Random(14).randbytes(300_000)
OTHER = bytes(len(BODY))
CHUNK = 16_384


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[WebServer]:
    started = WebServer({"/bundle": BODY})
    yield started
    started.close()


def order(folder: Path, server: WebServer, content: bytes = BODY, **options: object) -> Deploy:
    links = Links(allow=(server.url("/"),))
    return deploy(folder, content, [BundleSource(url=server.url())], links, **options)  # type: ignore[arg-type]


def fetched(folder: Path) -> bytes:
    return (folder / "downloads" / "p" / "bundle.part").read_bytes()


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def slowly(request: Request, client: socket.socket, piece: int = 10_000, pause: float = 0.01) -> bool:
    """Answer in pieces, with pauses."""
    begin, end = request.range or (0, len(BODY))
    data = part(BODY, begin, end) if begin else answer(200, BODY)
    with suppress(OSError):
        for at in range(0, len(data), piece):
            client.sendall(data[at : at + piece])
            time.sleep(pause)
    return True


# --- over HTTP


def test_a_deployer_fetches_reports_and_is_gone_when_its_end_is_heard(
    site: Site, server: WebServer, tmp_path: Path
) -> None:
    server.rule = slowly
    heard = site.start(order(tmp_path, server))
    site.until(site.deployers.pids)
    pid = site.deployers.pids()["p"]
    site.until(lambda: heard.last is not None)
    assert heard.fetched
    assert not is_there(pid)
    assert not site.deployers.pids()
    assert fetched(tmp_path) == BODY
    assert heard.progress
    assert all(said.present <= said.received <= len(BODY) + 1000 for said in heard.progress)
    assert isinstance(heard.last, Ended)
    assert len(BODY) <= heard.last.received < len(BODY) + 1000


def test_after_kills_at_random_instants_it_reaches_the_same_file(
    site: Site, server: WebServer, tmp_path: Path
) -> None:
    server.rule = slowly
    chance = random.Random(9)
    kills = 0
    for _ in range(40):
        heard = site.start(order(tmp_path, server))
        site.until(site.deployers.pids)
        end = time.monotonic() + chance.uniform(0.0, 0.5)
        site.until(lambda end=end, heard=heard: heard.last is not None or time.monotonic() > end)
        if heard.last is None:
            with suppress(KeyError, ProcessLookupError):
                os.kill(site.deployers.pids()["p"], signal.SIGKILL)
            site.until(lambda heard=heard: heard.last is not None)
        if heard.fetched:
            break
        assert heard.last == "killed by SIGKILL"
        kills += 1
        if kills == 8:
            server.rule = lambda *_: False
    assert heard.fetched
    assert kills
    assert digest(fetched(tmp_path)) == digest(BODY)


def test_a_deployer_that_is_stopped_is_not_heard_of_and_the_next_one_goes_on(
    site: Site, server: WebServer, tmp_path: Path
) -> None:
    server.rule = slowly
    first = site.start(order(tmp_path, server))
    site.until(lambda: first.progress)
    second = site.start(order(tmp_path, server))
    site.until(lambda: second.last is not None)
    assert second.fetched
    assert first.last is None
    assert fetched(tmp_path) == BODY


def test_a_deployer_that_takes_too_long_ends_by_itself(site: Site, server: WebServer, tmp_path: Path) -> None:
    def endless(_: Request, client: socket.socket) -> bool:
        client.sendall(head(200))
        with suppress(OSError):
            while True:
                client.sendall(b"?" * 100)
                time.sleep(0.02)
        return True

    server.rule = endless
    heard = site.run(order(tmp_path, server, seconds=0.5))
    assert isinstance(heard.last, Ended)
    assert "takes too long" in heard.last.reason
    assert not heard.last.final


def test_links_in_the_place_of_its_files_lead_nowhere(site: Site, server: WebServer, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_bytes(b"precious")
    folder = tmp_path / "downloads" / "p"
    folder.parent.mkdir()
    folder.symlink_to(elsewhere)
    assert site.run(order(tmp_path, server)).fetched
    assert not folder.is_symlink()
    (folder / "bundle.part").unlink()
    (folder / "bundle.part").symlink_to(elsewhere / "precious")
    (folder / "bundle.index").unlink()
    (folder / "bundle.index").mkdir()
    assert site.run(order(tmp_path, server)).fetched
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]
    assert (elsewhere / "precious").read_bytes() == b"precious"


# --- in chunks


def chunks_of(content: bytes) -> list[bytes]:
    return [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)]


def list_of(content: bytes) -> bytes:
    return msgspec.json.encode(
        ChunkList(length=len(content), chunk=CHUNK, hashes=[digest(chunk) for chunk in chunks_of(content)])
    )


def in_chunks(folder: Path, content: bytes = BODY, pipeline: str = "p", **options: object) -> Deploy:
    task = deploy(folder, content, [BundleSource(chunks=digest(list_of(content)))], **options)  # type: ignore[arg-type]
    return msgspec.structs.replace(task, pipeline=pipeline, folder=task.folder.with_name(pipeline))


def send(site: Site, content: bytes, wanted: Lacking) -> None:
    """Send what a deployer lacks, as a sender on MQTT does."""
    if wanted.needs_list:
        site.deployers.chunk(wanted.sha256, -1, list_of(content))
    for first, last in wanted.ranges:
        for index in range(first, last + 1):
            site.deployers.chunk(wanted.sha256, index, chunks_of(content)[index])


def serve(site: Site, content: bytes, *hearing: Heard) -> None:
    """Answer each question until all have ended."""
    answered = 0
    while any(heard.last is None for heard in hearing):
        asked = [lacking for heard in hearing for lacking in heard.lacking]
        for lacking in asked[answered:]:
            send(site, content, lacking)
        answered = len(asked)
        site.turn(0.02)


def test_chunks_become_a_file_whatever_their_order(site: Site, tmp_path: Path) -> None:
    heard = site.start(in_chunks(tmp_path))
    site.until(lambda: heard.lacking)
    assert heard.lacking[0] == Lacking(digest(BODY), [], needs_list=True)
    assert site.deployers.wanted_chunks() == {digest(BODY)}
    site.deployers.chunk(digest(BODY), -1, list_of(BODY))
    site.until(lambda: len(heard.lacking) == 2)
    assert heard.lacking[1].ranges == [(0, len(chunks_of(BODY)) - 1)]
    for index, chunk in reversed(list(enumerate(chunks_of(BODY)))):
        site.deployers.chunk(digest(BODY), index, chunk)
    site.until(lambda: heard.last is not None)
    assert heard.fetched
    assert fetched(tmp_path) == BODY
    assert not site.deployers.wanted_chunks()


def test_one_sender_serves_many_devices(site: Site, tmp_path: Path) -> None:
    tasks = [in_chunks(tmp_path, pipeline=name) for name in ("one", "two", "three")]
    hearing = [site.start(task) for task in tasks]
    site.until(lambda: all(heard.lacking for heard in hearing))
    site.deployers.chunk(digest(BODY), -1, list_of(BODY))
    for index, chunk in enumerate(chunks_of(BODY)):
        site.deployers.chunk(digest(BODY), index, chunk)
    site.until(lambda: all(heard.last is not None for heard in hearing))
    assert all(heard.fetched for heard in hearing)
    assert all((task.folder / "bundle.part").read_bytes() == BODY for task in tasks)


def test_attack_chunks_from_a_stranger_are_counted_and_never_written(site: Site, tmp_path: Path) -> None:
    sha256 = digest(BODY)
    heard = site.start(in_chunks(tmp_path, most_bytes=2 * len(BODY)))
    site.until(lambda: heard.lacking)
    site.deployers.chunk(sha256, -1, list_of(OTHER))
    site.deployers.chunk(sha256, -1, b"[" * 100_000)
    site.deployers.chunk(sha256, -1, list_of(BODY))
    site.until(lambda: len(heard.lacking) == 2)
    right = chunks_of(BODY)
    for index, wrong in ((0, right[1]), (0, right[0][:-1]), (1, b""), (999, right[0]), (2, b"?" * CHUNK)):
        site.deployers.chunk(sha256, index, wrong)
    site.deployers.chunk(digest(OTHER), 0, right[0])
    for index, chunk in enumerate(right[1:], 1):
        site.deployers.chunk(sha256, index, chunk)
    site.until(lambda: len(heard.lacking) == 3)
    assert heard.lacking[2].ranges == [(0, 0)]
    assert fetched(tmp_path)[: len(right[0])].strip(b"\0") == b""
    for _ in range(40):
        site.deployers.chunk(sha256, 0, b"?" * CHUNK)
        site.turn()
    site.until(lambda: heard.last is not None)
    assert isinstance(heard.last, Ended)
    assert "used up" in heard.last.reason
    assert not heard.last.final


def test_chunks_survive_the_end_of_a_deployer(site: Site, tmp_path: Path) -> None:
    heard = site.start(in_chunks(tmp_path, most_bytes=len(BODY) // 2))
    serve(site, BODY, heard)
    assert isinstance(heard.last, Ended)
    assert "used up" in heard.last.reason
    again = site.start(in_chunks(tmp_path))
    site.until(lambda: again.lacking)
    assert not again.lacking[0].needs_list
    assert again.lacking[0].ranges[0][0] > 5
    serve(site, BODY, again)
    assert again.fetched
    assert fetched(tmp_path) == BODY


def test_chunks_fill_what_a_server_left_and_correct_it(site: Site, server: WebServer, tmp_path: Path) -> None:
    wrong = b"?" * (2 * CHUNK) + BODY[2 * CHUNK :]

    def rule(_: Request, client: socket.socket) -> bool:
        first = len(server.requests) == 1
        client.sendall(answer(200, wrong)[: CHUNK // 2 - 8 * CHUNK] if first else answer(404))
        return True

    server.rule = rule
    sources = [BundleSource(url=server.url()), BundleSource(chunks=digest(list_of(BODY)))]
    heard = site.start(deploy(tmp_path, BODY, sources, Links(allow=(server.url("/"),))))
    serve(site, BODY, heard)
    assert heard.fetched
    assert heard.lacking[1].ranges[0] == (0, 1)
    assert heard.lacking[1].ranges[1][0] > 5
    assert fetched(tmp_path) == BODY


def test_a_list_of_another_file_is_final(site: Site, tmp_path: Path) -> None:
    other = bytes(len(BODY))
    task = deploy(tmp_path, BODY, [BundleSource(chunks=digest(list_of(other)))])
    heard = site.start(task)
    serve(site, other, heard)
    assert isinstance(heard.last, Ended)
    assert heard.last.final
    assert "another SHA-256" in heard.last.reason


# --- patches


def test_memory_is_enough_for_an_older_bundle_that_is_much_larger(
    site: Site, server: WebServer, tmp_path: Path
) -> None:
    older, content = tmp_path / "older.limpet", bytes(1000) * 500
    with older.open("wb") as file:
        file.truncate(LARGEST_PATCHED)
    patch_of = hashlib.sha256(older.read_bytes()).hexdigest()
    patch = zstandard.ZstdCompressor().compress(content)
    server.files = {"/patch": patch}
    source = BundleSource(url=server.url("/patch"), patch_of=patch_of, sha256=digest(patch), length=len(patch))
    assert site.run(
        deploy(tmp_path, content, [source], Links(allow=(server.url("/"),)), {patch_of: older})
    ).fetched
    assert fetched(tmp_path) == content


# --- the sandbox


PROBE = """
import errno, os, socket, sys, resource
from pathlib import Path
import msgspec
from limpet.deployer import confinement, process
from limpet.isolation import sandbox
from limpet.wire.deploy_records import Deploy
task = msgspec.json.decode(sys.argv[1], type=Deploy, dec_hook=lambda kind, value: kind(value))
process.open_all(task)
print(" ".join(sandbox.enter(confinement.permissions(task))))
def attempt(what):
    try:
        what()
        print("done")
    except OSError as error:
        print(errno.errorcode.get(error.errno, "?"))
state = task.folder.parents[1]
attempt(lambda: (state / "secret").read_bytes())
attempt(lambda: (task.folder / "new").write_bytes(b"x"))
attempt(lambda: (task.folder / "bundle.part").open("r+b"))
attempt(lambda: (state / "deployed" / "other.limpet").read_bytes())
attempt(lambda: os.listdir(state))
attempt(lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])), 5).close())
attempt(lambda: socket.create_connection(("127.0.0.1", int(sys.argv[3])), 5).close())
attempt(lambda: socket.create_server(("127.0.0.1", 0)))
attempt(lambda: socket.socket(socket.AF_UNIX))
attempt(lambda: os.kill(os.getppid(), 0))
"""


def test_its_sandbox_leaves_open_the_ports_of_the_allowed_urls_and_no_file(
    server: WebServer, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "deployed").mkdir()
    (tmp_path / "deployed" / "other.limpet").write_bytes(BODY)
    task = order(tmp_path, server)
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = [str(server.port), str(other.getsockname()[1])]
        said = subprocess.run(
            [sys.executable, "-c", PROBE, msgspec.json.encode(task, enc_hook=str), *ports],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
    in_force, *attempts = said
    assert "seccomp" in in_force
    assert "tcp-ports" in in_force
    assert attempts[:5] == ["EACCES"] * 5
    assert attempts[5] == "done"
    assert all(refused in {"EACCES", "EPERM"} for refused in attempts[6:])
    assert len(attempts) == 10


def test_without_a_url_it_has_no_network(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROBE, msgspec.json.encode(in_chunks(tmp_path), enc_hook=str), "9", "9"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert "no-network" in said[0]
    assert said[6] in {"EACCES", "EPERM"}
