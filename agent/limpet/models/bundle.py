"""Bundles: a model with all that is needed to run it, in one zip whose members are stored as they are.

``manifest.json`` comes first and names the others with their lengths and hashes. No numpy here.
"""

from __future__ import annotations

import os
import re
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from limpet import text_file
from limpet.contracts.reference import LARGEST_REFERENCE
from limpet.device import state_files
from limpet.errors import DeployError, LimpetError, TrustError, UnreadableError, UntrustedError
from limpet.models import manifest as manifests
from limpet.models import reference as references
from limpet.models.archive import opened
from limpet.models.manifest import Manifest, Member, Requires, Tolerance, Variant
from limpet.models.tflite import model_file
from limpet.models.usual_decoder import usual_decoder
from limpet.sha256 import sha256
from limpet.trust import library
from limpet.trust.settings import Trust
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

MANIFEST = "manifest.json"
SIGNATURE = "signature"
_MIB = 1 << 20
_SMALL = _MIB
"""The manifest, labels and signature are read into memory whole."""
_LARGEST = 1 << 31
"""A flatbuffer cannot be larger."""
_CHUNK = _MIB


_BARE = (
    "a .tflite file has no signature, and this device has a root of trust, so only signed models run. On a "
    "workstation, run: limpet-convert package FILE --sign KEY"
)


class Bundle(msgspec.Struct, frozen=True):
    """What a pipeline needs of a model. ``signature`` is that of the manifest, see ``limpet.trust.bundles``.

    ``variants`` has the file of each of the manifest's variants that is a separate member.
    ``reference`` is the file that ``limpet.models.reference`` reads.
    ``problem`` says what of a bare model's own description cannot be read; the model runs all the same.
    """

    manifest: Manifest
    model: Path
    labels: tuple[str, ...] = ()
    golden: Path | None = None
    reference: Path | None = None
    signature: bytes | None = None
    variants: tuple[tuple[Variant, Path], ...] = ()
    problem: str = ""

    @property
    def files(self) -> set[Path]:
        """The files that a process needs to run the model."""
        others = (self.golden, self.reference)
        return {self.model, *(path for _, path in self.variants), *(path for path in others if path)}

    def suited(self, delegates: Collection[str]) -> tuple[Path, Tolerance]:
        """Return the file made for one of these delegates, else the model itself, and its tolerance."""
        for variant, path in self.variants:
            if variant.runtime == self.manifest.runtime and not set(delegates).isdisjoint(variant.delegates):
                return path, variant.tolerance
        return self.model, self.manifest.tolerance


class Identity(msgspec.Struct, frozen=True):
    """Which model a file is.

    ``sha256`` is that of a bundle's manifest, which has the hashes of all other members. Of a bare model it is
    that of the file. ``runtime``: the kind of plugin that runs it; ``decoder``: the kind of its decoder, empty
    if it names none. ``signed_by``: ids of the keys, none without a root of trust. ``in_date``: neither the
    signature nor the root has expired.
    """

    name: str
    version: int
    sha256: str
    runtime: str = "tflite"
    decoder: str = ""
    signed_by: tuple[str, ...] = ()
    in_date: bool = False


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """On which terms a model may run here.

    ``trust`` is ``None`` on a device without a root: files need no signature. ``delegates``: those of the
    pipeline, if they are known. ``new``: the model is to be installed, so an expiry counts in any case. ``key`` is
    that of an encrypted file.
    """

    trust: Trust | None = None
    delegates: tuple[str, ...] = ()
    new: bool = False
    key: bytes = b""


ANY = Terms()


