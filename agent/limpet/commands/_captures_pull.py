"""``limpet captures pull``: copies the captures of a device, over ssh or from a folder, that are not here yet."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.captures import ring
from limpet.commands._captures_folder import add_pipeline, each, inner
from limpet.commands._captures_give import captures
from limpet.commands._captures_remote import Remote
from limpet.commands._captures_taking import Taking
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse

TEXT = "Copy the captures of a device that are not here yet, over ssh or from a folder such as a USB stick."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "source",
        metavar="FROM",
        help="ssh://[USER@]HOST[:PORT], or a FOLDER: a state directory, or captures that were copied.",
    )
    parser.add_argument(
        "target", metavar="FOLDER", type=Path, help="Folder for the captures, by device and pipeline."
    )
    add_pipeline(parser)
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="Device of the captures. Others are refused. Default: over ssh, the device that the host was before.",
    )
    parser.add_argument(
        "--most-bytes",
        metavar="BYTES",
        type=int,
        default=10_000_000_000,
        help="Bytes of one run. Default: 10000000000.",
    )
    parser.add_argument("--delete", action="store_true", help="Delete them on the device once they are here.")
    parser.add_argument(
        "--limpet",
        metavar="COMMAND",
        default="limpet",
        help='Program on the device, over ssh. Default: limpet. Example: "sudo /opt/limpet/bin/limpet".',
    )
    parser.add_argument("--ssh-config", metavar="FILE", type=Path, help="Configuration for ssh -F.")
    parser.set_defaults(act=_pull)


def _pull(arguments: argparse.Namespace) -> int:
    if arguments.source.startswith("ssh://"):
        taking = _over_ssh(arguments)
    else:
        taking = _from_folder(arguments, inner(Path(arguments.source)))
    taken = taking.taken
    print(f"{len(taken.names)} new captures in {arguments.target}")
    for problem in taken.problems:
        print(printable(problem), file=sys.stderr)
    if taken.more_problems:
        print(f"and {taken.more_problems} more problems", file=sys.stderr)
    return 1 if taken.problems else 0


def _over_ssh(arguments: argparse.Namespace) -> Taking:
    remote = Remote(arguments.source, arguments.limpet, arguments.ssh_config)
    taking = Taking(arguments.target, arguments.device, remote.host, arguments.most_bytes)
    with closing(remote.captures(arguments.pipeline, taking.known())) as given:
        taking.take(given)
    if arguments.delete and taking.taken.names:
        remote.delete(name for _, name in taking.taken.names)
    return taking


def _from_folder(arguments: argparse.Namespace, root: Path) -> Taking:
    taking = Taking(arguments.target, arguments.device, "", arguments.most_bytes)
    have = {(device, name) for device, names in taking.known().items() for name in names}
    taking.take(captures(root, arguments.pipeline, have))
    if arguments.delete and (new := set(taking.taken.names)):
        for one in list(each(root, arguments.pipeline, [])):
            if (one.capture.device, one.capture.name) in new:
                ring.delete(one.path)
    return taking
