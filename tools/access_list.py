"""Write the packaged access list of mosquitto: ``python tools/access_list.py``.

It is what ``limpet enroll acl`` prints for a fleet with one person or program of each role.
"""

from __future__ import annotations

from pathlib import Path

from limpet.enrolment import access, names

FILE = Path(__file__).parents[1] / "packaging" / "mosquitto" / "limpet.acl"
PEOPLE: list[tuple[names.Role, str]] = [
    ("operator", "ada"),
    ("sender", "models"),
    ("home-assistant", "home"),
    ("watcher", "screen"),
    ("scada", "host"),
]


def text() -> str:
    """Return the access list."""
    return access.text("limpet", [(role, names.person(role, name)) for role, name in PEOPLE])


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
