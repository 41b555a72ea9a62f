"""Inside a booted Debian: the life of the package, from installation to purge, each step looked at.

Writes result.json beside itself, whatever happens. Uses the package's own Python for MQTT.
"""

from __future__ import annotations

import grp
import json
import os
import re
import signal
import subprocess
import tarfile
import time
import traceback
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PROOF = Path("/proof")
CONFIG = """
[device]
id = "proof"
health_interval = 1.0

[mqtt]
url = "mqtt://127.0.0.1:1883"
username = "proof"
password_file = "mqtt-password"

[sources.shuttle]
kind = "serial"
port = "/run/sensor"
channels = ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9"]

[pipelines.shuttle]
source = "shuttle"
model = "shuttle"
deadline = 3.0

[delegates.board]
kind = "external"
library = "/proof/libboard.so"

[pipelines.accelerated]
source = "shuttle"
model = "shuttle"
delegates = ["board"]
least_speed = 0
"""
DROP_IN = """[Service]
LoadCredential=mqtt-password:/etc/limpet/mqtt-password
WatchdogSec=8
"""
SUBSCRIBE = """
import sys, time
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
def heard(client, data, message):
    sys.stdout.write(f"{time.time()} {message.topic} {message.payload.decode()}\\n")
    sys.stdout.flush()
client = Client(CallbackAPIVersion.VERSION2)
client.username_pw_set("proof", "right")
client.on_connect = lambda client, *_: client.subscribe("limpet/#")
client.on_message = heard
client.connect("127.0.0.1")
client.loop_forever()
"""
HEARD = PROOF / "heard.txt"


def run(*command: str | Path, check: bool = True) -> str:
    """Run a program and return what it says on both channels."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{command}: exit status {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout.strip()


def show(key: str) -> str:
    return run("systemctl", "show", "--value", "-p", key, "limpet.service")


def heard(topic: str, since: float) -> list[tuple[float, Any]]:
    """Return what was said on a topic of the device since then."""
    found = []
    for line in HEARD.read_text().splitlines():
        when, full, payload = line.split(" ", 2)
        if full == f"limpet/proof/{topic}" and float(when) >= since:
            found.append((float(when), json.loads(payload) if payload[:1] in "{[" else payload))
    return found


def wait(condition: Any, seconds: float, what: str) -> Any:
    """Return the first true value of ``condition``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise RuntimeError(f"not within {seconds} s: {what}")


def files() -> set[str]:
    """Return every file outside what a running system writes."""
    folders = ("/boot", "/etc", "/opt", "/root", "/srv", "/usr", "/var/lib", "/var/spool")
    noise = (
        "/var/lib/systemd/",
        "/var/lib/dpkg/",
        "/etc/group",
        "/etc/gshadow",
        "/etc/passwd",
        "/etc/shadow",
        "/etc/.pwd.lock",
    )
    found = run("find", *folders, check=False).splitlines()  # files come and go under it
    return {path for path in found if path.startswith("/") and not path.startswith(noise)}


def processes() -> dict[str, int]:
    """Return the process ids of the service by name: the main process and all that descend from it."""
    wanted, found = {int(show("MainPID"))}, {}
    for pid in sorted(int(path.name) for path in Path("/proc").glob("[0-9]*")):
        fields = status(pid)
        if pid in wanted or int(fields["PPid"]) in wanted:
            wanted.add(pid)
            found[fields["Name"]] = pid
    return found


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def start_surroundings() -> None:
    """Start a broker that asks for a password, a subscriber, and a sensor."""
    (PROOF / "passwords").write_text("proof:right\n")
    run("mosquitto_passwd", "-U", PROOF / "passwords")
    (PROOF / "mosquitto.conf").write_text(
        f"listener 1883 127.0.0.1\npassword_file {PROOF / 'passwords'}\nuser root\n"
    )
    run("systemd-run", "--unit=broker", "mosquitto", "-c", PROOF / "mosquitto.conf")
    run("systemd-run", "--unit=sensor", "python3", PROOF / "sensor.py", "/run/sensor")


def subscribe() -> None:
    (PROOF / "subscribe.py").write_text(SUBSCRIBE)
    HEARD.touch()
    run(
        "systemd-run",
        "--unit=subscriber",
        "-p",
        f"StandardOutput=append:{HEARD}",
        "/opt/limpet/bin/python3",
        PROOF / "subscribe.py",
    )
    time.sleep(1)


