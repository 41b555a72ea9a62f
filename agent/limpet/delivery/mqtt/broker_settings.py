"""How to reach a broker: address, credentials and TLS, as configured."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from limpet import text_file
from limpet.contracts.fields import Positive
from limpet.device import directories
from limpet.errors import ConfigError, NoAccessError, TransportError, UnreadableError
from limpet.untrusted import open_file, read_file

_LONGEST = 65_540
"""Bytes of a file with a password; MQTT takes 65,535 and a file may have a mark and line ends."""
SECRETS_INTERVAL = 5.0
"""Seconds between two checks whether a file with a secret was replaced."""

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}


class BrokerEndpoint(NamedTuple):
    """Where a URL leads. ``path`` is that of a websocket, empty for plain TCP."""

    host: str
    port: int
    tls: bool
    path: str

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class BrokerSettings(msgspec.Struct, kw_only=True):
    """A broker and how to log in. Secrets are in files, or in systemd's credentials of the same names."""

    url: str
    """`mqtt://`, `mqtts://` (TLS), `ws://` or `wss://` with host and port. Example:
    `"mqtts://broker.example:8883"`."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """MQTT version. `"auto"`: 5, and 3.1.1 if the broker does not know 5."""
    client_id: Annotated[str, Meta(max_length=1000)] = ""
    """Client id at the broker. Default: `limpet-ID`; `limpet-ID:NAME` in `[reporters.NAME]`. Example:
    `"press-07"`."""
    username: str = ""
    """User name at the broker. Default: none (anonymous login). Example: `"press-07"`."""
    password_file: Path | None = None
    """File with the password alone on one line. Default: no password. Example: `"mqtt-password"`."""
    ca_file: Path | None = None
    """File with the certificate authorities to trust. Default: the system's. Example: `"/etc/limpet/ca.pem"`."""
    cert_file: Path | None = None
    """File with the device's own certificate. Default: none. Example: `"device.pem"`."""
    key_file: Path | None = None
    """File with the private key of `cert_file`. Default: none. Example: `"device.key"`."""
    keepalive: Annotated[int, Meta(ge=1, le=65535)] = 30
    """Seconds of the MQTT keep alive."""
    reconnect_max: Positive = 60.0
    """Longest pause in seconds between two attempts to connect."""
    session_expiry: Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)] = 3600
    """Seconds for which the broker keeps subscriptions, and commands that came, while the device is away."""
    alpn: list[str] = []
    """Protocols to offer in TLS, for brokers that share port 443. Example: `["x-amzn-mqtt-ca"]`."""

    def __post_init__(self) -> None:
        tls = endpoint(self.url).tls
        if not tls and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError("ca_file, cert_file and key_file go with mqtts:// or wss://")
        if self.key_file and not self.cert_file:
            raise ValueError("key_file goes with cert_file")
        if self.password_file and not self.username:
            raise ValueError("password_file goes with username")


def endpoint(url: str) -> BrokerEndpoint:
    """Return the parts of a broker's URL. ``ValueError`` says what is wrong with it."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("url: holds no credentials; set username, and password_file to a file with the password")
    if parts.scheme not in _PORTS:
        raise ValueError(f"url: {url!r} must start with one of mqtt://, mqtts://, ws://, wss://")
    if not parts.hostname:
        raise ValueError(f"url: {url!r} names no host")
    websocket = parts.scheme in ("ws", "wss")
    if parts.query or parts.fragment or (parts.path.strip("/") and not websocket):
        raise ValueError(f"url: nothing may follow host and port in {url!r}; topics have their own root, limpet/")
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError:
        raise ValueError(f"url: the port in {url!r} must be a number from 1 to 65535") from None
    path = (parts.path or "/mqtt") if websocket else ""
    return BrokerEndpoint(parts.hostname, port, parts.scheme in ("mqtts", "wss"), path)


def _target(path: Path) -> Path:
    """Return the file that a link leads to: Kubernetes and systemd provide secrets as links."""
    return Path(os.path.realpath(path))


def check_files(broker: BrokerSettings) -> None:
    """Check that the files exist and can be read. ``ConfigError`` names each that cannot.

    ``NoAccessError`` if this user may not open them, and nothing else is wrong.
    """
    problems, denied = [], []
    for key in ("password_file", "ca_file", "cert_file", "key_file"):
        path: Path | None = getattr(broker, key)
        try:
            if path:
                open_file(_target(directories.credential(path))).close()
        except PermissionError as error:
            denied.append(f"{key}: {path}: {error.strerror}")
        except OSError as error:
            problems.append(f"{key}: {path}: {error.strerror}")
        except UnreadableError as error:
            problems.append(f"{key}: {error}")
    if problems:
        raise ConfigError(problems + denied)
    if denied:
        raise NoAccessError(denied)


def password(broker: BrokerSettings) -> str | None:
    """Read the password, without the line break that editors put at its end. ``TransportError``."""
    if broker.password_file is None:
        return None
    path = directories.credential(broker.password_file)
    try:
        return text_file.secret(read_file(_target(path), _LONGEST))
    except UnicodeDecodeError as error:
        # Its own text would show a part of the password.
        raise TransportError(f"the password cannot be read from {path}: it is not UTF-8") from error
    except (OSError, ValueError, UnreadableError) as error:
        raise TransportError(f"the password cannot be read from {path}: {error}") from error


def tls_context(broker: BrokerSettings) -> ssl.SSLContext:
    """Make a TLS context that trusts ``ca_file``, or the system's authorities. ``TransportError``."""
    try:
        ca_file = directories.credential(broker.ca_file) if broker.ca_file else None
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if broker.alpn:
            context.set_alpn_protocols(broker.alpn)
        if broker.cert_file:
            key = directories.credential(broker.key_file) if broker.key_file else None
            context.load_cert_chain(directories.credential(broker.cert_file), key)
    except (OSError, ssl.SSLError) as error:
        raise TransportError(f"ca_file, cert_file or key_file cannot be used: {error}") from error
    return context


def secrets_version(broker: BrokerSettings) -> tuple[int, ...]:
    """Return what changes when a file with a certificate, a key or a password is replaced."""
    versions: list[int] = []
    for path in (broker.ca_file, broker.cert_file, broker.key_file, broker.password_file):
        with suppress(OSError):
            if path:
                status = directories.credential(path).stat()
                versions += [status.st_mtime_ns, status.st_ino, status.st_size]
    return tuple(versions)


class SecretsWatch:
    """Notices when a file with a certificate, a key or a password is replaced after a connection is made."""

    def __init__(self, broker: BrokerSettings, now: float) -> None:
        self._broker = broker
        self._version = secrets_version(broker)
        self._check_at = now + SECRETS_INTERVAL

    def replaced(self, now: float) -> bool:
        """Whether any file is another one now. Checks every ``SECRETS_INTERVAL`` seconds."""
        if now < self._check_at:
            return False
        self._check_at = now + SECRETS_INTERVAL
        return secrets_version(self._broker) != self._version
