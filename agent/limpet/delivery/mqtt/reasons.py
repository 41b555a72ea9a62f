"""Explains why there is no connection, and what to do about it."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limpet.delivery.mqtt.broker_settings import BrokerEndpoint

# X.509 verification errors, as OpenSSL numbers them (x509_vfy.h).
_CERTIFICATE = {
    9: "its certificate is not valid yet; is this device's clock right?",
    10: "its certificate has expired; renew it on the broker, or set this device's clock",
    18: "its certificate is self-signed; set ca_file to that certificate",
    19: "it is signed by an authority that ca_file does not hold",
    20: "it is signed by an authority that ca_file does not hold",
    62: "its certificate is for another host name; use the name in the certificate in url",
    64: "its certificate is for another address; use the name in the certificate in url",
}

# MQTT 5 reason codes of CONNACK and DISCONNECT; paho gives those of 3.1.1 in the same numbers.
_REASONS = {
    0x81: "it calls our packets malformed",
    0x82: "it sees an error of the protocol",
    0x84: "it does not speak this version of MQTT",
    0x85: "it does not accept this client_id; set another one",
    0x86: "it refuses username and password; check username and password_file",
    0x87: "it refuses this client; check username, password_file or the broker's access list",
    0x88: "it says that it is unavailable",
    0x89: "it says that it is busy",
    0x8A: "it has banned this client",
    0x8B: "it is shutting down",
    0x8C: "it offers another way of authentication",
    0x8D: "it missed our keep-alive",
    0x8E: "another client has the same client_id; give each device its own id",
    0x93: "it got more messages at once than it allowed",
    0x95: "a message was larger than it allows; lower batch_bytes or raise the broker's limit",
    0x96: "it limits the rate of messages",
    0x97: "a quota of the broker is used up",
    0x98: "its administrator ended the connection",
    0x9C: "it says: use another server",
    0x9D: "it says: use another server",
    0x9F: "it limits the rate of connections",
    0xA0: "it limits the time of a connection",
}


def refusal(code: int, name: str) -> str:
    """Explain a reason code with which the broker refused or ended the connection."""
    return f"{_REASONS.get(code, 'it gives this reason')} ({name}, 0x{code:02x})"


def silence(trouble: str) -> str:
    """Explain a connection that was closed without an answer. ``trouble`` is the socket's error, if any."""
    if "CERTIFICATE_REQUIRED" in trouble:
        return "TLS: the broker wants a client certificate; set cert_file and key_file"
    if "alert" in trouble:
        return f"TLS: the broker does not accept cert_file: {trouble}"
    return "it closes the connection without an answer"


def failure(error: Exception, endpoint: BrokerEndpoint) -> str:
    """Explain an exception raised while connecting."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = _CERTIFICATE.get(error.verify_code, f"its certificate does not verify: {error.verify_message}")
        return f"TLS: the broker is not trusted: {text}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}; is {endpoint.port} a TLS port, and must there be a cert_file?"
    if isinstance(error, socket.gaierror):
        return f"the name {endpoint.host} cannot be resolved ({error.strerror}); check url and the network"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on port {endpoint.port}; is the broker running, is the port right?"
    if isinstance(error, TimeoutError):
        return "no answer; check the network and firewalls on the way"
    return f"{type(error).__name__}: {error}"