def install(result: dict[str, Any]) -> None:
    run("dpkg", "-i", *sorted(PROOF.glob("limpet_*-1_amd64.deb")))
    result["version"] = run("limpet", "--version")
    result["waits_for_a_configuration"] = show("ActiveState") == "inactive"
    result["limpet_user"] = run("id", "limpet")


def first_steps(result: dict[str, Any]) -> None:
    """Do what docs/how-to/set-up.md says, knowing only the port of the sensor and the broker."""
    secret = Path("/etc/limpet/mqtt-password")
    secret.write_text("right")
    secret.chmod(0o600)
    models = run("/opt/limpet/bin/python3", "-c", "import limpet; print(limpet.__path__[0])")
    bundle = f"{models}/demo_data/shuttle-1.limpet"
    run("install", "-o", "limpet", "-g", "limpet", bundle, "/var/lib/limpet/models/")
    broker = ("--url", "mqtt://127.0.0.1:1883", "--username", "proof", "--password-file", secret)
    file = Path("/etc/limpet/limpet.toml")
    run("limpet", "init", "--output", file, "--id", "proof", "--port", "/run/sensor", *broker)
    (pipeline,) = re.findall(r"^\[pipelines\.(.+)\]$", file.read_text(), re.MULTILINE)
    checked = run("limpet", "check")
    doctor = json.loads(run("limpet", "doctor", "--json", check=False))
    began = time.time()
    run("timeout", "--signal=INT", "4", "limpet", "run", file, check=False)
    result["first_steps"] = {
        "check": checked.splitlines()[-1],
        "bad": [found["check"] for found in doctor["findings"] if found["result"] == "bad"],
        "results": len(each(heard(f"result/{pipeline}", began))),
    }


def configure() -> None:
    Path("/etc/limpet/limpet.toml").write_text(CONFIG)
    drop_in = Path("/etc/systemd/system/limpet.service.d/proof.conf")
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text(DROP_IN)
    run("systemctl", "daemon-reload")


def start(result: dict[str, Any]) -> None:
    began = time.time()
    run("systemctl", "start", "limpet.service")
    result["ready_s"] = round(time.time() - began, 2)
    first = wait(lambda: heard("result/shuttle", began), 20, "a result")[0]
    result["first_result_s"] = round(first[0] - began, 2)
    result["ready"] = show("ActiveState") == "active"
    # The broker refuses whoever has not the password, which only systemd's credential has.
    result["credentials"] = bool(first)


def look_at_processes(result: dict[str, Any]) -> None:
    health = wait(
        lambda: [message for _, message in heard("health/accelerated", 0) if message["placement"]],
        20,
        "an executor",
    )
    result["sandbox"] = {"worker": health[-1]["sandbox"], "executor": health[-1]["placement"]["sandbox"]}
    result["kernel_says_of"] = {
        name: {key: status(pid)[key] for key in ("NoNewPrivs", "Seccomp", "Seccomp_filters", "CapBnd", "Uid")}
        for name, pid in processes().items()
    }
    result["exposure"] = run("systemd-analyze", "security", "--no-pager", "limpet.service").splitlines()[-1]


def watch(result: dict[str, Any]) -> None:
    """See that root and members of the group may watch, and no other user."""

    def seen(*become: str) -> bool:
        shown = run(*become, "limpet", "watch", "--plain", "--seconds", "4", check=False)
        return re.search(r"^shuttle: .* samples/s", shown, re.MULTILINE) is not None

    user = ("setpriv", "--reuid=4711", "--regid=4711")
    result["watch"] = {
        "socket": run("stat", "--format=%A %U %G", "/run/limpet/monitor.sock"),
        "root": seen(),
        "member": seen(*user, "--groups=limpet"),
        "other": seen(*user, "--clear-groups"),
    }


