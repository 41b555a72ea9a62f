"""``limpet-convert root``: make a root of trust, change its keys, sign it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpet.wording import short_hash
from limpet_convert import bundle_signature, root, sign
from limpet_convert.commands import _shared
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

HELP = "Make a root of trust, or change and sign one"
GROUP = "sign"
EXAMPLES = (
    (
        "limpet-convert root new root.json --root root.key --models release.key --operators ops.key",
        "Write root.json, signed with root.key.",
    ),
    (
        "limpet-convert root add-key root.json models second.key.pub --key root.key",
        "Write 2.root.json, in which second.key.pub signs models, too.",
    ),
    ("limpet-convert root remove-key 2.root.json models 3f9a --key root.key", "Revoke a key, in 3.root.json."),
    ("limpet-convert root sign 2.root.json --key other.key --after root.json", "Add a signature."),
    ("limpet-convert root show root.json", "Show keys, thresholds and expiry."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", title="Actions")
    making = _action(actions, "new", _new, "Make a first root.")
    for role, what in (
        ("root", "Key that signs roots. A private key signs this one."),
        ("models", "Key that signs models."),
        ("operators", "Key that signs requests for models."),
    ):
        making.add_argument(
            f"--{role}",
            type=Path,
            metavar="FILE",
            action="append",
            default=[],
            required=role != "operators",
            help=f"{what} Can be repeated.",
        )
    _add_terms(making)
    for name, act, what in (
        ("add-key", _add_key, "Add keys to a role, in the next version of the root."),
        ("remove-key", _remove_key, "Revoke a key of a role, in the next version of the root."),
        ("renew", _renew, "Make the next version of the root, with another expiry or other thresholds."),
    ):
        changing = _action(actions, name, act, what)
        if name != "renew":
            roles = list(root.ROLES)
            changing.add_argument("role", choices=roles, metavar="ROLE", help="root, models or operators.")
        if name == "add-key":
            changing.add_argument("keys", type=Path, metavar="FILE", nargs="+", help="Public keys.")
        if name == "remove-key":
            changing.add_argument("id", metavar="ID", help="Id of the key, its beginning, or the key's file.")
        _shared.add_key(changing)
        changing.add_argument(
            "--output", type=Path, metavar="FILE", help="File to write. Default: N.root.json, beside the old root."
        )
        _add_terms(changing)
    signing = _action(actions, "sign", _sign, "Add signatures to a root.")
    _shared.add_key(signing, required=True)
    _add_after(signing)
    _add_after(_action(actions, "show", _show, "Show a root, and which signatures it lacks."))


def _action(actions: Any, name: str, act: Any, what: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = actions.add_parser(name, help=what, description=what)
    made.add_argument("file", type=Path, metavar="FILE", help="File of the root.")
    _shared.add_json(made)
    made.set_defaults(act=act)
    return made


def _add_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold",
        metavar="ROLE=N",
        action="append",
        default=[],
        help="How many keys of a role must sign. Default: 1, or as before. Can be repeated.",
    )
    parser.add_argument("--expires", metavar="DATE", help="Day of expiry, as 2030-01-01. Default: in five years.")


def _add_after(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--after",
        type=Path,
        metavar="OLD",
        help="Root that this one follows; its keys must sign, too. Default: the one before, in the same folder.",
    )


def main(arguments: argparse.Namespace) -> int:
    """Do what was chosen."""
    document, lines = arguments.act(arguments)
    _shared.emit(arguments, document, lines)
    return 0


def _new(arguments: argparse.Namespace) -> tuple[object, list[str]]:
    if arguments.file.exists():
        raise ConvertError(f"{arguments.file}: there already; choose another name, or remove it yourself")
    files = {"root": arguments.root, "models": arguments.models, "operators": arguments.operators}
    keys = {role: list(map(sign.public_key, paths)) for role, paths in files.items()}
    expires = bundle_signature.expiry(arguments.expires, root.DAYS)
    made = root.new(keys, _thresholds(arguments), expires)
    signers = [sign.signer(path) for path in arguments.root if b"PRIVATE KEY-----" in path.read_bytes()]
    root.write(made, arguments.file, signers)
    return _described(made, arguments.file, None)


def _add_key(arguments: argparse.Namespace) -> tuple[object, list[str]]:
    old, made = _next(arguments)
    root.add_keys(made, arguments.role, map(sign.public_key, arguments.keys))
    return _written(arguments, old, made)


def _remove_key(arguments: argparse.Namespace) -> tuple[object, list[str]]:
    old, made = _next(arguments)
    key = Path(arguments.id)
    root.remove_key(made, arguments.role, sign.key_id(sign.public_key(key)) if key.is_file() else arguments.id)
    return _written(arguments, old, made)


def _renew(arguments: argparse.Namespace) -> tuple[object, list[str]]:
    return _written(arguments, *_next(arguments))


def _next(arguments: argparse.Namespace) -> tuple[Any, Any]:
    old = root.read(arguments.file)
    if lacking := root.missing(old, None):
        why = "; ".join(lacking)
        raise ConvertError(
            f"{arguments.file}: not signed yet: {why}. Run: limpet-convert root sign {arguments.file} --key KEY"
        )
    return old, root.following(old, bundle_signature.expiry(arguments.expires, root.DAYS))


def _written(arguments: argparse.Namespace, old: Any, made: Any) -> tuple[object, list[str]]:
    for role, count in _thresholds(arguments).items():
        root.set_threshold(made, role, count)
    path = arguments.output or arguments.file.with_name(f"{made.signed.version}.root.json")
    if path.exists():
        raise ConvertError(f"{path}: there already; choose another name with --output, or remove it yourself")
    root.write(made, path, list(map(sign.signer, arguments.key)))
    return _described(made, path, old)


def _sign(arguments: argparse.Namespace) -> tuple[object, list[str]]:
    made = root.read(arguments.file)
    before = _before(arguments, made)
    signers = list(map(sign.signer, arguments.key))
    known = {*made.signed.roles["root"].keyids, *(before.signed.roles["root"].keyids if before else ())}
    for where, one in zip(arguments.key, signers, strict=True):
        if sign.key_id(one.public) not in known:
            raise ConvertError(f"{where}: not a root key of this root, nor of the one before it")
    root.write(made, arguments.file, signers)
    return _described(made, arguments.file, before)


def _show(arguments: argparse.Namespace) -> tuple[object, list[str]]:
    made = root.read(arguments.file)
    return _described(made, arguments.file, _before(arguments, made))


def _before(arguments: argparse.Namespace, made: Any) -> Any:
    if arguments.after:
        return root.read(arguments.after)
    version = made.signed.version - 1
    usual = [arguments.file.with_name(name) for name in (f"{version}.root.json", "root.json")]
    for path in usual if version else ():
        if path != arguments.file and path.exists() and (one := root.read(path)).signed.version == version:
            return one
    return None


def _thresholds(arguments: argparse.Namespace) -> dict[str, int]:
    found = {}
    for text in arguments.threshold:
        role, _, count = text.partition("=")
        if role not in root.ROLES or not count.isdecimal() or not 1 <= int(count) <= 32:
            known = ", ".join(root.ROLES)
            raise ConvertError(f"--threshold {text}: write ROLE=N, such as models=2; roles: {known}")
        found[role] = int(count)
    return found


def _described(made: Any, path: Path, before: Any) -> tuple[object, list[str]]:
    signed = made.signed
    lacking = root.missing(made, before)
    roles = {role: signed.roles[tuf[0]] for role, tuf in root.ROLES.items()}
    document = {
        "file": path,
        "version": signed.version,
        "fingerprint": sign.documents().fingerprint(made),
        "expires": f"{signed.expires:%Y-%m-%d}",
        "roles": {role: {"keys": one.keyids, "threshold": one.threshold} for role, one in roles.items()},
        "missing": lacking,
    }
    lines = [f"{path}: root {signed.version}, expires {signed.expires:%Y-%m-%d}"]
    lines.append(f"  fingerprint: {document['fingerprint']}")
    for role, one in roles.items():
        lines += _role_lines(role, one.keyids, one.threshold)
    if signed.version > 1 and before is None:
        lines.append("  not checked: whether it follows the version before. Name that one with --after")
    lines += [f"  not complete: {text}" for text in lacking] or ["  complete: enough keys have signed it"]
    return document, lines


def _role_lines(role: str, keyids: Sequence[str], threshold: int) -> list[str]:
    if not keyids:
        return [f"  {role}: no key"]
    return [f"  {role}: {threshold} of {len(keyids)} must sign", *(f"    {short_hash(keyid)}" for keyid in keyids)]
