"""Text and configurations without anything that identifies a person, a device or a network. No I/O.

Only text that is known to be harmless stays. This is words of Limpet's own source code, short numbers, times, and
the values of the configuration's keys in ``_KEPT``. Everything else becomes ``KIND-NUMBER``, the same one wherever
it occurs, so that a log can still be followed.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection

KINDS = (
    *("secret", "user", "host", "device", "address", "mac", "email", "serial", "path", "url", "word", "number"),
    *("text", "source", "pipeline", "reporter", "delegate", "model", "key"),
)
"""What a replacement begins with."""
_COMMON = {"limpet", "localhost", "localdomain", "root", "mqtt", "json", "csv", "cobs", "true", "false", *KINDS}
"""Names that many devices have. They identify none, and to replace them would garble a log."""
_SHORTEST = 3
"""Characters of a name that is replaced. Initials and the like stay."""

_KEPT = frozenset(
    (
        *("kind", "framing", "protocol", "qos", "delegates", "runtime", "decoder", "commands", "dialects"),
        *("discovery", "fresh", "parity", "decimal", "activation", "layout", "metric", "output", "window"),
        *("alpn", "channels", "fields", "features", "unit", "units", "pixels", "delimiter", "baud", "rate"),
        *("speed", "loop", "scale", "offset", "range", "bytesize", "stopbits", "rtscts", "dsrdtr", "xonxoff"),
        *("dtr", "rts", "settle", "silence", "queue", "queue_bytes", "max_line", "sequence_modulo", "size"),
        *("seconds", "hop", "hop_seconds", "stateful", "deadline", "require", "least_speed", "recheck"),
        *("opening", "every", "rate_tolerance", "threads", "keepalive", "reconnect_max", "session_expiry"),
        *("batch_count", "batch_age", "batch_bytes", "bytes_per_hour", "models_bytes", "max_bytes", "flush_age"),
        *("health_interval", "memory_bytes", "min_free_bytes", "spill_after", "messages_per_second"),
        *("jitter", "threshold", "release", "rise", "fall", "top_k", "overlap", "most", "mean", "std"),
        *("clip", "height", "width", "bands", "log", "hot", "cool", "busy", "idle", "empty", "charged"),
        *("most_power", "interval", "down_after", "up_after"),
    )
)
"""Keys of a configuration whose numbers and words stay. A word stays only if it is one of Limpet's own."""
_NAMED = {"sources": "source", "pipelines": "pipeline", "reporters": "reporter", "delegates": "delegate"}
"""Tables whose keys are names that a person chose."""
_KIND_OF_KEY = {"id": "device", "username": "user", "client_id": "device", "model": "model", "source": "source"}

_PEM = re.compile(r"-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|\Z)", re.DOTALL)
_LOGIN = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[\w-]{1,63}")
_MAC = re.compile(r"(?<![0-9A-Fa-f:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:-])")
_IPV4 = r"\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)"
_IP = re.compile(
    rf"(?<![\w:.])[0-9A-Fa-f]{{0,4}}:[0-9A-Fa-f:]{{1,39}}(?:(?<=:){_IPV4})?(?![\w:]|\.\d)|(?<![\w.]){_IPV4}"
)
_URL_HOST = re.compile(r"(?<=://)[^/\s:@'\"\[\]]+(?=[:/\s'\",;)]|$)")
_DOMAINS = (
    "com|org|net|edu|gov|info|io|dev|app|cloud|local|lan|home|internal|intra|corp|test|example|invalid"
    "|de|uk|fr|nl|be|ch|at|eu|us|ca|jp|cn|kr|br|au|se|no|dk|fi|pl|cz|it|es|pt"
)
_DOMAIN = re.compile(rf"(?<![\w.-])(?:[\w-]{{1,63}}\.){{1,8}}(?:{_DOMAINS})\b(?!\.\w)", re.IGNORECASE)
_HOME = re.compile(r"(?<=/home/)[^/\s'\":,;)]+|(?<=/Users/)[^/\s'\":,;)]+")
_TIME = r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,6})?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\w)"
_TOKEN = re.compile(rf"(?<!\w){_TIME}|\w+")
_PLAIN = re.compile(
    r"\d{1,7}|\d{1,6}(?:ms|us|µs|ns|s|b|kb|mb|gb|hz|khz|mhz)"
    r"|tty(?:usb|acm|s|ama|mxc|ths)\d{1,3}|video\d{1,2}|x?\d{1,3}",
    re.IGNORECASE | re.ASCII,
)
_SYMBOLS = "µ°±≥≤…"
_LONGEST_LINE = 2000
_MODEL = re.compile(r"(?P<folder>.*/)?(?P<stem>.*?)(?P<rest>(?:[-@]\d+)?(?:\.[a-z]+)?)")


