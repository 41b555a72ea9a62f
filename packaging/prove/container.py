"""The container file built and run, as root with podman: what the Kubernetes manifest would run, on one machine.

Where the base image can be pulled it is; elsewhere a Debian with Python and pip stands in for it. The last line is
one JSON object.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "prove" / "container"
STORE = WORK / "store"
# A separate store, so that nothing is left behind. runc, as crun refuses cgroups of both versions side by side.
PODMAN = [
    "podman", f"--root={STORE}", f"--runroot={WORK / 'run'}", "--storage-driver=vfs", "--runtime=runc",
    "--cgroup-manager=cgroupfs", "--events-backend=file",
]  # fmt: skip
# No more than this machine may give, which may be one itself.
LIMITS = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
# As the manifest: no root, nothing to write to but the volumes, no privilege. The health check is called by hand,
# as its timer needs a systemd.
CONFINED = [
    *LIMITS, "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=host",
    "--health-interval=disable", "--mount=type=tmpfs,destination=/run/limpet,chown=true",
]  # fmt: skip
CONFIG = """
[device]
id = "boxed"
health_interval = 1.0

[mqtt]
url = "mqtt://127.0.0.1:{port}"

[sources.shuttle]
kind = "replay"
path = "recording.csv"
rate = 50
loop = true

[pipelines.shuttle]
source = "shuttle"
model = "shuttle-1.limpet"
deadline = 3.0
"""


def run(*command: str | Path, check: bool = True, **more: Any) -> str:
    """Run a program and return what it says on both channels."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=ROOT, **more
    )
    if check and done.returncode:
        raise RuntimeError(f"{[str(word) for word in command]}: status {done.returncode}: {done.stdout[-2000:]}")
    said: str = done.stdout.strip()
    return said


def podman(*arguments: str | Path, check: bool = True) -> str:
    return run(*PODMAN, *arguments, check=check)


def base() -> str:
    """See to it that the base image is there; return where it is from."""
    name = re.findall(r"^FROM (\S+)", (ROOT / "packaging/container/Containerfile").read_text(), re.MULTILINE)[0]
    if podman("pull", "--quiet", f"docker.io/library/{name}", check=False).startswith("sha256:"):
        return "pulled"
    run(ROOT / "packaging/prove/root.sh", "image")
    tar = subprocess.Popen(["tar", "-C", ROOT / "build/prove/root-image", "-c", "."], stdout=subprocess.PIPE)
    with tar:
        run(*PODMAN, "import", "--change=ENV PATH=/usr/local/bin:/usr/bin:/bin", "-", f"docker.io/library/{name}",
            stdin=tar.stdout)  # fmt: skip
    return "a Debian of debootstrap under its name"


def build(result: dict[str, Any]) -> None:
    result["base_image"] = base()
    arch = run("dpkg", "--print-architecture")
    if not (ROOT / f"build/wheelhouse-{arch}").exists():
        run(ROOT / "packaging/wheelhouse.sh", arch)
    said = podman(
        "build", "--format=docker", "--pull=never", "--network=none", *LIMITS, f"--build-arg=ARCH={arch}",
        "--file=packaging/container/Containerfile", "--tag=limpet", ".",
    )  # fmt: skip
    result["built"] = "COMMIT limpet" in said
    result["image_mb"] = round(int(podman("image", "inspect", "--format={{.Size}}", "limpet")) / 1e6)
    said = podman("run", "--rm", *CONFINED, "--entrypoint=limpet", "limpet", "--version")
    result["version"] = said.splitlines()[-1]


