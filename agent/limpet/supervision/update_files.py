"""Files of updates: downloads, requests of this device, and bundles in their final place.

Whatever is in a folder of downloads was made by a process that reads the network. It may be anything.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from limpet.device import directories, state_files
from limpet.models import deployed, sealed
from limpet.updates.state import DOWNLOADS, REQUESTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from limpet.contracts.assignment import Folders
    from limpet.updates.state import Deployed

PART = "bundle.part"
"""What a deployer writes."""
_WHOLE = "bundle.limpet"
"""The same file once its deployer is gone: it is examined under this name."""
_REQUEST = re.compile(r"(?P<pipeline>[A-Za-z0-9][A-Za-z0-9._-]{0,63})\.json")


class UpdateFiles:
    """The folders of a state directory. Names of pipelines are identifiers, so they are names of folders."""

    def __init__(self, state: Path) -> None:
        self._downloads = state / DOWNLOADS
        self._requests = state / REQUESTS
        self._deployed = deployed.folder(state)

    # --- downloads

    def make_download(self, pipeline: str) -> Path:
        """Return the folder that a deployer of a pipeline may change, made if it is not there. ``OSError``."""
        folder = self._downloads / pipeline
        for each in (self._downloads, folder):
            if state_files.is_irregular_folder(each):
                state_files.remove(each)
            each.mkdir(parents=True, exist_ok=True)
        part, whole = folder / PART, folder / _WHOLE
        if state_files.is_regular(whole) and not os.path.lexists(part):
            whole.replace(part)  # It is not fetched again if the examination was interrupted.
        return folder

    def resume_download(self, pipeline: str) -> Path:
        """Return the folder of a download that a deployer goes on with, made if it is not there. ``OSError``.

        What was downloaded wholly before the daemon started is ``PART`` again, so it is not fetched twice.
        """
        folder = self.make_download(pipeline)
        if state_files.is_regular(folder / _WHOLE) and not state_files.is_regular(folder / PART):
            state_files.remove(folder / PART)
            (folder / _WHOLE).replace(folder / PART)
        return folder

    def take_local(self, pipeline: str) -> bool:
        """Take the bundle beside a request of this device. Return whether there was one. ``OSError``."""
        local = self._requests / f"{pipeline}.limpet"
        if not state_files.is_regular(local):
            return False
        if state_files.shared(local):
            raise OSError(
                errno.EMLINK, "it has another name elsewhere, as a hard link. Copy it instead", str(local)
            )
        folder = self.make_download(pipeline)
        self._forget_parts(folder)
        local.replace(folder / _WHOLE)
        state_files.sync(folder)
        return True

    def whole(self, pipeline: str) -> Path | None:
        """Return what was downloaded, once its deployer is gone; ``None`` if there is no such file. ``OSError``.

        A file with other names does not count: it could be changed by one of them.
        """
        folder = self._downloads / pipeline
        part, whole = folder / PART, folder / _WHOLE
        if state_files.is_irregular_folder(folder):
            return None
        if state_files.is_regular(part):
            state_files.remove(whole)
            part.replace(whole)
        return whole if state_files.is_regular(whole) and not state_files.shared(whole) else None

    def present(self, pipeline: str) -> int:
        """Return how many bytes of a download are there."""
        sizes = [_size(self._downloads / pipeline / name) for name in (PART, _WHOLE)]
        return max(sizes)

    def delete_download(self, pipeline: str) -> None:
        """Delete what was downloaded for a pipeline. ``OSError``."""
        state_files.remove(self._downloads / pipeline)

    def delete_other_downloads(self, pipelines: Collection[str]) -> None:
        """Delete the downloads of all pipelines but these. What cannot be deleted stays."""
        for path in _below(self._downloads):
            if path.name not in pipelines:
                with suppress(OSError):
                    state_files.remove(path)

    def _forget_parts(self, folder: Path) -> None:
        for name in (PART, _WHOLE):
            state_files.remove(folder / name)

    # --- bundles in their final place

    def path(self, bundle: Deployed) -> Path:
        """Return the final place of a bundle."""
        return self._deployed / bundle.file

    def place(self, pipeline: str, bundle: Deployed) -> None:
        """Put a download into its final place, so that it is there after a power cut. ``OSError``.

        If that was done before, nothing is left to do.
        """
        final, whole = self.path(bundle), self.whole(pipeline)
        if whole is None:
            if _size(final) not in (bundle.length, sealed.sealed_size(bundle.length)):
                raise FileNotFoundError(2, "the download is gone", str(self._downloads / pipeline))
            return
        descriptor = os.open(whole, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        deployed.make_folder(self._deployed.parent)
        if state_files.is_irregular(final):
            state_files.set_aside(final)
        whole.replace(final)
        state_files.sync(self._deployed)
        state_files.sync(whole.parent)

    def is_placed(self, pipeline: str, size: int, bundle: Deployed) -> bool:
        """Whether nothing is left of a download, and its final place has a file of this size. ``OSError``."""
        return self.whole(pipeline) is None and _size(self.path(bundle)) == size

    def make_unplaced(self, bundle: Deployed) -> Path:
        """Return where a bundle is written before it gets to its final place, in a folder that is there."""
        deployed.make_folder(self._deployed.parent)
        return self._deployed / f".{bundle.file}.new"

    def place_sealed(self, pipeline: str, bundle: Deployed) -> None:
        """Put an encrypted bundle into its final place, and delete the download. ``OSError``."""
        final = self.path(bundle)
        if state_files.is_irregular(final):
            state_files.set_aside(final)
        self.make_unplaced(bundle).replace(final)
        state_files.sync(self._deployed)
        state_files.remove(self._downloads / pipeline / _WHOLE)

    def prune(self, needed: Iterable[Deployed]) -> None:
        """Delete all bundles but these from the folder of deployed ones. What cannot be deleted stays."""
        kept = {bundle.file for bundle in needed}
        for path in _below(self._deployed):
            if path.name not in kept:
                with suppress(OSError):
                    state_files.remove(path)

    def by_file_hash(self, bundles: Iterable[Deployed]) -> dict[str, Path]:
        """Return the bundles that are there and not encrypted, by the SHA-256 of their files."""
        return {one.file_sha256: self.path(one) for one in bundles if _size(self.path(one)) == one.length}

    # --- requests

    def requests(self) -> list[tuple[str, Path]]:
        """Return the requests of this device: the pipeline and the file of each, in order of their names."""
        matches = [(_REQUEST.fullmatch(path.name), path) for path in _below(self._requests)]
        return [(match["pipeline"], path) for match, path in matches if match]

    def delete_request(self, pipeline: str) -> None:
        """Delete a request that was taken. ``OSError``."""
        state_files.remove(self._requests / f"{pipeline}.json")

    def delete_local_bundle(self, pipeline: str) -> None:
        """Delete a bundle that was put beside a request. ``OSError``."""
        state_files.remove(self._requests / f"{pipeline}.limpet")


def why_not(error: OSError) -> str:
    """Return why a file could not be read or written, as a sentence."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}."


def _below(folder: Path) -> list[Path]:
    """Return what is in a folder by name, nothing if there is no folder."""
    if state_files.is_irregular_folder(folder):
        return []
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _size(path: Path) -> int:
    """Return the bytes of a file, 0 if there is no regular one."""
    if not state_files.is_regular(path):
        return 0
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def delete_admissions(folders: Folders) -> None:
    """Delete what trials left behind that a crash or a power cut ended."""
    for folder in (folders.state, folders.memory):
        if folder is not None:
            with suppress(OSError):
                state_files.remove(directories.admissions(folder))