def choose_model(result: dict[str, Any]) -> None:
    """Let root choose versions while the service runs, and see that all files stay its user's."""
    models, part = Path("/var/lib/limpet/models"), PROOF / "part"
    with (
        zipfile.ZipFile(models / "shuttle-1.limpet") as old,
        zipfile.ZipFile(part, "w") as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            if name == "manifest.json":
                content = json.dumps({**json.loads(content), "version": 2}).encode()
            new.writestr(name, content)
    run("install", "-o", "limpet", "-g", "limpet", part, models / "shuttle-2.limpet")
    said, swapped = [], []
    for which in ("2", "previous"):
        now = time.time()
        said.append(run("limpet", "model", "use", f"shuttle@{which}").splitlines()[-1])
        swapped.append(
            wait(
                lambda since=now: [one for _, one in heard("event/shuttle", since) if one["event"] == "swapped"],
                20,
                "a swap",
            )[0]["reason"]
        )
    result["model_use"] = {
        "said": said,
        "swapped_to": swapped,
        "pins": run("stat", "--format=%U %G", "/var/lib/limpet/pins.json"),
        "listed": run("limpet", "model", "list").splitlines()[1:],
        "of_another_user": run("find", "/var/lib/limpet", "!", "-user", "limpet"),
    }


def report(result: dict[str, Any]) -> None:
    """Write an archive for a bug report, with the service's journal."""
    archive = PROOF / "report.tar.gz"
    run("limpet", "doctor", "--report", archive)
    with tarfile.open(archive) as opened:
        texts = {
            member.name.partition("/")[2]: opened.extractfile(member).read().decode()  # type: ignore[union-attr]
            for member in opened
        }
    result["report"] = {
        "files": sorted(texts),
        "unit_active": "ActiveState=active" in texts.get("unit.txt", ""),
        "lines_of_log": len(texts.get("log.txt", "").splitlines()),
        "lines_of_health": len(texts.get("health.txt", "").splitlines()),
    }
    result["manual"] = sorted(path.name for path in Path("/usr/share/man/man1").glob("limpet*"))


def freeze(result: dict[str, Any]) -> None:
    """Freeze a worker, which its supervisor restarts; then the fork server too: systemd restarts all."""
    now = time.time()
    os.kill(processes()["limpet:shuttle"], signal.SIGSTOP)
    wait(lambda: heard("event/shuttle", now), 15, "an event")
    crashed = [message["reason"] for _, message in heard("event/shuttle", now) if message["event"] == "crashed"]
    after = time.time()
    wait(lambda: heard("result/shuttle", after), 15, "results after a frozen worker")
    result["frozen_worker_restarted"] = crashed[0] if crashed else False
    result["restarts_of_the_service_by_then"] = int(show("NRestarts"))
    found = processes()
    began = time.time()
    for name in ("limpet-fork", "limpet:shuttle"):
        os.kill(found[name], signal.SIGSTOP)
    wait(lambda: int(show("NRestarts")) > 0, 60, "a restart by the watchdog")
    after = time.time()
    result["watchdog_restarted_after_s"] = round(after - began, 1)
    result["watchdog_restarted"] = "watchdog" in run("journalctl", "--no-pager", "-u", "limpet.service").lower()
    wait(lambda: show("ActiveState") == "active", 30, "active again")
    results = wait(lambda: heard("result/shuttle", after), 30, "results after the watchdog")
    result["pinned_version_after_restart"] = each(results)[-1]["version"]


def look_at_journal(result: dict[str, Any]) -> None:
    """See that entries carry fields: the logger of each, and where the supervisor says so pipeline and event."""
    entries = [
        json.loads(line) for line in run("journalctl", "-u", "limpet", "-o", "json", "--no-pager").splitlines()
    ]
    own = [entry for entry in entries if str(entry.get("LOGGER", "")).startswith("limpet.")]
    crashed = [entry["LIMPET_PIPELINE"] for entry in own if entry.get("LIMPET_EVENT") == "crashed"]
    result["journal"] = {"entries_with_fields": len(own), "found_by_event": crashed}


def housekeeping(result: dict[str, Any]) -> None:
    stale = Path("/var/lib/limpet/cache/stale")
    run("setpriv", "--reuid=limpet", "--regid=limpet", "--clear-groups", "touch", stale)
    os.utime(stale, (0, 0))
    run("systemctl", "start", "limpet-housekeeping.service")
    result["housekeeping"] = {
        "unpacked_long_ago_deleted": not stale.exists(),
        "timer": run("systemctl", "is-active", "limpet-housekeeping.timer"),
    }
    # The outbox's write-ahead log and the sign of life are in memory.
    result["runtime_directory"] = {
        "files": sorted(path.name for path in Path("/run/limpet").iterdir()),
        "on": run("stat", "--file-system", "--format=%T", "/run/limpet"),
    }


def instance(result: dict[str, Any]) -> None:
    """Run a second one beside the first, whose configuration does not say where its state is."""
    source = 'kind = "replay"\npath = "recording.csv"\nrate = 50\nloop = true'
    begin, _, rest = CONFIG.partition('kind = "serial"')
    text = begin + source + rest.partition("]")[2]
    Path("/etc/limpet/second.toml").write_text(text.replace('id = "proof"', 'id = "second"'))
    rows = "50,21,77,0,28,0,27,48,22\n" * 100
    Path("/etc/limpet/recording.csv").write_text(",".join(f"f{i}" for i in range(1, 10)) + "\n" + rows)
    drop_in = Path("/etc/systemd/system/limpet@.service.d/proof.conf")
    drop_in.parent.mkdir()
    drop_in.write_text(DROP_IN)
    state = Path("/var/lib/limpet-second")
    run("install", "-d", "-o", "limpet", "-g", "limpet", state, state / "models")
    run("cp", "/var/lib/limpet/models/shuttle-1.limpet", state / "models")
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "--quiet", "--now", "limpet@second.service", "limpet-housekeeping@second.timer")
    run("systemctl", "start", "limpet-housekeeping@second.service")
    result["instance"] = {
        "state": sorted(path.name for path in state.iterdir()),
        "runtime": sorted(path.name for path in Path("/run/limpet-second").iterdir()),
        "alive": run("env", "RUNTIME_DIRECTORY=/run/limpet-second", "limpet", "alive", "--ready"),
    }
    run("systemctl", "stop", "limpet@second.service")
    for path in (drop_in, "/etc/limpet/second.toml", "/etc/limpet/recording.csv"):
        run("rm", path)
    drop_in.parent.rmdir()


