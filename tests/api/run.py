"""``make api``: programs that others wrote use the local API, a browser shows its page, and clients attack it.

Each file check_NAME.py is one part. Arguments name the parts that are wanted; ``attacks`` is one of them.
The last line is one JSON object: how many tests of each part passed, which did not, and how many attacks were
made and refused.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from attack import run as attacks

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS = {path.stem.removeprefix("check_"): path for path in sorted(Path(__file__).parent.glob("check_*.py"))}
ATTACKS = "attacks"


class _Ended:
    """A plugin of pytest: how many tests of each part passed, and the names of those that did not."""

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()
        self.others: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.passed[Path(report.fspath).stem.removeprefix("check_")] += 1
        elif not report.passed:
            self.others.add(report.nodeid)


def main(wanted: Sequence[str]) -> int:
    """Run these parts, all if none is named. Return the exit status."""
    unknown = set(wanted) - {*PARTS, ATTACKS}
    if unknown:
        print(f"tests/api/run.py: no part has the name {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    ended, found, status = _Ended(), dict[str, Any](), 0
    parts = [PARTS[name] for name in wanted or PARTS if name != ATTACKS]
    if parts:
        status = pytest.main(["-q", "-p", "no:cacheprovider", *map(str, parts)], plugins=[ended])
        found = {"passed": dict(ended.passed), "not_passed": sorted(ended.others)}
    if ATTACKS in (wanted or (ATTACKS,)):
        with tempfile.TemporaryDirectory() as folder:
            report = attacks.attack("api", Path(folder))
        harmful = report.harmful()
        found |= {"attacks": len(report.attempts), "attacks_refused": len(report.attempts) - len(harmful)}
        status = status or int(not report.holds())
    print(json.dumps(found))
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
