"""The chain of roots on the disk: the anchor in the configuration's folder, newer roots in the state directory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from limpet.device import state_files
from limpet.errors import LimpetError, TrustError
from limpet.trust import chain, documents
from limpet.trust.settings import name_of
from limpet.untrusted import read_file

if TYPE_CHECKING:
    from pathlib import Path

    from tuf.api.metadata import Metadata, Root

    from limpet.trust.chain import Roots
    from limpet.trust.settings import Trust


def read(trust: Trust) -> Roots:
    """Return the roots that are trusted. ``TrustError`` if the anchor cannot be used: then no model runs.

    If a newer root cannot be used, the ones before it are in force, and ``problem`` says so.
    """
    try:
        data = read_file(trust.anchor.resolve(), documents.LARGEST_ROOT)
    except (OSError, RuntimeError) as error:
        what = error.strerror if isinstance(error, OSError) else "its links lead round in a circle"
        enrol = ". Run: limpet trust enrol ROOT" if isinstance(error, FileNotFoundError) else ""
        raise TrustError(f"the root of trust {trust.anchor} cannot be read: {what}{enrol}") from error
    try:
        roots = chain.anchored(data)
    except LimpetError as error:
        raise TrustError(f"{trust.anchor}: {error}") from error
    for _ in range(chain.MOST_ROOTS):
        path = trust.chain / name_of(roots.version + 1)
        try:
            roots = chain.followed(roots, read_file(path, documents.LARGEST_ROOT))
        except (FileNotFoundError, NotADirectoryError):
            return roots
        except OSError as error:
            return replace(roots, problem=f"{path}: {error.strerror}; root {roots.version} is in force")
        except LimpetError as error:
            return replace(roots, problem=f"{path}: {error}; root {roots.version} is in force")
    return replace(roots, problem=f"there are more than {chain.MOST_ROOTS} newer roots in {trust.chain}")


def store(folder: Path, root: Metadata[Root]) -> None:
    """Write a newer root so that it is there whole, also after a power cut. ``OSError``."""
    folder.mkdir(parents=True, exist_ok=True)
    state_files.replace(folder / name_of(root.signed.version), root.to_bytes())
