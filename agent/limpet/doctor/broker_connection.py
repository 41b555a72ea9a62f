"""The connection to the MQTT broker, checked step by step with the reporter's own settings."""

from __future__ import annotations

import socket
import stat
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from limpet.delivery.mqtt import reasons
from limpet.delivery.mqtt.broker_settings import check_files, endpoint, tls_context
from limpet.delivery.mqtt.plain_client import log_in
from limpet.delivery.mqtt.settings import Config, client_id
from limpet.device import directories
from limpet.doctor import certificate
from limpet.doctor.finding import bad, ok, skip, warn
from limpet.errors import ConfigError, TransportError
from limpet.filling import fill

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation

_TIMEOUT = 5.0
_PATIENCE = 0.5
"""Seconds in which a broker refuses a client after the TLS handshake."""
_DAY = 86_400.0
_SOON = 30
"""Days before the end of a certificate from which it should be renewed."""
_AFTER = "the outbox keeps messages until it is full, then drops the oldest"


def connection(installation: Installation) -> Iterator[Finding]:
    """Look at files, network, TLS and login of each MQTT reporter, each only if the one before it is fine."""
    reporters = _reporters(installation)
    if not reporters:
        yield skip("broker", "no usable table [mqtt] is configured")
    for first, second in combinations(reporters, 2):
        yield from _conflict(first, second)
    for one in reporters:
        yield from _one_connection(one, installation.now)


class _Reporter(NamedTuple):
    """An MQTT reporter. ``where`` is the name of its table."""

    where: str
    settings: Config
    client_id: str


def _reporters(installation: Installation) -> list[_Reporter]:
    found: list[_Reporter] = []
    if installation.config is None:
        return found
    wanted = installation.config
    for name, table in wanted.reporters.items():
        if table.kind == "mqtt" and (filled := fill(Config, table.options, table.where, wanted.base, [])):
            found.append(_Reporter(table.where, filled, client_id(filled, wanted.device.id, name)))
    return found


def _conflict(first: _Reporter, second: _Reporter) -> Iterator[Finding]:
    """Look for what two reporters cannot share at one broker."""
    if endpoint(first.settings.url) != endpoint(second.settings.url):
        return
    what = f"{first.where} and {second.where} use {endpoint(first.settings.url)}"
    if first.client_id == second.client_id:
        why = "each ends the other's connection"
        yield bad("broker", f"{what} as {first.client_id!r}", why, "give each its own client_id")
    if first.settings.topic == second.settings.topic:
        why = "every message comes twice, and one reports offline while the other is connected"
        yield bad("broker", f"{what} and the topic {first.settings.topic!r}", why, "give each its own topic")


def _one_connection(reporter: _Reporter, now: float) -> Iterator[Finding]:
    for step in (partial(_files, reporter.where), _network, _tls):
        found = list(step(reporter.settings, now))
        yield from found
        if any(finding.result in {"bad", "skip"} for finding in found):
            return
    yield _login(reporter)


def _files(where: str, settings: Config, now: float) -> Iterator[Finding]:
    named = (settings.password_file, settings.ca_file, settings.cert_file, settings.key_file)
    if closed := [str(path) for path in named if path and not _may_read(directories.credential(path))]:
        # A file for LoadCredential= belongs to root alone, as it should.
        yield skip("broker", f"{', '.join(closed)} cannot be read by this user. Run this as root, with --user")
        return
    try:
        check_files(settings)
    except ConfigError as error:
        fix = "make it readable for the service's user, or name it with LoadCredential= in the unit"
        for problem in error.problems:
            yield bad("broker", f"{where}.{problem}", "the daemon ends with status 78", fix)
        return
    for path in filter(None, (settings.password_file, settings.key_file)):
        yield from _secret(directories.credential(path))
    if settings.cert_file:
        yield _own_certificate(directories.credential(settings.cert_file), now)


def _may_read(path: Path) -> bool:
    """Whether permissions allow to read the file. It may be missing."""
    try:
        path.open("rb").close()
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def _secret(path: Path) -> Iterator[Finding]:
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        shown = f"{path} has mode {stat.S_IMODE(mode):o}"
        yield warn("broker", shown, "others may read or change the secret", f"sudo chmod 640 {path}")


def _own_certificate(path: Path, now: float) -> Finding:
    try:
        return _expiry(f"the device's certificate {path}", certificate.expires(path), now)
    except ValueError as error:
        return bad(
            "broker", str(error), "the device cannot identify itself", "put a certificate in PEM form there"
        )


def _expiry(what: str, end: float, now: float) -> Finding:
    days = int((end - now) // _DAY)
    if days < 0:
        return bad("tls", f"{what} expired {-days} days ago", "TLS refuses it", "renew it; or is the clock wrong?")
    if days < _SOON:
        return warn("tls", f"{what} expires in {days} days", "after that, there is no connection", "renew it")
    return ok("tls", f"{what} is valid for {days} days")


def _network(settings: Config, _now: float) -> Iterator[Finding]:
    to = endpoint(settings.url)
    try:
        socket.create_connection((to.host, to.port), _TIMEOUT).close()
    except OSError as error:
        fix = f"start the broker or correct url; `nc -vz {to.host} {to.port}` tries the same"
        yield bad("broker", f"{to}: {reasons.failure(error, to)}", _AFTER, fix)
    else:
        yield ok("broker", f"{to} answers")


def _tls(settings: Config, now: float) -> Iterator[Finding]:
    to = endpoint(settings.url)
    if not to.tls:
        if not _is_local(to.host):
            why = "anyone on the network can read and change messages and the password"
            yield warn("tls", f"{to} is not encrypted", why, "use mqtts:// and ca_file")
        return
    try:
        with (
            socket.create_connection((to.host, to.port), _TIMEOUT) as plain,
            tls_context(settings).wrap_socket(plain, server_hostname=to.host) as secure,
        ):
            version = secure.version() or "TLS"
            der = secure.getpeercert(binary_form=True) or b""
            refusal = _refusal(secure)
    except (OSError, TransportError) as error:
        reason = str(error) if isinstance(error, TransportError) else reasons.failure(error, to)
        yield bad("tls", reason, _AFTER, "check ca_file, cert_file and key_file, and the clock")
    else:
        yield _expiry(f"{version}; the broker's certificate", certificate.not_after(der), now)
        if refusal:
            yield bad("tls", refusal, _AFTER, "set cert_file and key_file to what the broker accepts")


def _refusal(secure: ssl.SSLSocket) -> str:
    """Return why the broker refuses our certificate. In TLS 1.3 it says so only after the handshake.

    A broker that is content waits for our first packet.
    """
    secure.settimeout(_PATIENCE)
    try:
        secure.recv(1)
    except TimeoutError:
        return ""
    except OSError as error:
        return reasons.silence(str(error))
    return reasons.silence("")


def _is_local(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def _login(reporter: _Reporter) -> Finding:
    name = f"{reporter.client_id}-doctor"
    try:
        client, version = log_in(reporter.settings, name)
    except TransportError as error:
        return bad("broker", f"login as {name}: {error}", _AFTER, "read the broker's log")
    client.disconnect()
    return ok("broker", f"login with MQTT {version}")
