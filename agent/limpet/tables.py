"""Tables of a configuration that a device needs only for some of its work: trust, updates, the local API."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta

from limpet.contracts.fields import Count, Positive, Share
from limpet.contracts.updates import UpdateWindow

if TYPE_CHECKING:
    from limpet.updates.address import Address

_MODEL = re.compile(r"(?!.*\.(limpet|tflite)\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,63}(@[0-9]{1,16})?\Z")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
MOST_CONNECTIONS = 384
"""More than that, and the gateway could run out of file descriptors, of which it has 512."""


class TrustTable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``[trust]``: whose models this device runs."""

    root: Path
    """The root of trust, as `limpet-convert root` writes it. With it, only signed models run. Example:
    `"root.json"`."""
    signed_requests: bool = False
    """Whether requests over the network must be signed by an operator's key, too. They can then not be withdrawn,
    only replaced."""


class UpdatesTable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``[updates]``: models over the network. Without this table, models come from local files alone."""

    allow: list[str] = []
    """How the URLs must begin that bundles are fetched from. Default: none, so bundles come over MQTT. Example:
    `["https://models.example.com/"]`."""
    disk_bytes: Count = 512_000_000
    """Bytes that downloads and deployed bundles may take in all."""
    bytes_per_day: Count | None = None
    """Bytes that may be fetched in a day, for a metered link. Default: no limit. Example: `50_000_000`."""
    bytes_per_second: Positive | None = None
    """How fast bundles are fetched. Default: no limit. Example: `100_000`."""
    window: UpdateWindow = UpdateWindow()
    """When a new model may be put to work. The request may narrow it. Default: at any time. Example: `{ begin =
    "02:00", end = "04:00" }`."""
    ca_file: Path | None = None
    """Certificates of the authorities that servers are checked against. Default: the system's. Example:
    `"ca.pem"`."""
    certificate: Path | None = None
    """Client certificate for servers. Example: `"device.pem"`."""
    key: Path | None = None
    """Private key of the client certificate. Example: `"device.key"`."""
    proxy: str = ""
    """HTTP proxy, as a URL. Default: none. Example: `"http://proxy:3128"`."""
    encryption_key_file: Path | None = None
    """File with 32 bytes that encrypt deployed bundles on the disk. A bare name is one of systemd's credentials.
    Default: they are not encrypted. Example: `"bundle-key"`."""

    def __post_init__(self) -> None:
        from limpet.updates import address  # only where it is used: the idle daemon needs none of it

        for entry in self.allow:
            try:
                address.parse(entry)
            except ValueError as error:
                raise ValueError(f'allow has "{entry}": {error}') from error
            if "?" in entry:
                raise ValueError(f'allow has "{entry}": leave out what follows the "?"')
        if self.proxy and not self.proxy.startswith("http://"):
            raise ValueError('proxy must begin with "http://"')


class OtlpTable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``otlp`` of ``[api]``: metrics and traces for an OpenTelemetry collector."""

    url: str
    """Where the collector takes OTLP over HTTP, without `/v1/metrics`. Example: `"http://127.0.0.1:4318"`."""
    interval: Positive = 60.0
    """Seconds between two exports of metrics."""
    traces: Share = 0.0
    """Share of the windows, 0 to 1, whose way is exported as a trace. Default: none. Example: `0.001`."""
    ca_file: Path | None = None
    """Certificates of the authorities that the collector is checked against. Default: the system's. Example:
    `"ca.pem"`."""
    headers_file: Path | None = None
    """File with a header a line, as `Authorization: Bearer ...`. A bare name is one of systemd's credentials.
    Default: none. Example: `"otlp-headers"`."""

    def __post_init__(self) -> None:
        at = self.address
        if self.headers_file is not None and at.scheme == "http" and not at.is_local:
            raise ValueError(
                "headers_file holds secrets, so url must begin with `https://` or lead to this device"
            )

    @property
    def address(self) -> Address:
        """What ``url`` leads to. ``ValueError`` says what is wrong with it."""
        from limpet.updates import address  # only where it is used: the idle daemon needs none of it

        try:
            found = address.parse(self.url)
        except ValueError as error:
            raise ValueError(f'url "{self.url}": {error}') from error
        if "?" in self.url:
            raise ValueError(f'url "{self.url}": leave out what follows the "?"')
        return found