def eyes_and_ears(result: dict[str, Any]) -> None:
    """Add cameras. Run an instance with a video, a camera on the network, pictures and sound, and all drop-ins."""
    run("dpkg", "-i", *PROOF.glob("limpet-camera_*-1_amd64.deb"))
    pictures, state, secret = Path("/srv/pictures"), Path("/var/lib/limpet-eyes"), Path("/srv/secret")
    run("cp", "-r", PROOF / "eyes", pictures)
    secret.write_text("of another service")
    text = re.sub(
        r'path = "(pictures|squares|tone)', rf'path = "{pictures}/\1', (pictures / "eyes.toml").read_text()
    )
    text = text.replace('state = "state"\n', "").replace("found.jsonl", f"{state}/found.jsonl")
    Path("/etc/limpet/eyes.toml").write_text(re.sub(r"(squares|features)-1.limpet", r"\1", text))
    run("install", "-d", "-o", "limpet", "-g", "limpet", state, state / "models")
    run("cp", *pictures.glob("*.limpet"), state / "models")
    drop_ins = Path("/etc/systemd/system/limpet@.service.d")
    drop_ins.mkdir()
    for name in ("camera", "audio", "pictures", "broker-only", "network-camera"):
        run("cp", f"/usr/share/limpet/drop-ins/{name}.conf", drop_ins)
    run("systemctl", "daemon-reload")
    run("systemd-run", "--unit=camera", "python3", pictures / "camera.py", pictures / "pictures")
    run("systemctl", "start", "limpet@eyes.service")
    found = state / "found.jsonl"

    def counted() -> dict[str, int]:
        lines = [json.loads(line) for line in found.read_text().splitlines() if line[-1:] == "}"]
        names = [line["pipeline"] for line in lines if line["type"] == "result"]
        return {name: names.count(name) for name in ("video", "stream", "folder", "tone")}

    wait(
        lambda: found.exists() and min(counted().values()) > 5, 40, "results of video, camera, pictures and sound"
    )
    pid = run("systemctl", "show", "--value", "-p", "MainPID", "limpet@eyes.service")
    waiting = re.findall(r"microphone: waiting: (.*)", run("journalctl", "--no-pager", "-u", "limpet@eyes"))
    result["eyes_and_ears"] = {
        "results": counted(),
        "microphone": waiting[0] if waiting else "",
        "sees_in_srv": run("nsenter", "--target", pid, "--mount", "ls", "/srv"),
        "groups": sorted(grp.getgrgid(int(number)).gr_name for number in status(int(pid))["Groups"].split()),
        "exposure": run("systemd-analyze", "security", "--no-pager", "limpet@eyes.service").splitlines()[-1],
    }
    run("systemctl", "stop", "limpet@eyes.service", "camera.service")
    run("dpkg", "-P", "limpet-camera")
    for path in (pictures, secret, state, drop_ins, Path("/etc/limpet/eyes.toml")):
        run("rm", "-r", path)
    run("systemctl", "daemon-reload")


