"""The options with which commands log in to a broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from limpet.errors import ConfigError, UsageError

if TYPE_CHECKING:
    import argparse

    from limpet.delivery.mqtt.broker_settings import BrokerSettings

NAMES = ("username", "password_file", "ca_file", "cert_file", "key_file")
"""What the options are called in the result of the parser."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--username", help="User name at the broker. Default: none (anonymous login).")
    add("--password-file", type=Path, metavar="FILE", help="File with the password for the user name.")
    add(
        "--ca-file",
        type=Path,
        metavar="FILE",
        help="Certificate authority to trust, for mqtts://. Default: the system's authorities.",
    )
    add("--cert-file", type=Path, metavar="FILE", help="Client certificate for the broker. Default: none.")
    add("--key-file", type=Path, metavar="FILE", help="Private key of the client certificate.")


def settings(command: str, arguments: argparse.Namespace, url: str) -> BrokerSettings:
    """Return how to log in. ``UsageError`` says what is wrong with the URL or the options of ``command``."""
    from limpet.delivery.mqtt.broker_settings import BrokerSettings, check_files

    user, _, rest = url.partition("://")[2].rpartition("@")
    if ":" in user:
        raise UsageError(f"{command}: write no password in the URL; use --password-file FILE")
    try:
        broker = BrokerSettings(
            url=f"{urlsplit(url).scheme}://{rest}",
            username=arguments.username or user,
            password_file=arguments.password_file,
            ca_file=arguments.ca_file,
            cert_file=arguments.cert_file,
            key_file=arguments.key_file,
        )
    except ValueError as error:
        raise UsageError(f"{command}: {error}") from error
    try:
        check_files(broker)
    except ConfigError as error:
        raise UsageError(f"{command}: {error}") from error
    return broker
