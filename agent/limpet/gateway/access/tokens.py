"""Tokens of clients. The device has their hashes alone, in a file with a name and a SHA-256 a line."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

from limpet.contracts.fields import NAME_PATTERN
from limpet.errors import UnreadableError

MOST = 256
LARGEST_FILE = 1 << 16
"""Bytes of a file of tokens."""
LONGEST_TOKEN = 128
_BYTES = 32
NAME = re.compile(NAME_PATTERN)
_HASH = re.compile(r"[0-9a-f]{64}")


class Token(NamedTuple):
    """The token of a person or a program, as the device knows it."""

    name: str
    sha256: str


def new(name: str) -> tuple[str, Token]:
    """Return a new token, and what the device keeps of it."""
    token = secrets.token_urlsafe(_BYTES)
    return token, Token(name, digest(token))


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret of many random bytes, which needs no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


def parse(data: bytes, file: str) -> tuple[Token, ...]:
    """Return the tokens in a file's content. Empty lines and those that begin with "#" count nothing.

    ``UnreadableError`` says which line is wrong.
    """
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{file} has bytes that are not ASCII") from error
    found = [_token(line, f"{file}:{number}") for number, line in enumerate(lines, 1) if _counts(line)]
    if len(found) > MOST:
        raise UnreadableError(f"{file} has {len(found)} tokens; the maximum is {MOST}")
    return tuple(found)


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _token(line: str, where: str) -> Token:
    parts = line.split()
    if len(parts) != 2 or not NAME.fullmatch(parts[0]) or not _HASH.fullmatch(parts[1]):
        raise UnreadableError(f"{where}: a line has a name and a SHA-256. Run: limpet token NAME")
    return Token(*parts)


def name_of(tokens: tuple[Token, ...], secret: str) -> str:
    """Return whose token this is. Empty if it is not valid. Every token takes the same time."""
    if not secret.isascii() or len(secret) > LONGEST_TOKEN:
        return ""
    shown, found = digest(secret), ""
    for token in tokens:
        if hmac.compare_digest(token.sha256, shown):
            found = token.name
    return found
