"""``limpet-convert patch``: what a device needs to make the next version of a bundle from the last one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.device import state_files
from limpet_convert import patch
from limpet_convert.commands import _shared
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    import argparse

HELP = "Make a patch from one version of a bundle to the next"
GROUP = "steps"
EXAMPLES = (
    (
        "limpet-convert patch motion-7.limpet motion-8.limpet",
        "Write motion-7-to-motion-8.patch, and print its entry for sources.",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("old", type=Path, metavar="OLD.limpet", help="Bundle that the devices have.")
    parser.add_argument("new", type=Path, metavar="NEW.limpet", help="Bundle that they should get.")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="Patch. Default: OLD-to-NEW.patch, beside the new bundle."
    )
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print how large it is. Exit status 1 if the whole bundle is nearly as small."""
    old, new = patch.read(arguments.old), patch.read(arguments.new)
    made = patch.make(old, new)
    if patch.apply(old, made, len(new)) != new:
        raise ConvertError(f"the patch does not lead from {arguments.old} to {arguments.new}; this is a bug")
    share = len(made) / len(new)
    pays = share <= patch.WORTH_IT
    path = arguments.output or arguments.new.with_name(f"{arguments.old.stem}-to-{arguments.new.stem}.patch")
    source = {"patch_of": _digest(old), "sha256": _digest(made), "length": len(made)}
    size = f"{len(made):,} of {len(new):,} bytes ({share:.1%})"
    if not pays:
        line = f"No patch written: it has {size}. Above {patch.WORTH_IT:.0%}, send the whole bundle."
        _shared.emit(arguments, {"patch": None, "pays": False, "share": share, **source}, [line])
        return 1
    state_files.replace(path, made)
    lines = [
        f"{path}: {size}",
        "Write the URL of the patch into this, and give it to limpet-convert desired --source:",
        (
            f'  {{"url": "...", "patch_of": "{source["patch_of"]}", "sha256": "{source["sha256"]}", '
            f'"length": {source["length"]}}}'
        ),
    ]
    _shared.emit(arguments, {"patch": path, "pays": True, "share": share, **source}, lines)
    return 0


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
