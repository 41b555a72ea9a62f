"""Each folder of firmware-configs: its configuration, its rules, its overlays, what its README promises."""

from __future__ import annotations

import plistlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from limpet import cli, config
from limpet.contracts.fields import TensorInfo, WindowSpec
from limpet.device import directories
from limpet.models.manifest import Manifest
from limpet_convert import package
from support import certificates, models, udev

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "firmware-configs"
BOARDS = sorted(path.parent for path in CONFIGS.glob("*/limpet.toml"))
CONFIGURATIONS = sorted(path for board in BOARDS for path in board.glob("*.toml"))
RULES = sorted(CONFIGS.glob("*/*.rules"))
WANTED = {
    "raspberry-pi-4", "raspberry-pi-5", "coral-dev-board", "coral-usb", "jetson-orin-nano", "nxp-imx8mp",
    "rockchip-rk3588", "beagleplay", "x86-gateway", "mac-mini",
}  # fmt: skip

CAMERAS_AND_MICROPHONES = {
    "coral-dev-board/camera", "coral-usb/camera", "jetson-orin-nano/camera", "nxp-imx8mp/camera",
    "raspberry-pi-4/camera", "raspberry-pi-4/wake-word", "raspberry-pi-5/csi-camera", "x86-gateway/cameras",
}  # fmt: skip

each_board = pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.name)
each_configuration = pytest.mark.parametrize(
    "written", CONFIGURATIONS, ids=lambda path: f"{path.parent.name}/{path.stem}"
)


def test_every_board_is_there() -> None:
    assert {board.name for board in BOARDS} == WANTED
    assert {path.parent.name for path in RULES} == WANTED - {"mac-mini"}
    others = {f"{path.parent.name}/{path.stem}" for path in CONFIGURATIONS if path.stem != "limpet"}
    assert others == CAMERAS_AND_MICROPHONES


def installed(written: Path, folder: Path) -> Path:
    """A board's configuration in a folder: only its state and the files of /etc/limpet are elsewhere."""
    text = "".join(line for line in written.read_text().splitlines(keepends=True) if "state =" not in line)
    if "ca_file" in text:
        certificates.authority(folder)
        (folder / "mqtt-password").write_text("there\n")
    if "[api]" in text:
        certificates.certificate(folder / "ca.pem", "device")
        (folder / "api-tokens").write_text(f"anna {'0' * 64}\n")
    there = text.replace("[device]\n", '[device]\nstate = "state"\n').replace("/etc/limpet/", f"{folder}/")
    path = folder / "limpet.toml"
    path.write_text(there)
    return path


def stock(read: dict[str, Any], folder: Path) -> None:
    """Put a bundle into the store for each model, made for its source."""
    store = folder / "state" / "models"
    store.mkdir(parents=True, exist_ok=True)
    made = {"serial": for_channels, "camera": for_pictures, "audio": for_sound}
    for pipeline in read["pipelines"].values():
        source = read["sources"][pipeline["source"]]
        manifest, model = made[source["kind"]](pipeline["model"], source, folder / "m.tflite")
        package.write(store, manifest, model.read_bytes())


def for_channels(name: str, source: dict[str, Any], path: Path) -> tuple[Manifest, Path]:
    channels = source["channels"]
    manifest = Manifest(
        name=name,
        version=1,
        inputs=[TensorInfo(name="input", shape=[1, len(channels)], dtype="int8", channels=channels)],
        window=WindowSpec(size=1),
        decoder={"kind": "regress", "names": [f"y{n}" for n, _ in enumerate(channels)]},
    )
    return manifest, models.dense(path, len(channels), len(channels))


def for_pictures(name: str, _: dict[str, Any], path: Path) -> tuple[Manifest, Path]:
    manifest = Manifest(
        name=name,
        version=1,
        transforms=[
            {"kind": "letterbox", "width": 128, "height": 96},
            {"kind": "colour", "to": "grey"},
            {"kind": "normalise", "std": 255},
        ],
        decoder={"kind": "detect", "labels": ["Person"], "pixels": [128, 96], "layout": "yolov8"},
    )
    return manifest, models.squares(path)


