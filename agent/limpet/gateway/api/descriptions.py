"""Descriptions in JSON Schemas, also where the gateway's own packages are not installed."""

from __future__ import annotations

import inspect
from typing import Any


def tidy(part: Any) -> Any:
    """Take the source code's indentation out of descriptions: some versions of Python keep it."""
    if isinstance(part, dict):
        return {
            key: inspect.cleandoc(value) if key == "description" and isinstance(value, str) else tidy(value)
            for key, value in part.items()
        }
    return [tidy(value) for value in part] if isinstance(part, list) else part
