"""A V4L2 camera: three pixel formats, frames that are lost or damaged, and a camera that goes away and comes back.

The kernel's driver ``vivid`` is a webcam that shows colour bars. It can lose and damage buffers, and be unplugged.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lab import kernel
from lab.kernel import SLOW
from support import models
from support.broker import Mosquitto, mosquitto, wait_until
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONS = ("n_devs=1", "node_types=0x1", "num_inputs=1", "input_types=0")
"""One webcam, and nothing else that vivid can be."""
DRIVER = Path("/sys/bus/platform/drivers/vivid")
SIZE = 8
CONFIG = """
[device]
id = "lab"
state = "state"
health_interval = 1

[mqtt]
url = "{url}"

[sources.camera]
kind = "camera"
device = "{device}"
size = [320, 180]
format = "{format}"
silence = 20

[pipelines.bars]
source = "camera"
model = "picture.tflite"
deadline = 60
transforms = [{{ kind = "resize", width = 8, height = 8 }}]
decoder = {{ kind = "tensor" }}
"""


def run(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    kernel.load("vivid", *OPTIONS)
    device = kernel.only("/dev/v4l/by-path/*-video-index0")
    models.same(folder / "picture.tflite", (1, SIZE, SIZE, 3), "uint8")
    with mosquitto(folder / "broker") as broker:
        seen = {kind: _see(folder, broker, device, kind) for kind in ("yuyv", "nv12", "grey")}
        trouble = _trouble(folder, broker, device)
    colours = np.abs(seen["yuyv"] - seen["nv12"]).mean()
    grey = np.ptp(seen["grey"].reshape(-1, 3), axis=1).max()
    print("difference of yuyv and nv12", colours, "colour in grey", grey, flush=True)
    return {
        "ran": bool(colours < 10 and grey == 0 and np.ptp(seen["yuyv"]) > 100),
        "formats": list(seen),
        "name": device.name,
        **trouble,
    }


def _configure(folder: Path, broker: Mosquitto, device: Path, kind: str) -> Path:
    path = folder / f"{kind}.toml"
    path.write_text(CONFIG.format(url=broker.url, device=device, format=kind))
    return path


def _see(folder: Path, broker: Mosquitto, device: Path, kind: str) -> Any:
    """Return what the pipeline sees in one pixel format, float64 ``(8, 8, 3)``."""
    consumer = Consumer(broker.port)
    with daemon(_configure(folder, broker, device, kind)) as running:
        consumer.wait_results("bars", 3, SLOW)
        running.stop()
    print(kind, running.log[-1500:], flush=True)
    picture = consumer.results("bars")[-1]["output"]["tensors"][0]["values"]
    consumer.close()
    return np.array(picture, float).reshape(SIZE, SIZE, 3)


def _trouble(folder: Path, broker: Mosquitto, device: Path) -> dict[str, Any]:
    consumer = Consumer(broker.port)

    def dropped(cause: str) -> int:
        return int((consumer.last("health/bars") or {"dropped": {}})["dropped"].get(cause, 0))

    with _other_program(device) as other, daemon(_configure(folder, broker, device, "yuyv")) as running:
        _wait("busy", lambda: dropped("busy") > 0)
        other.kill()
        other.wait()
        consumer.wait_results("bars", 3, SLOW)
        sandbox = consumer.last("health/bars")["sandbox"]
        _control(device, "percentage_of_dropped_buffers", 50)
        _wait("skipped", lambda: dropped("skipped") > 0)
        _control(device, "percentage_of_dropped_buffers", 0)
        _control(device, "inject_v4l2_buf_flag_error", 1)
        _wait("corrupt", lambda: dropped("corrupt") > 0)
        consumer.wait_results("bars", 3, SLOW)
        _control(device, "disconnect", 1)
        _wait("waiting", lambda: consumer.last("health/bars")["state"] == "waiting")
        reason = consumer.last("health/bars")["reason"]
        (DRIVER / "unbind").write_text("vivid.0")
        (DRIVER / "bind").write_text("vivid.0")
        kernel.settle()
        consumer.wait_results("bars", 3, SLOW)
        running.stop()
    print(running.log, flush=True)
    found = consumer.last("health/bars")["dropped"]
    back = consumer.events("bars", "running")
    consumer.close()
    return {
        "lost_and_back": str(device) in reason and len(back) >= 2,
        "counted": all(found.get(cause) for cause in ("busy", "skipped", "corrupt", "unplugged", "disconnected")),
        "reason": reason,
        "sandbox": sandbox,
        "dropped": found,
    }


def _other_program(device: Path) -> subprocess.Popen[bytes]:
    """Start a program that uses the camera."""
    other = subprocess.Popen(
        ["v4l2-ctl", "--device", device, "--stream-mmap"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert other.stderr is not None
    other.stderr.read(1)  # It shows each frame.
    return other


def _control(device: Path, name: str, value: int) -> None:
    subprocess.run(["v4l2-ctl", "--device", device, "--set-ctrl", f"{name}={value}"], check=True)


def _wait(what: str, condition: Callable[[], bool]) -> None:
    wait_until(condition, SLOW)
    print(f"camera: {what}", flush=True)
