"""Opens so many damaged files of one kind: ``python -m attack.damaged PARSER COUNT FOLDER``."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from fuzz import state_parsers
from fuzz.mutate import mutated
from fuzz.registry import PARSERS
from limpet.errors import LimpetError

assert state_parsers


def main(name: str, count: int, folder: Path) -> None:
    """Print how many were opened, how many of them raised what would have ended the daemon, and the first."""
    folder /= name.replace(" ", "_")
    folder.mkdir(parents=True)
    prepared = PARSERS[name](folder)
    failed, first = 0, ""
    for number in range(count):
        try:
            prepared.take(mutated(prepared.corpus, random.Random(number)))
        except LimpetError as error:
            failed += 1
            first = first or f"refused: {error}"
        except Exception as error:  # noqa: BLE001 - it would have ended the daemon
            failed += 1
            first = first or f"{type(error).__name__}: {error}"
    sys.stdout.write(json.dumps({"opened": count, "failed": failed, "first": first}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