def examine(path: Path, terms: Terms = ANY) -> Identity:
    """Read a whole file, unpack nothing, and return which model it is. Errors as ``load``.

    ``DeployError`` also if the model is not for this device, or if the root of trust cannot be read.
    ``UntrustedError`` if the root does not permit it.
    """
    if path.suffix == ".tflite":
        if terms.trust is not None:
            raise UntrustedError(f"{path}: {_BARE}", digest(path))
        return Identity(_bare(path).manifest.name, 0, digest(path))
    with _reading(path), opened(path, terms.key) as archive:
        members = _members(path, archive)
        data = archive.read(MANIFEST)
        manifest = _manifest(path, data)
        signature = archive.read(SIGNATURE) if SIGNATURE in members else None
        signed_by, in_date = _trusted(path, terms, (manifest, data), signature)
        _refuse_unfit(path, manifest, terms)
        _compare(path, manifest, members)
        _labels(path, archive, manifest)
        _refuse_reference(path, archive, manifest)
        for name in manifest.members:
            _refuse_other(path, name, _copy(archive, name, None), manifest.members)
        decoder = str(manifest.decoder.get("kind", ""))
        digest_of = _digest_of(data)
        return Identity(manifest.name, manifest.version, digest_of, manifest.runtime, decoder, signed_by, in_date)


def _trusted(
    path: Path, terms: Terms, manifest: tuple[Manifest, bytes], signature: bytes | None
) -> tuple[tuple[str, ...], bool]:
    """Return who signed a bundle, and whether nothing has expired. ``DeployError`` if it may not run here."""
    if terms.trust is None:
        return (), False
    read, data = manifest
    identity = _digest_of(data)
    try:
        library.require()
        from limpet.trust import bundles, files  # cryptography: only in processes that examine

        roots = files.read(terms.trust)
    except TrustError as error:
        raise DeployError(f"{path}: {error}") from error
    try:
        claimed = bundles.Claimed(read.name, read.version, data, signature)
        verdict = bundles.verdict(roots, claimed, terms.trust.now())
    except (TrustError, UnreadableError) as error:
        raise UntrustedError(f"{path}: {error}", identity) from error
    known = identity in terms.trust.accepted and not terms.new
    if verdict.expired and not known:
        raise UntrustedError(f"{path}: {verdict.expired}", identity)
    return verdict.signed_by, not verdict.expired


def _refuse_unfit(path: Path, manifest: Manifest, terms: Terms) -> None:
    if manifest.requires == Requires():
        return
    from limpet.models import requirements  # most models are for any device

    if found := requirements.problems(manifest.requires, requirements.facts(manifest.requires), terms.delegates):
        raise DeployError(f"{path}: {'; '.join(found)}")


def load(path: Path, cache: Path, identity: str = "", key: bytes = b"") -> Bundle:
    """Open a ``.limpet`` bundle, or a bare ``.tflite`` that may describe itself by TFLite's own metadata.

    The model and the golden vectors of a bundle are unpacked once into ``cache``, under their hash, and checked
    against it each time. ``DeployError`` says what is wrong with the bundle, ``ModelError`` with a bare model.
    Also where the file is not the one with the SHA-256 ``identity``, see ``Identity``. ``key`` is that of an
    encrypted file.
    """
    if path.suffix == ".tflite":
        if identity:
            _refuse_changed(path, digest(path), identity)
        return _bare(path)
    with _reading(path), opened(path, key) as archive:
        members = _members(path, archive)
        data = archive.read(MANIFEST)
        if identity:
            _refuse_changed(path, _digest_of(data), identity)
        manifest = _manifest(path, data)
        _compare(path, manifest, members)
        return Bundle(
            manifest,
            _unpack(path, archive, manifest.model, manifest.members, cache),
            _labels(path, archive, manifest),
            _unpack(path, archive, manifest.golden, manifest.members, cache) if manifest.golden else None,
            _unpack(path, archive, manifest.reference, manifest.members, cache) if manifest.reference else None,
            archive.read(SIGNATURE) if SIGNATURE in members else None,
            tuple(
                (variant, _unpack(path, archive, variant.model, manifest.members, cache))
                for variant in manifest.variants
                if variant.model in manifest.members
            ),
        )