def for_sound(name: str, _: dict[str, Any], path: Path) -> tuple[Manifest, Path]:
    manifest = Manifest(
        name=name,
        version=1,
        rate=16_000,
        window=WindowSpec(size=800, hop=480),
        decoder={"kind": "keyword", "labels": ["okay nabu"]},
    )
    return manifest, models.dense(path, 800, 1, int8=False)


@each_configuration
def test_configuration_passes_check(written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = installed(written, tmp_path)
    read = tomllib.loads(path.read_text())
    stock(read, tmp_path)
    assert cli.main(["check", str(path)]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == list(read["pipelines"])


@each_configuration
def test_configuration_without_its_model_does_not(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = installed(written, tmp_path)
    assert cli.main(["check", str(path)]) == 78
    problems = [line for line in capsys.readouterr().err.splitlines() if line.startswith(str(path))]
    assert len(problems) == len(tomllib.loads(path.read_text())["pipelines"])
    assert all("there is no model" in problem for problem in problems)


# --- udev


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.parent.name)
def test_rules(path: Path) -> None:
    text = path.read_text()
    assert udev.problems(text) == []
    assert 'SYMLINK+="limpet-sensor"' in text
    named = {
        name for other in path.parent.glob("*.toml") for name in re.findall(r"/dev/limpet-\w+", other.read_text())
    }
    for name in named:
        assert f'SYMLINK+="{name.removeprefix("/dev/")}"' in text
    if (said := udev.udevadm(path)) is not None:
        assert said == ""


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ('SUBSYSTEM="tty", SYMLINK+="x"', "SUBSYSTEM cannot stand before ="),
        ('SUBSYSTEMM=="tty"', "SUBSYSTEMM cannot stand before =="),
        ('SUBSYSTEM=="tty" SYMLINK+="x"', "no comma"),
        ('SUBSYSTEM=="tty", ', "ends with a comma"),
        ('SUBSYSTEM=="tty, MODE="0660"', "no comma"),
        ('ATTR=="x"', "needs a name"),
        ('MODE="660"', "not octal"),
        ('ACTION=="remove", GOTO="end"', "leads nowhere"),
        ('RUN+="/bin/true"', "runs no program"),
        ("SUBSYSTEM==tty", "cannot be read"),
    ],
)
def test_a_wrong_rule_is_found(rule: str, problem: str) -> None:
    assert any(problem in found for found in udev.problems(f'# one\n{rule}\nLABEL="other"\n'))


@pytest.mark.parametrize("rule", ['FOO=="1"', 'GOTO="nowhere"', 'ATTR=="1"'])
def test_the_real_udev_finds_them_too(rule: str, tmp_path: Path) -> None:
    path = tmp_path / "99-limpet.rules"
    path.write_text(f"{rule}\n")
    assert udev.udevadm(path) != ""


# --- device trees


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.dtso")), ids=lambda path: path.stem)
def test_overlay_compiles(path: Path, tmp_path: Path) -> None:
    binary = tmp_path / "overlay.dtbo"
    command: list[str | Path] = ["dtc", "-@", "-I", "dts", "-O", "dtb", "-o", binary, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    shown = subprocess.run(["dtc", "-I", "dtb", "-O", "dts", binary], capture_output=True, text=True, check=True)
    assert "__fixups__" in shown.stdout
    assert 'status = "okay"' in shown.stdout
    assert f"{path.stem}.dtbo" in (path.parent / "README.md").read_text()


@pytest.mark.parametrize("board", ["raspberry-pi-4", "raspberry-pi-5"])
def test_config_txt(board: str) -> None:
    for line in (CONFIGS / board / "config.txt").read_text().splitlines():
        assert re.fullmatch(r"|#.*|[a-z_]+=[^\s]{1,60}", line)


# --- services


def test_launchd() -> None:
    agent = plistlib.loads((CONFIGS / "mac-mini" / "org.limpet.agent.plist").read_bytes())
    program, command, path = agent["ProgramArguments"]
    assert (program, command) == ("/opt/limpet/bin/limpet", "run")
    assert path in (CONFIGS / "mac-mini" / "README.md").read_text() or path.endswith("limpet.toml")
    assert agent["KeepAlive"]
    assert agent["UserName"] == "_limpet"


def known_to_systemd(text: str, folder: Path) -> str:
    """Return what systemd says of a drop-in of a service."""
    unit = folder / "limpet.service"
    unit.write_text(f"[Unit]\nDescription=x\n{text}\nExecStart=/bin/true\n")
    return subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False).stderr


