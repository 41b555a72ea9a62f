"""Keys and certificates, by the package ``cryptography``. No files.

Keys are ECDSA P-256. A certificate of a device or person can only log in. That of a broker can only be a server.
So no device can pass for the broker.
"""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from cryptography.x509 import Certificate, CertificateSigningRequest

    PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

EARLIER = timedelta(days=1)
"""How long before now a certificate begins: clocks of devices are late."""

_SMALLEST_RSA = 2048
_KINDS = (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, rsa.RSAPublicKey)


class Authority(NamedTuple):
    """A certificate authority."""

    certificate: Certificate
    key: ec.EllipticCurvePrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, not encrypted."""
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the private key of a PEM file. ``UnreadableError``."""
    with reading("the private key"):
        key = load_pem_private_key(pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise UnreadableError("the private key is no ECDSA key")
    return key


def certificate_pem(certificate: Certificate) -> bytes:
    """Return a certificate as PEM."""
    pem: bytes = certificate.public_bytes(Encoding.PEM)
    return pem


def read_certificate(pem: bytes) -> Certificate:
    """Return the first certificate of a PEM file. ``UnreadableError``."""
    with reading("the certificate"):
        return x509.load_pem_x509_certificate(pem)


def new_authority(name: str, days: int) -> Authority:
    """Return a new authority, which can sign no other one."""
    key = new_key()
    builder = _builder(_name(name), _name(name), key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def issue_client(authority: Authority, name: str, public: PublicKey, days: int) -> Certificate:
    """Return a certificate with which a device or person logs in."""
    return _issue(authority, name, public, days, ExtendedKeyUsageOID.CLIENT_AUTH, ())


def issue_broker(authority: Authority, hosts: Sequence[str], public: PublicKey, days: int) -> Certificate:
    """Return a certificate of a broker, which is reached under these host names and addresses."""
    return _issue(authority, hosts[0][:64], public, days, ExtendedKeyUsageOID.SERVER_AUTH, hosts)


def new_request(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a signing request for a device as PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(name))
    pem: bytes = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return pem


def read_request(pem: bytes) -> tuple[str, PublicKey]:
    """Return the common name and the key of a signing request. All else in it is ignored. ``UnreadableError``."""
    with reading("the signing request"):
        request = x509.load_pem_x509_csr(pem)
        valid = request.is_signature_valid
        names = [str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if not valid:
        raise UnreadableError("the signing request is not signed with its own key")
    if len(names) != 1:
        raise UnreadableError(f"the signing request has {len(names)} common names; 1 is expected")
    return names[0], _strong(request)


def _strong(request: CertificateSigningRequest) -> PublicKey:
    with reading("the key of the signing request"):
        key = request.public_key()
    smallest = _SMALLEST_RSA if isinstance(key, rsa.RSAPublicKey) else 256
    if not isinstance(key, _KINDS) or _size(key) < smallest:
        raise UnreadableError("the key of the signing request is too weak. Use ECDSA P-256, Ed25519 or RSA 2048")
    return key


def _size(key: PublicKey) -> int:
    """Return the bits of a key."""
    return 256 if isinstance(key, ed25519.Ed25519PublicKey) else key.key_size


def fingerprint(public: PublicKey) -> str:
    """Return the SHA-256 of a public key, so that people can compare it."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def expires(certificate: Certificate) -> datetime:
    """Return the end of a certificate's validity."""
    end: datetime = certificate.not_valid_after_utc
    return end


def _issue(  # noqa: PLR0913, PLR0917 - what a certificate has
    authority: Authority,
    name: str,
    public: PublicKey,
    days: int,
    purpose: x509.ObjectIdentifier,
    hosts: Sequence[str],
) -> Certificate:
    builder = _builder(_name(name), authority.certificate.subject, public, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, hosts))), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def _builder(subject: x509.Name, issuer: x509.Name, public: PublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=public)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - EARLIER).not_valid_after(now + timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
