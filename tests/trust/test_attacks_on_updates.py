"""An attacker has the broker, and copies of what was once signed: the reader and the rules of updates together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from limpet.trust import chain, requests
from support import trusting
from support.trusting import NOW, Keys
from support.update_world import World, bundle

if TYPE_CHECKING:
    from limpet.updates.state import Deployed

KEYS = Keys()
ROOTS = chain.anchored(trusting.root(KEYS))
ONE, TWO, THREE = (bundle("motion", version) for version in (1, 2, 3))


def payload(wanted: Deployed, serial: int, *, signed: bool = True, **fields: object) -> bytes:
    form = {
        "version": wanted.version,
        "sha256": wanted.file_sha256,
        "length": wanted.length,
        "serial": serial,
        **fields,
    }
    return trusting.request(form, [KEYS.operator] if signed else [])


def comes(world: World, wanted: Deployed, data: bytes) -> None:
    """Read a request as the reader does, and have the rules decide."""
    read = requests.read(data, requests.Addressed("press-07", "p", NOW), ROOTS)
    world.want(wanted, form=read.request, signed=bool(read.signed_by))


@pytest.fixture
def world() -> World:
    """A device that went from version 1 to version 2."""
    made = World()
    made.boot()
    for serial, each in ((1, ONE), (2, TWO)):
        comes(made, each, payload(each, serial))
        made.settle()
    assert made.of().good == TWO
    return made


def test_attack_replayed_signed_desired_state_is_refused(world: World) -> None:
    comes(world, ONE, payload(ONE, 1))
    assert "This device has seen 2" in world.of().reason
    world.settle()
    assert world.of().good == TWO


def test_attack_replay_after_a_rollback_that_an_operator_signed_is_refused(world: World) -> None:
    comes(world, ONE, payload(ONE, 3, allow_older=True))
    world.settle()
    assert world.of().good == ONE
    comes(world, TWO, payload(TWO, 2))
    assert "This device has seen 3" in world.of().reason


def test_attack_old_version_is_refused_without_an_operators_signature(world: World) -> None:
    for serial, (signed, allowed) in enumerate(((True, False), (False, True), (False, False)), start=4):
        comes(world, ONE, payload(ONE, serial, signed=signed, allow_older=allowed))
        world.settle()
        assert world.of().good == TWO
        assert "older than 2" in world.of().reason


def test_attack_unsigned_copy_of_a_signed_request_allows_no_older_version(world: World) -> None:
    """The signature is taken off: what is left is a plain request, and in it `allow_older` does not count."""
    signed = json.loads(payload(ONE, 5, allow_older=True))
    assert signed["signatures"]
    plain = payload(ONE, 5, signed=False, allow_older=True)
    comes(world, ONE, plain)
    assert "older than 2" in world.of().reason


def test_a_newer_version_goes_on(world: World) -> None:
    comes(world, THREE, payload(THREE, 6, signed=False))
    world.settle()
    assert world.of().good == THREE
