"""Which folder of captures a command is about, and which captures in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet import config
from limpet.captures import ring, sealing
from limpet.commands._state_directory import state_of
from limpet.errors import LimpetError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from limpet.captures.ring import Entry
    from limpet.captures.sealing import PrivateKey

FOLDER = "Folder of captures, or a state directory."


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Declare the folder, which is the daemon's unless another one is named."""
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", type=Path, help=f"{FOLDER} Default: that of the daemon."
    )
    add_config(parser)
    add_pipeline(parser)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declare the configuration, which names the state directory."""
    parser.add_argument("--config", type=Path, metavar="FILE", default=config.usual(), help=config.USUAL)


def add_pipeline(parser: argparse.ArgumentParser) -> None:
    """Declare the pipeline."""
    parser.add_argument("--pipeline", metavar="NAME", help="Pipeline. Default: all.")


def add_key(parser: argparse.ArgumentParser) -> None:
    """Declare the private key."""
    parser.add_argument("--key", type=Path, metavar="FILE", help="Private key of encrypted captures.")


def root_of(arguments: argparse.Namespace) -> Path:
    """Return the folder with the pipelines' folders. ``LimpetError`` if there is none."""
    named: Path | None = arguments.folder
    return inner(named or state_of(arguments.config), whole=named is None)


def inner(folder: Path, *, whole: bool = False) -> Path:
    """Return the folder of captures in a state directory, or the folder itself. ``LimpetError``."""
    root = ring.folder(folder)
    if root.is_dir():
        return root
    if whole or not folder.is_dir():
        raise LimpetError(f"there is no {root if whole else folder}: no window was kept. See `keep` of a pipeline")
    return folder


def each(root: Path, pipeline: str | None, damaged: list[str]) -> Iterator[Entry]:
    """Yield captures by device and pipeline, oldest first. ``LimpetError`` if there is no such pipeline."""
    found = [one for one in ring.rings(root) if pipeline in {None, one[1]}]
    if pipeline is not None and not found:
        raise LimpetError(f"{root} has no captures of {pipeline!r}")
    for there, name in found:
        yield from ring.entries(there, name, damaged)


def key_of(path: Path | None) -> PrivateKey | None:
    """Return the private key in a file, if one is named. ``LimpetError``."""
    return None if path is None else sealing.read_private_key(path)
