"""All that can be proven of the service on one machine, as root on Debian 12. The last line is one JSON object.

Each part is a script that can be run alone; what each printed is in build/prove/PART.log.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "build" / "prove"


def run(part: str, *command: str) -> str:
    """Run a part in the root of the repository and return what it printed; its log is kept."""
    print(f"{part}: {' '.join(command)}", file=sys.stderr, flush=True)
    log = LOGS / f"{part}.log"
    with log.open("w") as file:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=file, text=True, check=False)
    with log.open("a") as file:
        file.write(done.stdout)
    if done.returncode:
        print(f"{part}: exit status {done.returncode}, see {log}", file=sys.stderr)
    return done.stdout


def last_json(text: str) -> dict[str, Any]:
    """Return the object on the last line, or one that says that there was none."""
    lines = text.strip().splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError):
        return {"error": "it did not get to its end; see its log in build/prove"}
    assert isinstance(found, dict)
    return found


def passed(part: str, *tests: str) -> int:
    """Return how many of these tests pass; 0 if any fails."""
    summary = (
        run(part, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
        .strip()
        .rpartition("\n")[2]
    )
    found = re.search(r"(\d+) passed", summary)
    return int(found[1]) if found and "failed" not in summary and "error" not in summary else 0


def exposure() -> float:
    """Return the exposure of the unit as it is installed, without any drop-in."""
    said = run("exposure", "systemd-analyze", "security", "--offline=true", "--no-pager", "systemd/limpet.service")
    return float(said.rpartition("exposure level for ")[2].split(":")[1].split()[0])


def boards() -> int:
    """Return how many boards' folders pass the tests that load each configuration and read its udev rules."""
    return len(list(ROOT.glob("firmware-configs/*/limpet.toml"))) if passed("boards", "tests/boards") else 0


def main() -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    units = passed("units", "tests/test_systemd.py", "tests/isolation/test_sandbox.py")
    for arch in ("amd64", "arm64"):
        run(f"wheelhouse-{arch}", "packaging/wheelhouse.sh", arch)
        for revision in ("1", "2") if arch == "amd64" else ("1",):
            run(f"deb-{arch}-{revision}", "packaging/deb/build.sh", arch, revision)
        run(f"offline-{arch}", "packaging/offline/build.sh", arch)
    manifest = run("kubernetes", "packaging/kubernetes/check.sh")
    booted = last_json(run("boot", "packaging/prove/boot.sh"))
    offline = last_json(run("offline", "packaging/prove/offline.sh"))
    container = last_json(run("container", sys.executable, "packaging/prove/container.py"))
    result = {
        "exposure": exposure(),
        "systemd": booted.get("systemd", "not booted"),
        "first_steps": booted.get("first_steps"),
        "ready_s": booted.get("ready_s"),
        "first_result_s": booted.get("first_result_s"),
        "watchdog_restarted": booted.get("watchdog_restarted", False),
        "frozen_worker_restarted": booted.get("frozen_worker_restarted", False),
        "credentials": booted.get("credentials", False),
        "stop_s": booted.get("stop_s"),
        "sandbox": booted.get("sandbox"),
        "watch": booted.get("watch", {}),
        "model_use": booted.get("model_use", {}),
        "report": booted.get("report", {}),
        "eyes_and_ears": booted.get("eyes_and_ears", {}),
        "deb_installed_removed": booted.get("deb_installed_removed", False),
        "upgrade_and_back": booted.get("upgrade_and_back", False),
        "queued_over_upgrades": booted.get("queued_over_upgrades"),
        "offline": offline,
        "container": container,
        "unit_and_sandbox_tests": units,
        "kubernetes_manifest": "valid" in manifest,
        "arm64": last_json(run("arm64", "packaging/prove/foreign.sh", "arm64")),
        "armhf": last_json(run("armhf", "packaging/prove/foreign.sh", "armhf")),
        "boards_checked": boards(),
        "errors": {
            part: said["error"] for part, said in (("boot", booted), ("container", container)) if "error" in said
        },
    }
    print(json.dumps(result))
    return 0 if good(result) else 1


def good(result: dict[str, Any]) -> bool:
    """Whether all is as it must be."""
    must = (
        "watchdog_restarted",
        "frozen_worker_restarted",
        "credentials",
        "deb_installed_removed",
        "upgrade_and_back",
    )
    first = result["first_steps"] or {}
    container = {
        key: result["container"].get(key) for key in ("ready", "healthcheck", "exit_status", "offline_said")
    }
    emulated = (result["arm64"].get("tests", ""), result["armhf"].get("tests", ""))
    return (
        result["exposure"] <= 1.3
        and all("seccomp" in (result["sandbox"] or {}).get(process, []) for process in ("worker", "executor"))
        and all(result[key] for key in must)
        and first.get("bad") == []
        and [result["watch"].get(who) for who in ("root", "member", "other")] == [True, True, False]
        and result["model_use"].get("pins") == "limpet limpet"
        and result["model_use"].get("of_another_user") == ""
        and result["report"].get("lines_of_log", 0) > 0
        and result["eyes_and_ears"].get("sees_in_srv") == "pictures"
        and result["offline"].get("left") == ""
        and all(
            result["offline"].get("results", {}).get(source, 0) > 0
            for source in ("video", "stream", "folder", "tone")
        )
        and "is not there" in result["offline"].get("microphone", "")
        and first.get("results", 0) > 0
        and list(container.values()) == [True, "healthy", 0, True]
        and all("passed" in summary and "failed" not in summary for summary in emulated)
        and bool(result["boards_checked"] and result["unit_and_sandbox_tests"] and result["kubernetes_manifest"])
        and not result["errors"]
    )


if __name__ == "__main__":
    sys.exit(main())
