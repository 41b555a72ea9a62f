"""Keys and certificates, and the folder of an authority."""

from __future__ import annotations

import os
import ssl
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from limpet import cli
from limpet.config import Identifier
from limpet.enrolment import certificates, folder, names
from limpet.enrolment.folder import AuthorityFolder
from limpet.errors import LimpetError, UnreadableError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def authority(tmp_path: Path) -> AuthorityFolder:
    made = AuthorityFolder(tmp_path / "ca")
    made.create("Test CA", 30)
    return made


def verified(ca: Path, certificate: Path, purpose: str) -> bool:
    command = ["openssl", "verify", "-CAfile", ca, "-purpose", purpose, certificate]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_device_can_log_in_and_cannot_be_a_server(authority: AuthorityFolder) -> None:
    device = authority.device("press-07", 30, renew=False)
    broker = authority.broker(["broker.example", "10.0.0.5"], 30, renew=False)
    assert verified(authority.certificate, device.certificate, "sslclient")
    assert not verified(authority.certificate, device.certificate, "sslserver")
    assert verified(authority.certificate, broker.certificate, "sslserver")
    assert not verified(authority.certificate, broker.certificate, "sslclient")


def test_private_keys_are_for_their_owner_alone(authority: AuthorityFolder, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        issued = [
            authority.device("a", 30, renew=False),
            authority.person("operator", "ada", 30, renew=False),
            authority.broker(["h"], 30, renew=False),
        ]
        key, _, _ = folder.request(tmp_path, "b")
    finally:
        os.umask(before)
    keys = [key, tmp_path / "ca" / "ca.key", *(one.key for one in issued if one.key)]
    assert len(keys) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}


def test_an_authority_is_never_replaced(authority: AuthorityFolder) -> None:
    before = authority.certificate.read_bytes()
    with pytest.raises(LimpetError, match="has an authority already"):
        authority.create("Another", 30)
    assert authority.certificate.read_bytes() == before


def test_a_renewal_keeps_the_key(authority: AuthorityFolder) -> None:
    first = authority.device("press.07", 1, renew=False)
    assert first.key
    key, certificate = first.key.read_bytes(), first.certificate.read_bytes()
    with pytest.raises(LimpetError, match="has a certificate already"):
        authority.device("press.07", 30, renew=False)
    second = authority.device("press.07", 30, renew=True)
    assert second.certificate == first.certificate
    assert second.expires > first.expires
    assert first.key.read_bytes() == key
    assert second.certificate.read_bytes() != certificate
    ssl.create_default_context().load_cert_chain(second.certificate, first.key)  # they fit


def test_a_key_that_is_on_the_device_is_renewed_by_a_request(authority: AuthorityFolder, tmp_path: Path) -> None:
    key, request, fingerprint = folder.request(tmp_path / "device", "press-07")
    issued, seen = authority.sign(request.read_bytes(), "press-07", 30)
    assert seen == fingerprint
    assert issued.key is None
    assert not list((tmp_path / "ca").rglob("press-07.key"))
    ssl.create_default_context().load_cert_chain(issued.certificate, key)
    again = folder.request(tmp_path / "device", "press-07")
    assert again[2] == fingerprint
    assert authority.sign(again[1].read_bytes(), "press-07", 30)[1] == fingerprint
    with pytest.raises(LimpetError, match=r"there is no key .*press-07\.key"):
        authority.device("press-07", 30, renew=True)


def test_a_request_that_openssl_made_is_signed(authority: AuthorityFolder, tmp_path: Path) -> None:
    key, request = tmp_path / "press-08.key", tmp_path / "press-08.csr"
    words = [
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-noenc",
        "-subj",
        "/CN=press-08",
    ]
    subprocess.run(["openssl", *words, "-keyout", key, "-out", request], check=True, capture_output=True)
    issued, _ = authority.sign(folder.read_request(request), "press-08", 30)
    ssl.create_default_context().load_cert_chain(issued.certificate, key)