def upgrade(result: dict[str, Any]) -> None:
    """Install a later package and the earlier one again while the broker hears nothing.

    The state stays, the service runs, and what each version had queued is sent by the other.
    """
    installations, after, lost = [], [], []
    for revision in (2, 1):
        boot = each(heard("result/shuttle", 0))[-1]["boot"]
        run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "broker")
        time.sleep(4)
        run("dpkg", "-i", *sorted(PROOF.glob(f"limpet_*-{revision}_amd64.deb")))
        now = time.time()
        run("systemctl", "kill", "--kill-whom=main", "--signal=CONT", "broker")
        wait(lambda since=now, old=boot: numbers(since, lambda name: name != old), 40, "results after an upgrade")
        time.sleep(2)
        every = numbers(0, lambda name, old=boot: name == old)
        after.append(len(numbers(now, lambda name, old=boot: name == old)))
        lost.append(max(every) - len(every))
        installations.append(json.loads(Path("/var/lib/limpet/boot.json").read_text())["installation"])
    result["upgrade_and_back"] = len(set(installations)) == 1 and all(after) and not any(lost)
    result["queued_over_upgrades"] = {"heard_after": after, "lost": lost}


def numbers(since: float, of: Callable[[str], bool]) -> set[int]:
    """Return the numbers of the results heard since then of certain runs."""
    return {one["sequence"] for one in each(heard("result/shuttle", since)) if of(one["boot"])}


def each(messages: list[tuple[float, Any]]) -> list[Any]:
    """Return the results in these messages, of which each has one or several."""
    return [one for _, said in messages for one in (said if isinstance(said, list) else [said])]


def stop(result: dict[str, Any]) -> None:
    began = time.time()
    run("systemctl", "stop", "limpet.service")
    result["stop_s"] = round(time.time() - began, 2)
    result["stop_result"] = show("Result")
    offline = wait(lambda: heard("status", began), 5, "offline")
    result["offline_said"] = "offline" in json.dumps(offline[-1][1])


def refuse(result: dict[str, Any]) -> None:
    """See that a configuration that cannot be used is not tried again and again."""
    Path("/etc/limpet/limpet.toml").write_text(CONFIG + "nonsense = 1\n")
    run("systemctl", "start", "limpet.service", check=False)
    wait(lambda: show("ActiveState") == "failed", 20, "failed")
    result["refused_configuration"] = {"exit_status": show("ExecMainStatus"), "restarts": show("NRestarts")}


def reset_and_remove(result: dict[str, Any], before: set[str]) -> None:
    result["factory_reset"] = run("limpet-factory-reset", "--all").splitlines()[-1]
    result["state_after_reset"] = sorted(
        path.name for path in Path("/var/lib/limpet").rglob("*") if path.is_file()
    )
    run("systemctl", "stop", "subscriber")
    run("dpkg", "-r", "limpet")
    gone = not Path("/opt/limpet").exists()
    run("dpkg", "-P", "limpet")
    left = sorted(files() - before)
    result["deb_installed_removed"] = gone and left == []
    result["left_after_purge"] = left


def main() -> None:
    result: dict[str, Any] = {"systemd": "booted: " + run("systemctl", "--version").splitlines()[0]}
    try:
        start_surroundings()
        before = files()
        install(result)
        subscribe()
        first_steps(result)
        configure()
        for step in (
            start,
            look_at_processes,
            watch,
            choose_model,
            report,
            freeze,
            look_at_journal,
            housekeeping,
            instance,
            eyes_and_ears,
            upgrade,
            stop,
            refuse,
        ):
            step(result)
        reset_and_remove(result, before)
    except Exception:  # noqa: BLE001 - the result says what went wrong
        result["error"] = traceback.format_exc()
    (PROOF / "result.json").write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
