"""The local API: what it needs, who can reach it, and whether another program has its port."""

from __future__ import annotations

import stat
from importlib.util import find_spec
from typing import TYPE_CHECKING

from limpet.device import directories
from limpet.doctor import running_daemon
from limpet.doctor.finding import bad, ok, warn
from limpet.errors import LimpetError
from limpet.extras import install_extra
from limpet.gateway import files
from limpet.gateway.http import addresses
from limpet.gateway.otlp import collector_files
from limpet.tables import listen_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation
    from limpet.doctor.running_daemon import DeviceState
    from limpet.tables import ApiTable

_CHECK = "api"
_NOT_STARTED = "the local API does not start"
_PACKAGES = {
    "api": ("uvicorn", "starlette", "wsproto"),
    "api-grpc": ("grpc", "google.protobuf"),
    "otel": ("opentelemetry.proto", "urllib3"),
}


def local_api(installation: Installation) -> Iterator[Finding]:
    """Check what the local API needs."""
    table = installation.config.api if installation.config is not None else None
    if table is None:
        return
    found = [
        *(
            bad(_CHECK, what, "the local API does not start", "correct that, and reload")
            for what in problems(table)
        ),
        *risks(table),
        *_ports(installation, table),
    ]
    yield from found or [ok(_CHECK, "the local API can listen")]


def problems(table: ApiTable) -> list[str]:
    """Return why the local API could not start, with keys. Files that this user may not read are left out."""
    return [*_missing(table), *_files(table)]


def _missing(table: ApiTable) -> Iterator[str]:
    wanted = {"api": "", "api-grpc": ".grpc" if table.grpc else None, "otel": ".otlp" if table.otlp else None}
    for extra, key in wanted.items():
        if key is not None and (names := [name for name in _PACKAGES[extra] if not _is_there(name)]):
            yield f"api{key}: {', '.join(names)} are not installed: {install_extra(extra)}"


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False


def _files(table: ApiTable) -> Iterator[str]:
    for read in (files.read_tokens, files.read_pem, files.tls, _collector_files):
        try:
            read(table)
        except LimpetError as error:
            # A file for LoadCredential= belongs to root alone, as it should.
            if not isinstance(error.__cause__, PermissionError):
                yield str(error)
                return


def _collector_files(table: ApiTable) -> None:
    if table.otlp is not None:
        collector_files.read(table.otlp)


def risks(table: ApiTable) -> Iterator[Finding]:
    """Return what is allowed, and not good."""
    far = [text for text in (*table.listen, *table.grpc) if not listen_address(text).is_local]
    if far and table.certificate is None:
        why = "anyone on the network can read tokens, results and pictures"
        yield warn(_CHECK, f"{', '.join(far)} has no TLS", why, "set certificate and key in [api]")
    try:
        if table.token_file is not None and not files.read_tokens(table):
            fix = f"limpet token NAME >> {table.token_file}"
            yield warn(_CHECK, f"{table.token_file} has no token", "no client can log in", fix)
    except LimpetError:
        return  # `problems` has it.
    yield from _modes(table)


def _modes(table: ApiTable) -> Iterator[Finding]:
    """Return files that others could change, or a key that others could read."""
    for path, closed in (
        (table.token_file, stat.S_IWOTH | stat.S_IWGRP),
        (table.key, stat.S_IRWXO | stat.S_IWGRP),
    ):
        where = path and directories.credential(path)
        if where and where.is_file() and (mode := stat.S_IMODE(where.stat().st_mode)) & closed:
            yield warn(_CHECK, f"{where} has mode {mode:o}", "others may read or change it", f"chmod 640 {where}")


def _ports(installation: Installation, table: ApiTable) -> Iterable[Finding]:
    """Look for programs that have the ports. If the daemon runs, it says how its local API is."""
    try:
        said = running_daemon.lines(installation)
        if said is not None:
            yield from _of_daemon(running_daemon.device(said), table)
            return
    except LimpetError:
        return
    for text in (*table.listen, *table.grpc):
        try:
            addresses.listen(text).close()
        except addresses.ListenError as error:
            yield bad(_CHECK, str(error), _NOT_STARTED, _fix(text))


def _of_daemon(device: DeviceState | None, table: ApiTable) -> Iterator[Finding]:
    if device is None:
        return
    if device.api is None:
        fix = "sudo systemctl reload limpet, or restart `limpet run`"
        yield warn(_CHECK, "the running daemon has no local API", "the file changed since then", fix)
    elif device.api.state == "failed":
        problem = device.api.problem
        taken = [text for text in (*table.listen, *table.grpc) if problem.startswith(f"{text}: ")]
        fix = _fix(taken[0]) if taken else "correct that; the daemon tries again by itself"
        yield bad(_CHECK, problem, "the local API does not run", fix)


def _fix(address: str) -> str:
    return f"sudo ss -ltnp 'sport = :{listen_address(address).port}'"
