"""A process that fetches one request after the other, as a deployer does, with short pauses and without a sandbox.

The environment of the process names proxies that do not work: a deployer does not ask the environment.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.backoff import Backoff
from limpet.contracts.updates import BundleSource, DesiredModel
from limpet.deployer import process
from limpet.deployer.fetching import Fetching
from limpet.wire.channel import Channel
from limpet.wire.deploy_records import Chunk, Deploy, Ended, Links

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parent.parent


def deploy(  # noqa: PLR0917 - what differs from test to test
    folder: Path,
    content: bytes,
    sources: Sequence[BundleSource],
    links: Links | None = None,
    bases: Mapping[str, Path] | None = None,
    seconds: float = 60.0,
    most_bytes: int = 1 << 30,
) -> Deploy:
    """Return the order to fetch this content for the pipeline ``p``. ``folder`` is the state directory."""
    request = DesiredModel(
        model="motion", version=2, sha256=digest(content), length=len(content), sources=list(sources)
    )
    place = folder / "downloads" / "p"
    return Deploy("p", request, place, dict(bases or {}), links or Links(), seconds, most_bytes)


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


class Fetcher:
    """The far end of such a process."""

    def __init__(self) -> None:
        nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.fetcher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **nowhere, "PYTHONPATH": str(ROOT)},
        )

    def fetch(self, task: Deploy) -> Ended:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(msgspec.json.encode(task, enc_hook=str) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"it ended with {self._process.wait()}"
        return msgspec.json.decode(line, type=Ended)

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def main() -> None:
    for line in sys.stdin.buffer:
        task = msgspec.json.decode(line, type=Deploy, dec_hook=_path)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            supervisor: Channel[Chunk] = Channel(ours, Chunk)
            opened = process.open_all(task)
            ended = Fetching(task, opened, supervisor, Backoff(0.002, 0.002)).run()
            for descriptor in (*chain.from_iterable(opened.files.values()), *opened.bases.values()):
                os.close(descriptor)
        sys.stdout.buffer.write(msgspec.json.encode(ended) + b"\n")
        sys.stdout.buffer.flush()


def _path(kind: type, value: Any) -> Any:
    return kind(value)


if __name__ == "__main__":
    main()
