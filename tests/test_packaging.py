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


def test_packages_read_every_kind_of_sound_file_where_its_library_has_a_wheel() -> None:
    lock = (PACKAGING.parent / "requirements/core.txt").read_text().splitlines()
    pins = [line for line in lock if line.startswith(("soundfile==", "cffi=="))]
    markers = {line.partition("==")[0]: line.rstrip(" \\").partition(" ; ")[2] for line in pins}
    wheels = "platform_machine != 'armv6l' and platform_machine != 'armv7l'"
    assert markers == {"soundfile": wheels, "cffi": wheels}


def test_packages_have_what_limpet_watch_draws_with() -> None:
    lock = (PACKAGING.parent / "requirements/core.txt").read_text().splitlines()
    assert "rich==" in [line[:6] for line in lock if ";" not in line]
