"""Judge states of update entities by the schema of a newer Home Assistant, in the environment of the old one.

The newer package needs a newer Python, so its schema is cut out of its source: nothing else of it is run.

    python newer_home_assistant.py UPDATE.PY ASKED.JSON
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import voluptuous
from homeassistant.helpers import config_validation


def schema(source: str, name: str) -> Any:
    """Return a schema that a module assigns to a name."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            code = compile(ast.Expression(node.value), name, "eval")
            return eval(code, {"vol": voluptuous, "cv": config_validation})  # noqa: S307 - a pinned package
    raise SystemExit(f"no {name} there")


def main() -> None:
    source, asked = (Path(argument).read_text(encoding="utf-8") for argument in sys.argv[1:])
    states = json.loads(asked)["states"]
    judge = schema(source, "MQTT_JSON_UPDATE_SCHEMA")
    for state in states:
        judge(state)
    sys.stdout.write(f"{len(states)} states\n")


main()
