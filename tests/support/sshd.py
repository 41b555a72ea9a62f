"""A real sshd on a free port of the loopback, that lets in one key of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from support.broker import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Sshd:
    """Where it listens, and the configuration that lets ``ssh -F`` in."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.config = folder / "ssh_config"
        self.log = folder / "sshd.log"
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, timeout=20
            )
        key = (folder / "host.pub").read_text().split()[:2]
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {' '.join(key)}\n")
        self._write_server()
        self.config.write_text(
            f"IdentityFile {folder}/user\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"UserKnownHostsFile {folder}/known_hosts\nGlobalKnownHostsFile none\nLogLevel ERROR\n"
        )

    def _write_server(self) -> None:
        allowed = self.folder / "authorized_keys"
        shutil.copy(self.folder / "user.pub", allowed)
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {allowed}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        )

    def url(self, **options: str) -> str:
        query = "&".join(f"{key}={value}" for key, value in ({"config": str(self.config)} | options).items())
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}?{query}"

    def listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    server = Sshd(folder)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd of root insists on it
    command = [shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or "sshd"]
    process = subprocess.Popen([*command, "-D", "-E", server.log, "-f", folder / "sshd_config"])
    try:
        wait_until(server.listens)
        yield server
    finally:
        process.terminate()
        process.wait(10)
