"""``make updates``: updates under kills and power cuts, attacks, bad models, a worse and a better one.

The last line is one JSON object. UPDATES_KILLS and UPDATES_POWER set how many kills and power cuts there are.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from rollout import kills, power

TESTS = Path(__file__).parents[1]
ATTACKS, BAD_MODELS, RIVALS = "test_attack_", "test_bad_model_", "test_rival_"
"""How the names of tests begin that are attacks, bad models, and a worse or better model on real data."""
SUMS = ("updates", "not_completed", "half_written", "daemon_died")


def main() -> int:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        parts = [_say("kills", kills.run(Path(folder) / "kills", int(os.environ.get("UPDATES_KILLS", "200"))))]
        try:
            cuts = int(os.environ.get("UPDATES_POWER", "20"))
            parts.append(_say("power cuts", power.run(Path(folder) / "power", cuts)))
        except power.PowerCutsImpossibleError as error:
            parts.append(_say("power cuts", {"power_cuts": 0, "power_cuts_impossible": str(error)}))
        for part in parts:
            found |= part
        found |= {key: sum(part.get(key, 0) for part in parts) for key in SUMS}
        found["always_good"] = all(part.get("always_good", True) for part in parts)
        found["disk_exceeded"] = any(part.get("disk_exceeded") for part in parts)
        found["attacks"], found["attacks_not_refused"] = _tests(ATTACKS)
        bad, not_stopped = _tests(BAD_MODELS, each=True)
        found["bad_models_stopped"] = bad - not_stopped
        rivals, misjudged = _tests(RIVALS)
        found |= {"rivals": rivals, "rivals_misjudged": misjudged}
    print(json.dumps(found))
    return 0 if _is_well(found, not_stopped) else 1


FAULTS = (
    *("not_completed", "half_written", "daemon_died", "lost", "altered", "disk_exceeded"),
    *("attacks_not_refused", "rivals_misjudged"),
)


def _is_well(found: dict[str, Any], not_stopped: int) -> bool:
    return found["always_good"] and not_stopped == 0 and not any(map(found.get, FAULTS))


def _say(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    print(f"{name}: {json.dumps(figures)}", flush=True)
    return figures


class _Ended:
    """A plugin of pytest: the names of the tests that ran, and of those that failed."""

    def __init__(self) -> None:
        self.ran: set[str] = set()
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.ran.add(report.nodeid)
        if report.failed:
            self.failed.add(report.nodeid)


def _tests(name: str, *, each: bool = False) -> tuple[int, int]:
    """Run the tests with such a name. Return how many there are, and how many failed.

    ``each``: whether the parameters of a test count one by one.
    """
    ended = _Ended()
    pytest.main(["-q", "-p", "no:cacheprovider", "-k", name, str(TESTS)], plugins=[ended])
    tests, failed = (
        sorted({one if each else one.partition("[")[0] for one in found}) for found in (ended.ran, ended.failed)
    )
    _say(name, {"tests": len(tests), "failed": failed})
    return len({*tests, *failed}), len(failed)


if __name__ == "__main__":
    sys.exit(main())
