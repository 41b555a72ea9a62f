"""Runs in .venv-triton. JSON Schema takes 1.0 for an integer, and Limpet does not: schemathesis is to send 1."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    """Return a body with whole numbers as integers."""
    return whole(body)


def whole(value: Any) -> Any:
    """Return a value of JSON with whole numbers as integers."""
    if isinstance(value, dict):
        return {key: whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