def manifest_of(path: Path) -> Manifest:
    """Return a bundle's manifest; nothing is unpacked. ``DeployError`` says what is wrong with it."""
    with _reading(path), opened(path) as archive:
        _members(path, archive)
        return _manifest(path, archive.read(MANIFEST))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Make one error of the many that ``zipfile`` has for damaged files."""
    try:
        with reading("it"):
            yield
    except UnreadableError as error:
        cause = error.__cause__
        if isinstance(cause, OSError):
            raise DeployError(f"{cause.filename or path}: {cause.strerror or cause}") from error
        raise DeployError(f"{path}: not a bundle, or damaged: {cause}") from error


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name; refuse all that a bundle's writer does not do."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
            raise DeployError(f"{path}: member {name!r}: a bundle has no folders, and plain names only")
        if name in members:
            raise DeployError(f"{path}: member {name!r} is in it twice")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise DeployError(f"{path}: member {name!r} is compressed; a bundle's members are stored")
        if info.file_size > (_SMALL if name in {MANIFEST, SIGNATURE} else _LARGEST):
            raise DeployError(f"{path}: member {name!r} is too large: {info.file_size} bytes")
        members[name] = info
    # An examination reads all of a bundle. A file with holes is larger than what it takes on the disk.
    if (total := sum(info.file_size for info in members.values())) > _LARGEST:
        raise DeployError(f"{path}: its members are too large together: {total} bytes")
    if next(iter(members), "") != MANIFEST:
        raise DeployError(f"{path}: its first member is not {MANIFEST}")
    return members


def _manifest(path: Path, data: bytes) -> Manifest:
    try:
        return manifests.parse(data)
    except msgspec.ValidationError as error:
        from limpet.problems.form import of_json  # where all is well, it costs no memory

        raise DeployError(f"{path}: {MANIFEST}: {of_json(data, Manifest, 'manifest')}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DeployError(f"{path}: {MANIFEST}: {error}") from error


def _compare(path: Path, manifest: Manifest, members: Mapping[str, zipfile.ZipInfo]) -> None:
    """Refuse a bundle whose members are not those that its manifest names."""
    present = set(members) - {MANIFEST, SIGNATURE}
    for name in (manifest.model, manifest.labels, manifest.golden, manifest.reference):
        if name and name not in manifest.members:
            raise DeployError(f"{path}: {MANIFEST} gives no length and sha256 for {name!r}")
    for name, member in manifest.members.items():
        if name not in present:
            raise DeployError(f"{path}: member {name!r} is missing")
        if members[name].file_size != member.length:
            raise DeployError(f"{path}: member {name!r} has {members[name].file_size} bytes, not {member.length}")
    if extra := sorted(present - set(manifest.members)):
        raise DeployError(f"{path}: member {extra[0]!r} is not named by {MANIFEST}")


def _labels(path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> tuple[str, ...]:
    if not manifest.labels:
        return ()
    if manifest.members[manifest.labels].length > _SMALL:
        raise DeployError(f"{path}: member {manifest.labels!r} is too large for labels")
    data = archive.read(manifest.labels)
    _refuse_other(path, manifest.labels, _digest_of(data), manifest.members)
    return _lines(data)


def _refuse_reference(path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> None:
    """Raise ``DeployError`` for a reference that no pipeline could use, before the bundle is installed."""
    name = manifest.reference
    if not name:
        return
    if manifest.members[name].length > LARGEST_REFERENCE:
        raise DeployError(f"{path}: member {name!r} is too large for a reference")
    try:
        with reading(f"member {name!r}"):
            references.parse(archive.read(name))
    except UnreadableError as error:
        raise DeployError(f"{path}: {error}") from error


def _lines(data: bytes) -> tuple[str, ...]:
    """Return the labels, one a line; ``UnicodeDecodeError`` is a ``ValueError``."""
    return tuple(text_file.lines(data))


def _unpack(path: Path, archive: zipfile.ZipFile, name: str, members: Mapping[str, Member], cache: Path) -> Path:
    """Return the file in ``cache`` with a member's content, written now unless it is there and intact."""
    wanted = members[name].sha256
    target = cache / (wanted + Path(name).suffix)
    if state_files.is_regular(target) and digest(target) == wanted:
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"{path.name} cannot be unpacked into {cache}: {error.strerror}"
        raise DeployError(f"{what}. Set device.state to a folder that this user can write to") from error
    # A worker may unpack the same bundle for two pipelines at once, in a thread each.
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with os.fdopen(state_files.create(temporary), "wb") as file:
            _refuse_other(path, name, _copy(archive, name, file), members)
            file.flush()
            os.fsync(file.fileno())
        if state_files.is_irregular(target):
            state_files.remove(target)
        # Never in place: the old file may be mapped by a running interpreter.
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _copy(archive: zipfile.ZipFile, name: str, file: IO[bytes] | None) -> str:
    """Return the SHA-256 of a member, and copy it to an open file if there is one."""
    whole = sha256(archive.getinfo(name).file_size)
    with archive.open(name) as member:
        while chunk := member.read(_CHUNK):
            whole.update(chunk)
            if file is not None:
                file.write(chunk)
    return whole.hexdigest()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    whole = sha256(path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            whole.update(chunk)
    return whole.hexdigest()


def _digest_of(data: bytes) -> str:
    whole = sha256(len(data))
    whole.update(data)
    return whole.hexdigest()


def _refuse_changed(path: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise DeployError(
            f"{path}: changed since the models were examined; to take the file as it is now, reload the "
            "configuration (SIGHUP)"
        )


def _refuse_other(path: Path, name: str, found: str, members: Mapping[str, Member]) -> None:
    if found != members[name].sha256:
        raise DeployError(f"{path}: member {name!r} has the sha256 {found}, not {members[name].sha256}")


def _bare(path: Path) -> Bundle:
    """Describe a model file by what is in it. No runtime needs its metadata, so damage there refuses nothing."""
    file = model_file.read(path)
    labels, problem = _embedded_labels(path, file.description.label_file)
    return Bundle(_describe(path, file, labels), path, labels, problem=file.description.problem or problem)


def _embedded_labels(path: Path, name: str) -> tuple[tuple[str, ...], str]:
    """Read a label file out of the zip that TFLite's metadata tools append to the model, or say why not."""
    if not name:
        return (), ""
    try:
        with reading(f"its labels {name!r}"), opened(path) as archive:
            info = archive.getinfo(name)
            if info.file_size > _SMALL:
                return (), f"its labels {name!r} are too large: {info.file_size} bytes"
            return _lines(archive.read(info)), ""
    except LimpetError as error:
        return (), str(error)


def _describe(path: Path, file: model_file.TFLiteFile, labels: tuple[str, ...]) -> Manifest:
    description = file.description
    takes, gives = ([tensor.info for tensor in some] for some in (file.inputs, file.outputs))
    return Manifest(
        name=re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._")[:64] or "model",
        version=0,
        description=description.text or file.text,
        licence=description.licence,
        inputs=takes,
        outputs=gives,
        transforms=_transforms(file),
        decoder=usual_decoder(
            [one.shape for one in file.inputs], [one.shape for one in file.outputs], len(labels)
        ),
    )


def _transforms(file: model_file.TFLiteFile) -> list[dict[str, Any]]:
    """Return what becomes of images, as TFLite's Task library has it.

    It normalises for float inputs alone. Into a quantized uint8 input it copies bytes, whatever mean and deviation
    the metadata has; the real value of a byte is then ``(byte - zero_point) * scale``.
    """
    description = file.description
    if not (description.mean and description.std):
        return []
    first = file.inputs[0]
    if first.dtype != "uint8":
        return [{"kind": "normalise", "mean": _one_or_all(description.mean), "std": _one_or_all(description.std)}]
    if len(first.scale) != 1 or len(first.zero_point) != 1 or first.scale[0] <= 0:
        return []
    return [{"kind": "normalise", "mean": float(first.zero_point[0]), "std": 1 / first.scale[0]}]


def _one_or_all(values: tuple[float, ...]) -> float | list[float]:
    return values[0] if len(values) == 1 else list(values)