def test_the_service_of_the_csi_camera_sends_to_the_configured_port_and_opens_no_other(tmp_path: Path) -> None:
    board = CONFIGS / "raspberry-pi-5"
    text = (board / "limpet-csi-camera.service").read_text()
    unit = tmp_path / "limpet-csi-camera.service"
    unit.write_text(text.replace("/usr/bin/rpicam-vid", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    url = tomllib.loads((board / "csi-camera.toml").read_text())["sources"]["csi"]["url"]
    assert text.count(url) == 1
    assert "IPAddressDeny=any\nIPAddressAllow=localhost\n" in text


def test_the_npu_cache_is_understood_by_systemd_and_may_be_written_in_the_sandbox(tmp_path: Path) -> None:
    text = (CONFIGS / "nxp-imx8mp" / "vivante-cache.conf").read_text()
    assert known_to_systemd(text, tmp_path) == ""
    assert "Environments" in known_to_systemd(text.replace("Environment", "Environments"), tmp_path)
    (folder,) = re.findall(r"DIR=(.*)", text)
    wanted = config.read(CONFIGS / "nxp-imx8mp" / "limpet.toml")
    (name,) = wanted.pipelines
    assert Path(folder) == directories.drivers_cache(wanted.device.state, name)


# --- what the READMEs promise


@each_board
def test_readme(board: Path) -> None:
    text = (board / "README.md").read_text()
    for heading in ("## Delegates", "## Figures"):
        assert heading in text
    for path in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (board / path).exists(), path
    for other in board.glob("*.toml"):
        assert other.name == "limpet.toml" or f"]({other.name})" in text, other.name
    for name in re.findall(r"[\w/.-]*drop-ins/[\w.-]+\.conf", text):
        # The package has them in /usr/share/limpet.
        assert (
            ROOT / "systemd" / name.removeprefix("../../systemd/").removeprefix("/usr/share/limpet/")
        ).exists(), name
    for name in re.findall(r"install -m 644 (\S+) ", text):
        assert (board / name.replace(".dtbo", ".dtso")).exists(), name  # compiled from it in the line before


@each_board
def test_figures_have_a_source(board: Path) -> None:
    figures = (board / "README.md").read_text().partition("## Figures")[2]
    assert "easured" in figures
    lines = [line for line in figures.splitlines() if line.startswith("|")]
    rows = lines[2:]  # below the head
    if rows and "Measured on" not in figures:
        assert "https://" in rows[0]
        assert all("https://" in row or "same" in row for row in rows)


@pytest.fixture
def delegates() -> Callable[[Path], set[str]]:
    def named(board: Path) -> set[str]:
        every = [tomllib.loads(path.read_text()) for path in board.glob("*.toml")]
        return {
            name
            for read in every
            for pipeline in read["pipelines"].values()
            for name in pipeline.get("delegates", ["cpu"])
        }

    return named


@each_board
def test_the_readme_explains_the_delegates_that_are_configured(
    board: Path, delegates: Callable[[Path], set[str]]
) -> None:
    section = (board / "README.md").read_text().partition("## Delegates")[2].partition("## Figures")[0]
    for name in delegates(board):
        assert name in section
