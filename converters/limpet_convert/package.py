"""Write a bundle: a model, its manifest and what proves that it works, in one file.

``NAME-VERSION.limpet`` is a zip whose members are stored, not compressed, so that a model can be read in
place. The same inputs give the same bytes on every machine and on every day, so a bundle can be compared by
its hash. Needs numpy only.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from limpet.models import manifest as manifests
from limpet.models.manifest import Manifest, Member

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from limpet.contracts.data import Array

LABELS = "labels.txt"
GOLDEN = "golden.npz"
CARD = "MODEL_CARD.md"
REFERENCE = "reference.json"
SIGNATURE = "signature"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can name
_REGULAR_FILE = 0o100644 << 16
_UNIX = 3


def write(  # noqa: PLR0913 - the parts of a bundle
    folder: Path,
    manifest: Manifest,
    model: bytes,
    *,
    labels: Sequence[str] = (),
    inputs: Sequence[Array] = (),
    outputs: Sequence[Array] = (),
    card: str = "",
    reference: bytes = b"",
    others: Mapping[str, bytes] | None = None,
    signature: Callable[[Manifest, bytes], bytes] | None = None,
) -> Manifest:
    """Write ``folder/NAME-VERSION.limpet`` and return its manifest, members filled in.

    ``inputs`` and ``outputs`` are the golden vectors, one array for each of the model's tensors in order: real
    values (float32) for quantized tensors, shape ``(vectors, *tensor shape)``. ``card`` is the model card in
    Markdown, ``reference`` the member of that name, ``others`` the files of the manifest's variants. ``signature``
    makes the member ``signature`` of the manifest and its bytes, see ``bundle_signature.made``. ``ValueError``
    (also ``msgspec.ValidationError``, which is one) says what of the manifest or the vectors cannot be.
    """
    members = {manifest.model: model}
    if labels:
        members[LABELS] = _label_lines(labels)
    if inputs or outputs:
        members[GOLDEN] = golden_bytes(inputs, outputs)
    if card:
        members[CARD] = card.encode()
    if reference:
        members[REFERENCE] = reference
    members |= others or {}
    complete = msgspec.structs.replace(
        manifest,
        labels=LABELS if labels else "",
        golden=GOLDEN if GOLDEN in members else "",
        card=CARD if card else "",
        reference=REFERENCE if reference else "",
        members={name: _member(data) for name, data in members.items()},
    )
    head = manifests.dump(complete)
    checked = manifests.parse(head)
    signed = {SIGNATURE: signature(checked, head)} if signature else {}
    replace_file(folder / file_name(checked), zipped({"manifest.json": head, **signed, **members}))
    return checked


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: an interruption or a full disk leaves what was there."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        fresh = Path(scratch) / path.name
        fresh.write_bytes(data)
        fresh.replace(path)


def file_name(manifest: Manifest) -> str:
    """Return the name of a bundle's file."""
    return f"{manifest.name}-{manifest.version}.limpet"


def golden_bytes(inputs: Sequence[Array], outputs: Sequence[Array]) -> bytes:
    """Return an ``.npz`` with ``input_0``, ... and ``output_0``, ...; the first axis counts the vectors."""
    arrays = {f"input_{i}": a for i, a in enumerate(inputs)} | {f"output_{i}": a for i, a in enumerate(outputs)}
    if not inputs or not outputs:
        raise ValueError("golden vectors need inputs and outputs")
    if len({len(a) for a in arrays.values()}) != 1:
        counts = ", ".join(f"{name} {len(a)}" for name, a in arrays.items())
        raise ValueError(f"golden vectors differ in number: {counts}")
    return zipped({f"{name}.npy": _npy(array) for name, array in arrays.items()})


def _label_lines(labels: Sequence[str]) -> bytes:
    if any(len(label.splitlines()) > 1 for label in labels):
        raise ValueError("a label is one line")
    return "".join(f"{label}\n" for label in labels).encode()


def _npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _member(data: bytes) -> Member:
    return Member(len(data), hashlib.sha256(data).hexdigest())


def zipped(members: Mapping[str, bytes]) -> bytes:
    """Return a zip of these members, stored, in this order. The same members give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = _UNIX
            info.external_attr = _REGULAR_FILE
            archive.writestr(info, data)
    return buffer.getvalue()


def folder_bytes(path: Path) -> bytes:
    """Return a folder, such as an ``.mlpackage``, as a zip that is the same each time."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return zipped({file.relative_to(path).as_posix(): file.read_bytes() for file in files})


def set_aside(folder: Path, name: str, version: int) -> Path | None:
    """Rename the bundle of an earlier run, so that it is not taken for the one of a run that fails.

    Return its new name, ``None`` if there was none.
    """
    before = folder / f"{name}-{version}.limpet"
    if not before.exists():
        return None
    return before.replace(before.with_name(f"{before.name}.previous"))
