"""What can be seen of the packages without building them; `make service` builds, boots and removes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from limpet import config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGING = Path(__file__).parent.parent / "packaging"
SCRIPTS = sorted(
    path for path in PACKAGING.rglob("*") if path.is_file() and path.read_text().startswith("#!/bin/sh")
)
MANIFEST = {
    part["kind"]: part for part in yaml.safe_load_all((PACKAGING / "kubernetes/daemonset.yaml").read_text())
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(PACKAGING)))
def test_scripts_are_shell_and_can_be_run(script: Path) -> None:
    assert subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False).stderr == ""
    assert script.stat().st_mode & 0o111


def test_the_manifest_brings_a_configuration_that_can_be_used() -> None:
    text = MANIFEST["ConfigMap"]["data"]["limpet.toml"]
    read = config.build(tomllib.loads(text), Path("/etc/limpet"))
    assert list(read.pipelines) == ["motion"]
    # The line that the init container replaces by the node's name.
    assert 'id = "node"' in text.splitlines()


def test_the_manifest_gives_no_privilege() -> None:
    pod: dict[str, Any] = MANIFEST["DaemonSet"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod["initContainers"], *pod["containers"]]:
        security = container["securityContext"]
        assert security["capabilities"]["drop"] == ["ALL"]
        assert (security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"]) == (True, False)
        assert "privileged" not in security


def test_a_container_is_asked_for_signs_of_life_where_the_daemon_gives_them() -> None:
    (container,) = MANIFEST["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    assert environment["RUNTIME_DIRECTORY"] in {mount["mountPath"] for mount in container["volumeMounts"]}
    for probe, options in (("livenessProbe", []), ("readinessProbe", ["--ready"])):
        assert container[probe]["exec"]["command"] == ["limpet", "alive", *options]
    image = (PACKAGING / "container/Containerfile").read_text()
    assert f"ENV RUNTIME_DIRECTORY={environment['RUNTIME_DIRECTORY']}" in image.splitlines()
    assert 'CMD ["limpet", "alive"]' in image


def test_what_is_taken_instead_of_the_lock_is_exact_and_hashed() -> None:
    for name in ("instead.txt", "offline/pip.txt"):
        lines = [line for line in (PACKAGING / name).read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all("==" in line and "--hash=sha256:" in line for line in lines)


WHEELS = "platform_machine != 'armv6l' and platform_machine != 'armv7l'"
"""Platforms that have wheels of what is compiled."""


def locked(name: str) -> list[str]:
    """Return the markers under which requirements/core.txt has a distribution, one for each version."""
    lock = (PACKAGING.parent / "requirements/core.txt").read_text().splitlines()
    return [line.rstrip(" \\").partition(" ; ")[2] for line in lock if line.startswith(f"{name}==")]


@pytest.mark.parametrize("name", ["soundfile", "soxr", "pymicro-features", "pillow", "av"])
def test_packages_read_sound_and_pictures_where_the_libraries_have_wheels(name: str) -> None:
    markers = locked(name)
    assert markers
    assert all(marker.endswith(WHEELS) for marker in markers)


def test_packages_verify_and_fetch_models_everywhere_and_read_patches_where_zstandard_has_wheels() -> None:
    for name in ("tuf", "securesystemslib", "cryptography", "urllib3"):
        assert locked(name) == [""]
    assert locked("zstandard") == [WHEELS]


def test_packages_have_the_local_api_and_its_export_everywhere() -> None:
    for name in ("uvicorn", "h11", "wsproto", "opentelemetry-proto", "protobuf"):
        assert locked(name) == [""]
    assert locked("httptools") == locked("grpcio") == [WHEELS]


def test_what_few_devices_need_stays_out_of_the_main_package() -> None:
    script = (PACKAGING / "wheelhouse.sh").read_text()
    assert "skip = /^(cobs|av|grpcio)==/" in script
    assert "take = /^av==/" in script
    assert "take = /^grpcio==/" in script
    for name in ("camera", "grpc", "starter"):
        control = (PACKAGING / f"deb/limpet-{name}.control").read_text()
        assert control.startswith(f"Package: limpet-{name}\n")
        assert (PACKAGING / f"deb/limpet-{name}.copyright").read_text()
    copyright_ = (PACKAGING / "deb/limpet-camera.copyright").read_text()
    assert "GNU General" in copyright_
    assert "https://github.com/PyAV-Org/pyav-ffmpeg" in copyright_


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--with"], "--with: name one of: camera"),
        (["--with", "sonar"], "--with sonar: this bundle has: camera"),
        (["--with", "../with/camera"], "--with: name one of: camera"),
        (["--with", "camera", "--without"], "unknown option '--without'; use --with NAME or --uninstall"),
    ],
)
def test_an_option_that_the_installer_does_not_know_installs_nothing(
    options: list[str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "with/camera").mkdir(parents=True)
    script = tmp_path / "install.sh"
    script.write_text((PACKAGING / "offline/install.sh").read_text())
    done = subprocess.run(["sh", script, *options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"install.sh: {said}\n")


def test_packages_have_what_limpet_watch_draws_with() -> None:
    assert locked("rich") == [""]
