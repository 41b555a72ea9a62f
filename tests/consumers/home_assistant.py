"""A Home Assistant that knows a broker and nothing else, headless, in an environment of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from support.broker import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRESS = "press-install"
"""A message on this topic, with the id of an update entity, has Home Assistant install the update."""
_INSTALL = {
    "alias": "install",
    "trigger": {"platform": "mqtt", "topic": PRESS},
    "action": {"service": "update.install", "target": {"entity_id": "{{ trigger.payload }}"}},
}
STATES = "states"
"""Where it tells the states of its entities: its mqtt_statestream."""


def _entries(port: int) -> dict[str, Any]:
    """Return what adding a broker in its user interface leaves behind."""
    entry = {
        "entry_id": "broker",
        "version": 1,
        "minor_version": 1,
        "domain": "mqtt",
        "title": "broker",
        "data": {"broker": "127.0.0.1", "port": port, "discovery": True},
        "options": {},
        "pref_disable_new_entities": False,
        "pref_disable_polling": False,
        "source": "user",
        "unique_id": None,
        "disabled_by": None,
    }
    return {"version": 1, "minor_version": 1, "key": "core.config_entries", "data": {"entries": [entry]}}


@contextlib.contextmanager
def running(hass: Path, directory: Path, port: int) -> Iterator[Path]:
    """Yield the file that it logs to while it runs; when it has ended its registries are under ``.storage``."""
    (directory / ".storage").mkdir(parents=True)
    (directory / ".storage" / "core.config_entries").write_text(json.dumps(_entries(port)))
    configuration = {
        "http": {"server_host": "127.0.0.1", "server_port": free_port()},
        "mqtt_statestream": {"base_topic": STATES, "publish_attributes": True},
        "logger": {"default": "warning"},
        "automation": [_INSTALL],
    }
    (directory / "configuration.yaml").write_text(yaml.safe_dump(configuration))
    log = directory / "home-assistant.log"
    process = subprocess.Popen(
        [hass, "--config", directory, "--skip-pip"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def entities(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the entities that it knows, by unique id, after it has ended."""
    registry = json.loads((directory / ".storage" / "core.entity_registry").read_text())
    return {entity["unique_id"]: entity for entity in registry["data"]["entities"]}
