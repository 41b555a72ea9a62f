"""``make faults``: kills, broker faults, a bad network and power cuts, with every result counted.

The last line is one JSON object.
FAULTS_KILLS, FAULTS_BROKER, FAULTS_NAMESPACE, FAULTS_POWER and FAULTS_CAPTURES set how many of each there are.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import captures, kills, namespace, network, power


def main() -> int:
    counts = {name: int(os.environ.get(f"FAULTS_{name}", default)) for name, default in DEFAULTS.items()}
    parts: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        parts.append(summary("kills", kills.run(Path(folder) / "kills", counts["KILLS"])))
        killed = captures.kills(Path(folder) / "captures", counts["CAPTURES"])
        parts.append(summary("captures, kills", captures.figures("kills", killed)))
        parts.append(summary("broker faults", network.run(Path(folder) / "network", counts["BROKER"])))
        try:
            parts.append(summary("bad network", namespace.run(Path(folder) / "namespace", counts["NAMESPACE"])))
        except namespace.NamespaceImpossibleError as error:
            parts.append(summary("bad network", {"namespace_faults": 0, "namespace_impossible": str(error)}))
        try:
            parts.append(summary("power cuts", power.run(Path(folder) / "power", counts["POWER"])))
            cut = captures.cuts(Path(folder) / "captures-power", counts["POWER"])
            parts.append(summary("captures, power cuts", captures.figures("cuts", cut)))
        except power.PowerCutsImpossibleError as error:
            parts.append(summary("power cuts", {"power_cuts": 0, "power_cuts_impossible": str(error)}))
    total = summed(parts)
    print(json.dumps(total))
    return 0 if total["lost"] == 0 else 1


DEFAULTS = {"KILLS": 50, "BROKER": 20, "NAMESPACE": 12, "POWER": 12, "CAPTURES": 40}
SUMS = ("accepted", "delivered", "lost", "redelivered_same_id", "altered")


def summary(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    print(f"{name}: {json.dumps(figures)}", flush=True)
    return figures


def summed(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up what counts results; keep the rest as it is, the larger where two have it."""
    total: dict[str, Any] = {key: sum(part.get(key, 0) for part in parts) for key in SUMS}
    for part in parts:
        for key, value in part.items():
            if key not in SUMS:
                total[key] = max(value, total.get(key, value))
    return total


if __name__ == "__main__":
    sys.exit(main())
