"""Writes what is made from the structs of the two configuration files: ``python tools/reference.py``.

These are the tables of keys in ``docs/reference/``, between markers that name a struct, and the JSON Schemas
``docs/schemas/limpet-toml.json`` and ``convert-toml.json``. A key is described by the string below its field.
In it, "Default: X." says what holds without the key, and "Example: `X`." gives a value in TOML.

The table of differences in ``docs/reference/transforms.md`` comes from ``tests/data/golden/*.json``. The scripts
in ``tests/transforms/golden`` write these.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from config_keys import keys, toml
from config_schema import convert_toml, limpet_toml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "reference"
SCHEMAS = ROOT / "docs" / "schemas"
GOLDEN = ROOT / "tests" / "data" / "golden"
MARKED = re.compile(r"(?P<begin><!-- keys: (?P<struct>[\w.]+) -->\n).*?(?P<end><!-- end of keys -->)", re.DOTALL)
DIFFERENCES = re.compile(r"(?P<begin><!-- differences -->\n).*?(?P<end><!-- end of differences -->)", re.DOTALL)


def table(path: str) -> str:
    """Return the table of the keys of a struct, which is named with its module."""
    module, _, name = path.rpartition(".")
    rows = ["| key | type | default | meaning | example |", "| --- | --- | --- | --- | --- |"]
    for key in keys(getattr(importlib.import_module(module), name)):
        example = f"`{key.value}`" if key.value else ""
        cells = (f"`{key.name}`", key.type, key.default, key.text, example)
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows)


def page(text: str) -> str:
    """Return a page with its tables as the code is now."""
    text = MARKED.sub(lambda match: f"{match['begin']}\n{table(match['struct'])}\n\n{match['end']}", text)
    return DIFFERENCES.sub(lambda match: f"{match['begin']}\n{differences()}\n\n{match['end']}", text)


def differences() -> str:
    """Return the table of how far transforms are from the libraries whose numbers they give."""
    rows = [
        "| transform | options | reference | largest difference | largest value |",
        "| --- | --- | --- | --- | --- |",
    ]
    lists = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(GOLDEN.glob("*.json"))]
    cases = sorted((case for cases in lists for case in cases), key=lambda case: str(case["transform"]))
    for case in cases:
        cells = (
            f"`{case['transform']}`",
            ", ".join(_shown(key, value) for key, value in case["options"].items()) or "",
            f"{case['library']} {case['version']}: {case['function']}",
            f"{case['difference']:g}",
            f"{case['largest']:g}",
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _shown(key: str, value: Any) -> str:
    """Return an option in TOML; a list by its length."""
    return f"`{key}`: {len(value)}" if isinstance(value, list) else f"`{key} = {toml(value)}`"


def files() -> Iterator[tuple[Path, str]]:
    """Yield each file that this makes, with its content."""
    for path in sorted(PAGES.glob("*.md")):
        yield path, page(path.read_text(encoding="utf-8"))
    for name, made in (("limpet-toml", limpet_toml()), ("convert-toml", convert_toml())):
        yield SCHEMAS / f"{name}.json", msgspec.json.format(msgspec.json.encode(made), indent=2).decode() + "\n"


def main() -> int:
    """Write the files that are not as they should be."""
    for path, text in files():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