def test_a_request_for_another_device_is_not_signed(authority: AuthorityFolder, tmp_path: Path) -> None:
    _, request, _ = folder.request(tmp_path, "press-08")
    with pytest.raises(LimpetError, match="the request is for 'press-08', not for 'press-07'"):
        authority.sign(request.read_bytes(), "press-07", 30)
    assert not (tmp_path / "ca" / "devices").exists()


def csr(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256())


def test_a_request_gets_no_rights_that_it_asks_for(authority: AuthorityFolder) -> None:
    request = csr("press-07", certificates.new_key()).public_bytes(Encoding.PEM)
    issued, _ = authority.sign(request, "press-07", 30)
    certificate = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_request_of_an_operator_in_the_place_of_a_device_is_not_signed(authority: AuthorityFolder) -> None:
    request = csr("operator:eve", certificates.new_key()).public_bytes(Encoding.PEM)
    for expected in ("press-07", "operator:eve"):
        with pytest.raises(LimpetError):
            authority.sign(request, expected, 30)


def test_a_request_with_a_weak_key_or_a_wrong_signature_is_refused(authority: AuthorityFolder) -> None:
    weak = csr("press-07", ec.generate_private_key(ec.SECP192R1())).public_bytes(Encoding.PEM)
    with pytest.raises(UnreadableError, match="too weak"):
        authority.sign(weak, "press-07", 30)
    der = bytearray(csr("press-07", certificates.new_key()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    pem = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    with pytest.raises(UnreadableError):
        authority.sign(pem.encode(), "press-07", 30)


@given(st.binary(max_size=300))
def test_no_request_does_more_than_fail(data: bytes) -> None:
    for content in (data, b"-----BEGIN CERTIFICATE REQUEST-----\n" + data):
        with pytest.raises(UnreadableError):
            certificates.read_request(content)


@pytest.mark.parametrize(
    "name", ["", "a/b", "a+", "#", "a b", "operator:a", "../a", ".a", "-a", "a" * 65, "ä", "a\n"]
)
def test_ids_that_would_be_wildcards_or_paths_are_refused(authority: AuthorityFolder, name: str) -> None:
    with pytest.raises(LimpetError, match="use letters, digits"):
        authority.device(name, 30, renew=False)
    with pytest.raises(LimpetError, match="use letters, digits"):
        authority.person("operator", name, 30, renew=False)


@given(st.text(max_size=70) | st.from_regex(r"\A[A-Za-z0-9._-]{0,66}\Z"))
def test_each_device_id_of_a_configuration_can_be_enrolled_and_no_other(name: str) -> None:
    import msgspec

    try:
        msgspec.convert(name, Identifier)
    except msgspec.ValidationError:
        with pytest.raises(LimpetError):
            names.device(name)
    else:
        assert names.device(name) == name


def test_people_are_known_by_role_and_name(authority: AuthorityFolder) -> None:
    authority.person("sender", "models", 30, renew=False)
    authority.person("operator", "ada", 30, renew=False)
    authority.device("press-07", 30, renew=False)
    assert authority.people() == [("operator", "operator:ada"), ("sender", "sender:models")]


def test_the_commands_say_what_they_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["enroll", "device", "press-07"]) == 1
    assert (
        "there is no authority in limpet-ca. Run: limpet enroll ca --folder limpet-ca" in capsys.readouterr().err
    )
    assert cli.main(["enroll", "ca"]) == 0
    assert cli.main(["enroll", "device", "press-07"]) == 0
    assert 'cert_file = "press-07.pem"' in capsys.readouterr().out
    assert cli.main(["enroll", "request", "press-08"]) == 0
    assert cli.main(["enroll", "sign", "press-08.csr", "press-08"]) == 0
    out = capsys.readouterr().out
    (line,) = {
        one
        for one in out.replace(". Compare it with the one on the device", "").splitlines()
        if "fingerprint" in one
    }
    assert len(line) == len("fingerprint ") + 64
    assert cli.main(["enroll", "operator", "ada"]) == 0
    assert cli.main(["enroll", "acl"]) == 0
    assert "user operator:ada\n" in capsys.readouterr().out
