"""The folder of a certificate authority: its own files, and those of each device, person and broker."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from limpet.enrolment import certificates, names
from limpet.enrolment.certificates import Authority
from limpet.errors import LimpetError, UnreadableError
from limpet.untrusted import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509 import Certificate

    from limpet.enrolment.names import Role

LARGEST = 1 << 16
"""Bytes of a key, a certificate or a signing request."""
DEVICES, PEOPLE, BROKERS = "devices", "people", "brokers"


class Issued(NamedTuple):
    """Files that were written. ``key`` is ``None`` if the key is elsewhere."""

    certificate: Path
    key: Path | None
    expires: str


class AuthorityFolder:
    """``ca.pem`` and ``ca.key``, and the folders ``devices``, ``people`` and ``brokers``.

    All methods raise ``LimpetError`` that says what is wrong and what to do, and ``OSError`` as from ``open``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def certificate(self) -> Path:
        """The certificate of the authority."""
        return self._path / "ca.pem"

    def create(self, name: str, days: int) -> Issued:
        """Make a new authority. One that is there is never replaced."""
        key = self._path / "ca.key"
        if key.exists() or self.certificate.exists():
            raise LimpetError(f"{self._path} has an authority already. Use another --folder for a new one")
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = certificates.new_authority(name, days)
        write_secret(key, certificates.key_pem(authority.key))
        return self._write(authority.certificate, self.certificate, key)

    def device(self, name: str, days: int, *, renew: bool) -> Issued:
        """Issue the certificate of a device with a key that is made here. ``renew``: with the key it has."""
        return self._client(self._path / DEVICES / names.device(name), names.device(name), days, renew=renew)

    def person(self, role: Role, name: str, days: int, *, renew: bool) -> Issued:
        """Issue the certificate of a person or program."""
        common = names.person(role, name)
        return self._client(self._path / PEOPLE / common.replace(":", "@"), common, days, renew=renew)

    def broker(self, hosts: Sequence[str], days: int, *, renew: bool) -> Issued:
        """Issue the certificate of a broker."""
        authority = self.authority()
        base = self._path / BROKERS / names.host(hosts[0]).replace(":", "_")
        key, path = self._key(base, renew=renew)
        checked = list(map(names.host, hosts))
        certificate = certificates.issue_broker(authority, checked, key.public_key(), days)
        return self._write(certificate, _beside(base, ".pem"), path)

    def sign(self, request: bytes, expected: str, days: int) -> tuple[Issued, str]:
        """Issue a certificate for a device that made its own key. Return also the key's fingerprint.

        ``expected`` is the id of the device, as the person knows it who signs.
        """
        common, public = certificates.read_request(request)
        if common != names.device(expected):
            raise LimpetError(f"the request is for {common[:100]!r}, not for {expected!r}. Nothing was signed")
        certificate = certificates.issue_client(self.authority(), common, public, days)
        path = _beside(self._path / DEVICES / common, ".pem")
        if _beside(self._path / DEVICES / common, ".key").exists():
            raise LimpetError(f"{path.with_suffix('.key')} is there: this device has a key that was made here")
        return self._write(certificate, path, None), certificates.fingerprint(public)

    def people(self) -> list[tuple[Role, str]]:
        """Return roles and common names of all people and programs with a certificate."""
        files = [path.name.removesuffix(".pem").partition("@") for path in (self._path / PEOPLE).glob("*.pem")]
        return sorted(
            (known, names.person(known, name)) for role, _, name in files for known in names.ROLES if role == known
        )

    def authority(self) -> Authority:
        """Read the authority."""
        try:
            certificate = certificates.read_certificate(read_file(self.certificate, LARGEST))
            key = certificates.read_key(read_file(self._path / "ca.key", LARGEST))
        except FileNotFoundError as error:
            raise LimpetError(
                f"there is no authority in {self._path}. Run: limpet enroll ca --folder {self._path}"
            ) from error
        if key.public_key() != certificate.public_key():
            raise LimpetError(f"ca.key and ca.pem in {self._path} do not belong together")
        return Authority(certificate, key)

    def _client(self, base: Path, common: str, days: int, *, renew: bool) -> Issued:
        authority = self.authority()
        key, path = self._key(base, renew=renew)
        certificate = certificates.issue_client(authority, common, key.public_key(), days)
        return self._write(certificate, _beside(base, ".pem"), path)

    @staticmethod
    def _key(base: Path, *, renew: bool) -> tuple[ec.EllipticCurvePrivateKey, Path]:
        path = _beside(base, ".key")
        if renew:
            try:
                return certificates.read_key(read_file(path, LARGEST)), path
            except FileNotFoundError as error:
                raise LimpetError(
                    f"there is no key {path}. If it is on the device, run there: limpet enroll request"
                ) from error
        if path.exists() or _beside(base, ".pem").exists():
            raise LimpetError(f"{base.name} has a certificate already. To renew it, run again with --renew")
        key = certificates.new_key()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(path, certificates.key_pem(key))
        return key, path

    @staticmethod
    def _write(certificate: Certificate, path: Path, key: Path | None) -> Issued:
        write_public(path, certificates.certificate_pem(certificate))
        return Issued(path, key, f"{certificates.expires(certificate):%Y-%m-%d}")


def request(folder: Path, name: str) -> tuple[Path, Path, str]:
    """Make a key and a signing request on the device. Return both files and the key's fingerprint.

    A key that is there is used again. ``LimpetError``, and ``OSError`` as from ``open``.
    """
    common = names.device(name)
    path = _beside(folder / common, ".key")
    try:
        key = certificates.read_key(read_file(path, LARGEST))
    except FileNotFoundError:
        key = certificates.new_key()
        folder.mkdir(parents=True, exist_ok=True)
        write_secret(path, certificates.key_pem(key))
    target = _beside(folder / common, ".csr")
    write_public(target, certificates.new_request(common, key))
    return path, target, certificates.fingerprint(key.public_key())


def read_request(path: Path) -> bytes:
    """Read a signing request. ``LimpetError``."""
    try:
        return read_file(path, LARGEST)
    except OSError as error:
        raise LimpetError(f"{path}: {error.strerror}") from error
    except UnreadableError as error:
        raise LimpetError(str(error)) from error


def write_secret(path: Path, data: bytes) -> None:
    """Write a private key that only its owner can read. It never replaces a file, nor follows a link."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_public(path: Path, data: bytes) -> None:
    """Replace a file in one step: a daemon that reads it sees the old one or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _beside(base: Path, suffix: str) -> Path:
    """Return a path with a suffix. Ids have dots, so ``with_suffix`` would cut them."""
    return base.with_name(base.name + suffix)