class ApiTable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``[api]``: the local API, metrics and the page. Without this table the device opens no port."""

    listen: list[str] = msgspec.field(default_factory=lambda: ["127.0.0.1:7470"])
    """Addresses and ports for HTTP. One that is not of this device alone needs `token_file` or `client_ca`.
    Example: `["127.0.0.1:7470", "[::1]:7470"]`."""
    socket: bool = True
    """Whether programs on this device can use the Unix socket `api.sock` in the runtime or state directory."""
    grpc: list[str] = []
    """Addresses and ports for the Open Inference Protocol over gRPC. Default: none. Example:
    `["127.0.0.1:7471"]`."""
    token_file: Path | None = None
    """File with the hashes of tokens, as `limpet token` writes it. With it, all but the Unix socket needs a token.
    A bare name is one of systemd's credentials. Default: no token. Example: `"api-tokens"`."""
    certificate: Path | None = None
    """Certificate of the server, for HTTPS. Example: `"device.pem"`."""
    key: Path | None = None
    """Private key of the certificate. A bare name is one of systemd's credentials. Example: `"device.key"`."""
    client_ca: Path | None = None
    """Certificates of the authorities whose client certificates are accepted in place of a token. Example:
    `"ca.pem"`."""
    hosts: list[str] = []
    """Further names under which clients reach this device, or IPv4 addresses of a router or host that forwards to
    it. Its own addresses, its host name and `localhost` are known. Example: `["press-07.example.com"]`."""
    models: list[str] = []
    """Models of the store that clients may use beside those of the pipelines: `NAME` or `NAME@VERSION`. Example:
    `["mobilenet"]`."""
    load: bool = False
    """Whether clients may load and unload any model of the store."""
    delegates: Annotated[list[str], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["cpu"])
    """Delegates that the models of `models` and `load` are tried on, in this order."""
    most_models: Count = 4
    """Models that are loaded at once beside those of the pipelines."""
    request_bytes: Count = 16_000_000
    """Bytes that one request may have, tensors and all."""
    requests_per_second: Positive = 2000.0
    """Requests that one client gets answered a second. A burst may have twice as many."""
    connections: Annotated[int, Meta(ge=1, le=MOST_CONNECTIONS)] = 128
    """Connections that are open at once. One client of the network gets a quarter of them."""
    otlp: OtlpTable | None = None
    """Metrics and traces for an OpenTelemetry collector. Default: none. Example: `{ url =
    "http://127.0.0.1:4318" }`."""

    def __post_init__(self) -> None:
        if not (self.listen or self.grpc or self.socket):
            raise ValueError("listen and grpc are empty, and socket is false: then no client can connect")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: set both")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs TLS: set certificate and key, too")
        if self.load and not self.protected and not self.socket:
            raise ValueError("load needs clients that may control: set token_file, client_ca, or socket = true")
        self._refuse_names()
        seen: set[ListenAddress] = set()
        for key, entries in (("listen", self.listen), ("grpc", self.grpc)):
            for entry in entries:
                address = self._address(key, entry)
                if address in seen:
                    raise ValueError(f'{key} has "{entry}", which is there before')
                seen.add(address)

    def _refuse_names(self) -> None:
        for text in self.models:
            if not _MODEL.fullmatch(text):
                raise ValueError(f'models has "{text}": write NAME or NAME@VERSION, a model of the store')
        for name in self.hosts:
            if not _HOST.fullmatch(name):
                raise ValueError(f'hosts has "{name}": write a name without a port, such as "device.example"')

    @property
    def protected(self) -> bool:
        """Whether clients over TCP need a token or a certificate."""
        return self.token_file is not None or self.client_ca is not None

    def _address(self, key: str, entry: str) -> ListenAddress:
        try:
            address = listen_address(entry)
        except ValueError as error:
            raise ValueError(f'{key} has "{entry}": {error}') from error
        if not (address.is_local or self.protected):
            raise ValueError(
                f'{key} has "{entry}", which other machines can reach: set token_file or client_ca. '
                "To make a token, run: limpet token NAME"
            )
        return address


class ListenAddress(NamedTuple):
    """Where a server listens. ``host`` is an IP address."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether programs on this device alone can reach it."""
        return ipaddress.ip_address(self.host).is_loopback


def listen_address(text: str) -> ListenAddress:
    """Return the parts of an address such as ``127.0.0.1:7470`` or ``[::1]:7470``. ``ValueError``."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 1 << 16):
        raise ValueError("write an IP address, a colon, and a port from 1 to 65535")
    has_brackets = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if has_brackets else host)
    except ValueError:
        raise ValueError('write an IP address, such as "127.0.0.1:7470" or "[::1]:7470"') from None
    if (address.version == 6) != has_brackets:
        raise ValueError("an IPv6 address is in brackets, and an IPv4 address is not")
    return ListenAddress(str(address), int(port))