@contextmanager
def surroundings() -> Iterator[int]:
    """Run a broker on loopback and write what it says to a file, and lay out a configuration; yield the port."""
    folder = WORK / "etc"
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "limpet.toml").write_text(CONFIG.format(port=port))
    rows = "".join(f"50,21,77,0,28,0,27,48,{22 + number % 3}\n" for number in range(500))
    (folder / "recording.csv").write_text(",".join(f"f{i}" for i in range(1, 10)) + "\n" + rows)
    shutil.copy(ROOT / "agent/limpet/demo_data/shuttle-1.limpet", folder)
    (WORK / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with (WORK / "broker.log").open("w") as log, (WORK / "heard.txt").open("w") as heard_file:
        broker = subprocess.Popen(["mosquitto", "-c", WORK / "mosquitto.conf"], stdout=log, stderr=log)
        time.sleep(1)
        listener = subprocess.Popen(
            ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-t", "limpet/#", "-v"], stdout=heard_file
        )
        try:
            yield port
        finally:
            for process in (listener, broker):
                process.terminate()
                process.wait()


def heard(topic: str) -> list[Any]:
    """Return what was said on a topic of the device."""
    lines = [line.partition(" ") for line in (WORK / "heard.txt").read_text().splitlines()]
    return [json.loads(payload) for name, _, payload in lines if name == f"limpet/boxed/{topic}"]


def wait(condition: Any, seconds: float, what: str) -> Any:
    """Return the first true value of ``condition``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := condition():
            return value
        time.sleep(0.2)
    raise RuntimeError(f"not within {seconds} s: {what}")


def alive(*options: str) -> str:
    return podman("exec", "boxed", "limpet", "alive", *options, check=False)


def live(result: dict[str, Any]) -> None:
    """Start it, freeze it, thaw it and stop it."""
    began = time.monotonic()
    podman(
        "run", "--detach", "--name=boxed", *CONFINED, f"--volume={WORK / 'etc'}:/etc/limpet:ro",
        "--volume=boxed:/var/lib/limpet", "limpet",
    )  # fmt: skip
    wait(lambda: heard("result/shuttle"), 30, "a result")
    result["first_result_s"] = round(time.monotonic() - began, 1)
    wait(lambda: heard("health/shuttle"), 10, "health")
    result["sandbox"] = heard("health/shuttle")[-1]["sandbox"]
    main = int(podman("inspect", "--format={{.State.Pid}}", "boxed"))
    result["user"] = re.findall(r"^Uid:\t(\d+)", Path(f"/proc/{main}/status").read_text(), re.MULTILINE)[0]
    result["ready"] = alive("--ready").startswith("ready")
    result["healthcheck"] = podman("healthcheck", "run", "boxed", check=False) or "healthy"
    freeze(result, main)
    podman("stop", "--time=20", "boxed")
    result["exit_status"] = int(podman("inspect", "--format={{.State.ExitCode}}", "boxed"))
    result["offline_said"] = heard("status")[-1]["status"] == "offline"


def freeze(result: dict[str, Any], main: int) -> None:
    """Freeze worker and fork server. The supervisor then writes no sign of life until they thaw."""
    listed = run("ps", "-e", "-o", "pid=,ppid=,comm=").splitlines()
    parents = {int(pid): int(parent) for pid, parent, _ in (line.split(None, 2) for line in listed)}
    fork = next(pid for pid, parent in parents.items() if parent == main)
    frozen = [fork, *(pid for pid, parent in parents.items() if parent == fork)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    said = wait(
        lambda: (status := alive("--within=8")).startswith("limpet: no sign") and status, 40, "no sign of life"
    )
    result["frozen"] = said
    os.kill(fork, signal.SIGCONT)  # it buries the worker, which was killed meanwhile
    wait(lambda: alive("--within=8").startswith("ready"), 30, "a sign of life")
    before = len(heard("result/shuttle"))
    wait(lambda: len(heard("result/shuttle")) > before, 20, "results once more")


def main() -> int:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    result: dict[str, Any] = {"engine": run("podman", "--version")}
    try:
        build(result)
        with surroundings():
            try:
                live(result)
            finally:
                (WORK.parent / "container-said.log").write_text(podman("logs", "boxed", check=False))
                podman("rm", "--force", "--volumes", "boxed", check=False)
    except Exception:  # noqa: BLE001 - the result says what went wrong
        result["error"] = traceback.format_exc()
    shutil.rmtree(WORK, ignore_errors=True)
    print(json.dumps(result))
    return 1 if "error" in result else 0


if __name__ == "__main__":
    sys.exit(main())