class Redactor:
    """Replaces names. ``vocabulary``: the words that stay, in lower case."""

    def __init__(self, vocabulary: Collection[str]) -> None:
        self._vocabulary = {*vocabulary, *KINDS}
        self._names: dict[str, str] = {}
        self._forms: dict[str, None] = {}
        self._replacements: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._pattern: re.Pattern[str] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many different ones of each kind were replaced."""
        return dict(sorted(self._counts.items()))

    def name(self, value: str, kind: str) -> str:
        """Return what stands for a name, from now on in every text. Short and common names stay."""
        value = value.strip()
        folded = value.casefold()
        if len(value) < _SHORTEST or folded in _COMMON:
            return value
        if folded not in self._names:
            replacement = self._replacements.get(folded) or self._new(kind)
            self._replacements[folded] = replacement
            for form in (value, quote(value), quote(value, ""), json.dumps(value)[1:-1], repr(value)[1:-1]):
                self._names.setdefault(form.casefold(), replacement)
                self._forms[form] = None
            self._pattern = None
        return self._names[folded]

    def secret(self, value: str) -> None:
        """Have a password or a key replaced, as a whole and each of its lines."""
        for part in (value, *value.splitlines()):
            self.name(part, "secret")

    def facts(self, text: str) -> str:
        """Return a text of known form, such as a version, without names, addresses and the like."""
        text = _PEM.sub("(a key or certificate)", text)
        text = self._known(text)
        for pattern, kind in ((_LOGIN, "secret"), (_EMAIL, "email"), (_MAC, "mac"), (_HOME, "user")):
            text = pattern.sub(partial(self._matched, kind), text)
        text = _IP.sub(self._address, text)
        text = _URL_HOST.sub(partial(self._matched, "host"), text)
        return _DOMAIN.sub(partial(self._matched, "host"), text)

    def text(self, text: str) -> str:
        """Return a free text, such as a log: only known words, times and short numbers are left of it."""
        text = "\n".join(line[:_LONGEST_LINE] for line in _TOKEN.sub(self._token, self.facts(text)).split("\n"))
        return "".join(character if _is_harmless(character) else "?" for character in text)

    def tables(self, tables: dict[str, Any]) -> dict[str, Any]:
        """Return a configuration. Its replaced texts are replaced in every text from now on."""
        for group, kind in _NAMED.items():
            found = tables.get(group)
            for name in found if isinstance(found, dict) else ():
                self.name(name, kind)
        return {self._key(name): self._value(name, value, _NAMED.get(name)) for name, value in tables.items()}

    def json(self, value: Any) -> Any:
        """Return a JSON document, its texts as free texts."""
        if isinstance(value, dict):
            return {self.text(str(key)): self.json(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.json(item) for item in value]
        if isinstance(value, str):
            return self.text(value)
        return value if isinstance(value, bool | float | None) else self._number(value)

    def _value(self, key: str, value: Any, names: str | None = None) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, dict):
            return {
                self.name(name, names) if names else self._key(name): self._value(name, item)
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [self._value(key, item) for item in value]
        if isinstance(value, str):
            return self._text_of(key, value)
        return (
            value
            if key in _KEPT and isinstance(value, int | float)
            else self._replacement_for(str(value), "number")
        )

    def _text_of(self, key: str, value: str) -> str:
        if key in _KEPT and self.text(value) == value:
            return value
        if key == "url":
            return self._url(value)
        if key == "port" and value.startswith("/dev/"):
            return self.text(value)
        if key == "model" and (found := _MODEL.fullmatch(value)):
            folder = f"{self.name(found['folder'][:-1], 'path')}/" if found["folder"] else ""
            return f"{folder}{self.name(found['stem'], 'model')}{self.text(found['rest'])}"
        pathlike = key.endswith("file") or "/" in value
        return self.name(value, _KIND_OF_KEY.get(key, "path" if pathlike else "text"))

    def _url(self, value: str) -> str:
        try:
            parts = urlsplit(value)
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return self.name(value, "url")
        for login in (parts.username or "", parts.password or ""):
            self.secret(login)
            self.secret(unquote(login))
        host = self.name(parts.hostname or "", "host")
        return f"{self.text(parts.scheme)}://{host}{port}"

    def _key(self, key: str) -> str:
        return key if self.text(key) == key else self.name(key, "key")

    def _known(self, text: str) -> str:
        if self._pattern is None:
            longest = sorted(self._forms, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(self._form, longest)) or r"(?!)", re.IGNORECASE)
        return self._pattern.sub(lambda match: self._replacement(match[0]), text)

    def _replacement(self, found: str) -> str:
        return self._names.get(found.casefold()) or self._replacement_for(found, "word")

    def _form(self, name: str) -> str:
        """Return the pattern for a name. It is also replaced inside other words, unless it is a usual word."""
        form, folded = re.escape(name), name.casefold()
        usual = folded in self._vocabulary or any(folded in kind for kind in KINDS)
        return rf"(?<!\w){form}(?!\w)" if usual or len(name) <= _SHORTEST else form

    def _matched(self, kind: str, match: re.Match[str]) -> str:
        found = match[0]
        return found if self._is_replacement(found) else self._replacement_for(found, kind)

    def _address(self, match: re.Match[str]) -> str:
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:  # a time, or an address with zeros in front of its numbers
            return match[0] if ":" in match[0] else self._replacement_for(match[0], "address")
        harmless = address.is_loopback or address.is_unspecified
        return match[0] if harmless else self._replacement_for(match[0], "address")

    def _token(self, match: re.Match[str]) -> str:
        token = match[0]
        folded = token.casefold()
        if folded in self._vocabulary or (len(token) < _SHORTEST and token.isascii()):
            return token
        if _PLAIN.fullmatch(token) or re.fullmatch(_TIME, token):
            return token
        return self._replacement_for(token, "number" if token.isdecimal() else "word")

    def _number(self, value: Any) -> Any:
        return (
            value
            if isinstance(value, int) and abs(value) < 10**12
            else self._replacement_for(str(value), "number")
        )

    def _replacement_for(self, value: str, kind: str) -> str:
        """Return the replacement of a text that is not looked for elsewhere."""
        folded = value.casefold()
        if folded in _COMMON:
            return value
        if folded not in self._replacements:
            self._replacements[folded] = self._names.get(folded) or self._new(kind)
        return self._replacements[folded]

    def _new(self, kind: str) -> str:
        self._counts[kind] += 1
        return f"{kind}-{self._counts[kind]}"

    def _is_replacement(self, text: str) -> bool:
        kind, _, number = text.rpartition("-")
        return kind in self._counts and number.isdecimal()


def _is_harmless(character: str) -> bool:
    return character in _SYMBOLS or (character.isascii() and (character.isprintable() or character in "\n\t"))


def words(source: str) -> set[str]:
    """Return the words of a source code, in lower case."""
    return {word.casefold() for word in re.findall(r"[^\W\d_][\w]*", source) if word.isascii()}
