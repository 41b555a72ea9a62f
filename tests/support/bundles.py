"""Bundles as a test wants them, sound ones and others: members are given as they shall stand in the zip."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def member(content: bytes) -> dict[str, Any]:
    return {"length": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def manifest(members: Mapping[str, bytes], **fields: Any) -> bytes:
    """Return the manifest of these members; ``fields`` add to it or stand instead."""
    basis = {"name": "motion", "version": 3, "members": {name: member(data) for name, data in members.items()}}
    return json.dumps({**basis, **fields}).encode()


def golden(inputs: Sequence[Any], outputs: Sequence[Any]) -> bytes:
    """Return an ``.npz`` of golden vectors, each with a leading axis that counts them."""
    buffer = io.BytesIO()
    arrays = {f"input_{i}": array for i, array in enumerate(inputs)}
    arrays |= {f"output_{i}": array for i, array in enumerate(outputs)}
    np.savez(buffer, **{name: np.asarray(array, np.float32) for name, array in arrays.items()})
    return buffer.getvalue()


def zipped(path: Path, members: Sequence[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a zip with these members in this order, also where two have one name."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return path


def bundle(path: Path, members: Mapping[str, bytes], **fields: Any) -> Path:
    """Write a sound bundle with these members."""
    return zipped(path, [("manifest.json", manifest(members, **fields)), *members.items()])
