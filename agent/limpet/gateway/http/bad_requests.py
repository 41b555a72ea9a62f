"""Answers to clients that do not send a whole request. They are written before any path is known."""

from __future__ import annotations

LARGEST_HEAD = 1 << 15
"""Bytes of a request's first line and headers. Some more may come in the last packet."""
MOST_HEADERS = 100
MOST_PIPELINED = 32
"""Requests that may wait on one connection while one before them is answered."""


def _answer(status: str, reason: str) -> bytes:
    body = f'{{"error":"{reason}"}}'
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"connection: close\r\n\r\n{body}"
    ).encode()


UNREADABLE = _answer("400 Bad Request", "the request is no HTTP/1.1, or its headers are too large")
LATE = _answer("408 Request Timeout", "the request did not come in time")
TOO_LARGE_HEAD = _answer("431 Request Header Fields Too Large", f"the headers exceed {LARGEST_HEAD} bytes")
CROWDED = _answer("503 Service Unavailable", "too many connections are open")
