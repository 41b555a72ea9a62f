"""A source from outside the package gets what it declares in the sandbox of the real daemon, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.conftest import Configure, pipeline
from support.broker import wait_until
from support.daemon import Consumer, daemon
from support.outside import install

OUTSIDE = Path(__file__).parent / "outside"
SOURCE = '[sources.{name}]\nkind = "{kind}"\ndevice = "{device}"\n'


@pytest.fixture
def device() -> str:
    """Return the kernel's hardware random number generator, or where there is none its software."""
    try:
        with Path("/dev/hwrng").open("rb", buffering=0) as generator:
            return "/dev/hwrng" if generator.read(1) else "/dev/random"
    except OSError:
        return "/dev/random"


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    """Install the plugin as it is, and once more without its function ``needs``."""
    text = (OUTSIDE / "noise.py").read_text()
    declaration = text.index("def needs(")
    for name, plugin in (("noise", text), ("undeclared", text[:declaration])):
        install(tmp_path / "site", "sources", name, plugin)
    return {"PYTHONPATH": str(tmp_path / "site")}


def test_a_device_is_open_to_the_source_that_declares_it_and_to_no_other(
    configure: Configure, consumer: Consumer, site: dict[str, str], device: str
) -> None:
    path = configure(
        SOURCE.format(name="declared", kind="noise", device=device),
        pipeline("declared", "declared"),
        SOURCE.format(name="silent", kind="undeclared", device=device),
        pipeline("silent", "silent"),
        SOURCE.format(name="greedy", kind="noise", device=device) + 'also = "/dev/full"\n',
        pipeline("greedy", "greedy"),
    )
    with daemon(path, site) as running:
        consumer.wait_results("declared", 20)
        reasons = {name: _waiting(consumer, name) for name in ("silent", "greedy")}
        assert running.stop() == 0
    for name, refused in (("silent", device), ("greedy", "/dev/full")):
        assert f"{refused}: Permission denied" in reasons[name]
        assert f"the sandbox refuses {refused}" in reasons[name]
        assert "declares all that it opens in its function needs(config)" in reasons[name]
        assert not consumer.results(name)
    assert not consumer.events("declared", "waiting")
    assert os.access("/dev/full", os.R_OK)  # it is the sandbox that refuses it, not its mode


def _waiting(consumer: Consumer, name: str) -> str:
    wait_until(lambda: (consumer.last(f"health/{name}") or {}).get("state") == "waiting")
    reason: str = consumer.last(f"health/{name}")["reason"]
    return reason
