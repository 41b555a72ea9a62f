"""Certificates made on the spot with the openssl program."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def authority(directory: Path, name: str = "ca") -> Path:
    """Make a certificate authority ``NAME.pem`` with its key beside it."""
    certificate = directory / f"{name}.pem"
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2",
        "-subj", f"/CN=Limpet test {name}", "-keyout", directory / f"{name}.key", "-out", certificate,
    )  # fmt: skip
    return certificate


def certificate(ca: Path, name: str, host: str = "localhost", days: int = 2) -> tuple[Path, Path]:
    """Have ``ca`` sign a certificate for ``host``; a negative ``days`` makes one that has expired."""
    directory = ca.parent
    request, cert, key, ext = (directory / f"{name}.{suffix}" for suffix in ("csr", "pem", "key", "ext"))
    ext.write_text(f"subjectAltName=DNS:{host}\n")
    _openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc",
        "-subj", f"/CN={name}", "-keyout", key, "-out", request,
    )  # fmt: skip
    _openssl(
        "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca.with_suffix(".key"), "-CAcreateserial",
        "-days", str(days), "-extfile", ext, "-out", cert,
    )  # fmt: skip
    return cert, key
