"""What the contracts of all plugin groups have in common: a plugin has docstrings, and refuses unknown keys."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec
import pytest

from limpet import plugins
from limpet.errors import ConfigError
from limpet.extras import install_extra
from limpet.filling import fill

if TYPE_CHECKING:
    from limpet.plugins import Group

each = pytest.mark.parametrize(
    ("group", "kind"), [(group, kind) for group in get_args(plugins.Group) for kind in plugins.names(group)]
)


@each
def test_it_has_docstrings(group: Group, kind: str) -> None:
    module = plugins.load(group, kind)
    assert module.__doc__
    assert issubclass(module.Config, msgspec.Struct)
    assert inspect.getdoc(module.Config)
    assert inspect.getdoc(module.open)


@each
def test_unknown_keys_are_refused(group: Group, kind: str) -> None:
    config = plugins.load(group, kind).Config
    problems: list[str] = []
    assert fill(config, {"no_such_key": 1}, "here", Path(), problems) is None
    assert any(problem.startswith("here.no_such_key: unknown key") for problem in problems)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"no_such_key": 1}, config)


@pytest.mark.parametrize("group", get_args(plugins.Group))
def test_an_unknown_kind_is_named_with_what_was_probably_meant(group: Group) -> None:
    kind = plugins.names(group)[0]
    with pytest.raises(ConfigError, match=f"did you mean '{kind}'"):
        plugins.load(group, f"{kind}x")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import nothing_there", r"ModuleNotFoundError: No module named 'nothing_there' \(.*frail\.py, line 1\)"),
        ("x = 1\nraise RuntimeError('no licence')", r"RuntimeError: no licence \(.*frail\.py, line 2\)"),
        ("def (", r"SyntaxError: invalid syntax \(frail\.py, line 1\)"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_code_of_a_third_party_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, why: str
) -> None:
    (tmp_path / "frail.py").write_text(code)
    (tmp_path / "frail-1.dist-info").mkdir()
    (tmp_path / "frail-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: frail\nVersion: 1\n")
    (tmp_path / "frail-1.dist-info" / "entry_points.txt").write_text("[limpet.decoders]\nfrail = frail\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=f"decoders 'frail' of the package 'frail' cannot be imported: {why}"):
        plugins.load("decoders", "frail")


def test_a_library_that_is_too_old_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "pymicro_features.py").touch()
    code = "from limpet import plugins; plugins.load('transforms', 'micro_frontend')"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    problem = "transforms 'micro_frontend' cannot use the installed 'pymicro_features': cannot import name"
    assert f"ConfigError: {problem}" in done.stderr


def test_an_extra_is_installed_as_limpet_was() -> None:
    assert install_extra("camera") == "pip install 'limpet[camera]'"
    # There is no pip.
    assert "limpet-camera" in install_extra("camera", "/opt/limpet")
    assert "limpet-grpc" in install_extra("api-grpc", "/opt/limpet")
