"""``limpet enroll``: certificates for devices, people and brokers, and the broker's access list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet.enrolment.names import ROLES
from limpet.errors import LimpetError
from limpet.option_values import count
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from limpet.enrolment.folder import AuthorityFolder, Issued

HELP = "Make certificates for devices, people and a broker"
GROUP = "service"
EXAMPLES = (
    ("limpet enroll ca", "Make a certificate authority in the folder limpet-ca."),
    ("limpet enroll broker mqtt.example", "Make the certificate of a broker."),
    ("limpet enroll device press-07", "Make key and certificate of a device."),
    ("limpet enroll operator ada", "Make key and certificate of a person."),
    ("limpet enroll request press-07", "On the device: make a key, which stays there, and a signing request."),
    ("limpet enroll sign press-07.csr press-07", "At the authority: make the certificate for that request."),
    ("limpet enroll acl > limpet.acl", "Print the access list for mosquitto."),
)

FOLDER = Path("limpet-ca")
CA_DAYS, DAYS = 3650, 825
_FOLDER = "Folder of the authority. Default: limpet-ca."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", title="Actions")

    def action(
        name: str, text: str, act: Callable[[argparse.Namespace], None], days: int = 0
    ) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=text, description=text)
        one.set_defaults(act=act)
        one.add_argument("--folder", type=Path, default=FOLDER, metavar="FOLDER", help=_FOLDER)
        if days:
            one.add_argument(
                "--days",
                type=count,
                default=days,
                metavar="DAYS",
                help=f"Days for which the certificate holds. Default: {days}.",
            )
        return one

    authority = action("ca", "Make a certificate authority.", _ca, CA_DAYS)
    authority.add_argument("--name", default="Limpet CA", help="Name of the authority. Default: Limpet CA.")
    broker = action("broker", "Make key and certificate of a broker.", _broker, DAYS)
    broker.add_argument("hosts", metavar="HOST", nargs="+", help="Host names and addresses of the broker.")
    device = action("device", "Make key and certificate of a device.", _device, DAYS)
    device.add_argument("id", metavar="ID", help="The id in [device] of its configuration.")
    operator = action("operator", "Make key and certificate of a person or program.", _operator, DAYS)
    operator.add_argument("name", metavar="NAME", help="Name of the person or program.")
    operator.add_argument("--role", choices=ROLES, default="operator", help="What it may do. Default: operator.")
    for one in (broker, device, operator):
        one.add_argument("--renew", action="store_true", help="Make a new certificate for the key that is there.")
    request = actions.add_parser("request", help=_REQUEST, description=_REQUEST)
    request.add_argument("id", metavar="ID", help="The id in [device] of the configuration.")
    request.add_argument(
        "--folder", type=Path, default=Path(), metavar="FOLDER", help="Where to write. Default: this folder."
    )
    request.set_defaults(act=_request)
    sign = action("sign", "Make the certificate for a signing request of a device.", _sign, DAYS)
    sign.add_argument(
        "request", type=Path, metavar="FILE", help="Signing request, as `limpet enroll request` writes."
    )
    sign.add_argument("id", metavar="ID", help="The device that it must be for.")
    acl = action("acl", "Print the access list for mosquitto, with all people that have certificates.", _acl)
    acl.add_argument("--topic", default="limpet", help="Parent of the devices' topics. Default: limpet.")


_REQUEST = "On a device: make a private key, which stays there, and a signing request."


def main(arguments: argparse.Namespace) -> int:
    """Do what was chosen. Return 0."""
    try:
        import cryptography  # noqa: F401 - is it there?
    except ModuleNotFoundError as error:
        raise LimpetError("limpet enroll needs the extra 'updates': pip install 'limpet[updates]'") from error
    try:
        arguments.act(arguments)
    except OSError as error:
        raise LimpetError(f"{error.filename}: {error.strerror}") from error
    return 0


def _at(arguments: argparse.Namespace) -> AuthorityFolder:
    from limpet.enrolment.folder import AuthorityFolder

    return AuthorityFolder(arguments.folder)


def _ca(arguments: argparse.Namespace) -> None:
    issued = _at(arguments).create(arguments.name, arguments.days)
    _show(issued)
    print("Keep the key offline: who has it can enroll any device and any operator")


def _broker(arguments: argparse.Namespace) -> None:
    folder = _at(arguments)
    issued = folder.broker(arguments.hosts, arguments.days, renew=arguments.renew)
    _show(issued)
    print(
        f"for mosquitto:\n  cafile {folder.certificate}\n  certfile {issued.certificate}\n  keyfile {issued.key}"
    )


def _device(arguments: argparse.Namespace) -> None:
    folder = _at(arguments)
    issued = folder.device(arguments.id, arguments.days, renew=arguments.renew)
    _show(issued)
    _show_table(folder, issued.certificate.name, f"{arguments.id}.key")


def _operator(arguments: argparse.Namespace) -> None:
    issued = _at(arguments).person(arguments.role, arguments.name, arguments.days, renew=arguments.renew)
    _show(issued)
    print("It may do nothing until the broker's access list names it. Run: limpet enroll acl")


def _request(arguments: argparse.Namespace) -> None:
    from limpet.enrolment import folder

    key, request, fingerprint = folder.request(arguments.folder, arguments.id)
    print(printable(f"key {key} (it stays here)\nrequest {request}\nfingerprint {fingerprint}"))
    print(printable(f"At the authority, run: limpet enroll sign {request.name} {arguments.id}"))


def _sign(arguments: argparse.Namespace) -> None:
    from limpet.enrolment.folder import read_request

    folder = _at(arguments)
    issued, fingerprint = folder.sign(read_request(arguments.request), arguments.id, arguments.days)
    _show(issued)
    print(f"fingerprint {fingerprint}. Compare it with the one on the device")
    _show_table(folder, issued.certificate.name, f"{arguments.id}.key")


def _acl(arguments: argparse.Namespace) -> None:
    from limpet.enrolment import access

    print(access.text(arguments.topic.strip("/"), _at(arguments).people()), end="")


def _show(issued: Issued) -> None:
    lines = [f"certificate {issued.certificate}, until {issued.expires}"]
    if issued.key:
        lines.append(f"key {issued.key}")
    print(printable("\n".join(lines)))


def _show_table(folder: AuthorityFolder, certificate: str, key: str) -> None:
    """Print what goes into the configuration of a device."""
    print(
        printable(
            f"Copy {folder.certificate} and these files to the device. In its configuration:\n"
            f'  [mqtt]\n  url = "mqtts://BROKER:8883"\n  ca_file = "{folder.certificate.name}"\n'
            f'  cert_file = "{certificate}"\n  key_file = "{key}"'
        )
    )
