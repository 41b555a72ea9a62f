"""What FFmpeg says, in the log of Limpet: few lines, and never a password. Nothing goes to standard error."""

from __future__ import annotations

import logging
import re
import time

import av.logging

from limpet.bucket import Bucket

log = logging.getLogger(__name__)

_PER_SECOND, _AT_ONCE = 0.1, 5
_USER = re.compile(r"(?<=://)[^/?#\s]*@")


def without_password(text: str, *secrets: str) -> str:
    """Return a text without the user part of URLs, and without these secrets."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return _USER.sub("", text)


class _Few(logging.Handler):
    """Passes a line on now and then, and says how many it left out."""

    def __init__(self) -> None:
        super().__init__()
        self._bucket = Bucket(_PER_SECOND, _AT_ONCE)
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line of FFmpeg's."""
        if self._bucket.level(time.monotonic()) < 1:
            self._left_out += 1
            return
        self._bucket.spend(1)
        more = f" (and {self._left_out} lines before)" if self._left_out else ""
        self._left_out = 0
        part = record.name.removeprefix("libav.")
        log.debug("FFmpeg: %s: %s%s", part, without_password(record.getMessage()), more)


def install() -> None:
    """Have FFmpeg's errors come here. Call it before FFmpeg opens anything."""
    logger = logging.getLogger("libav")
    if not any(isinstance(handler, _Few) for handler in logger.handlers):
        logger.addHandler(_Few())
        logger.propagate = False
        av.logging.set_skip_repeated(False)
        av.logging.set_level(av.logging.ERROR)
