"""What `limpet check` says of a source that is wrong, or whose code is, and of what depends on it."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from limpet.config import build
from limpet.doctor.check import inspect
from support.outside import install

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
import msgspec, numpy
from pathlib import Path
from limpet.contracts.data import SampleSpec
from limpet.contracts.needs import Needs

class Config(msgspec.Struct, forbid_unknown_fields=True):
    pass

def needs(config):
    return {needs}

def describe(config):
    return {described}

def open(config, dropped):
    pass
"""
SOUND = "SampleSpec((1,), numpy.dtype(numpy.float32))"
DECLARED = "Needs()"


@pytest.mark.parametrize(
    ("needs", "described", "problem"),
    [
        ("None", SOUND, "sources.s: wrong.needs() returned NoneType; it must return limpet.contracts.needs.Needs"),
        (
            "Needs(device=1)",
            SOUND,
            "sources.s: wrong.needs() failed: TypeError: Unexpected keyword argument 'device'",
        ),
        ("Needs(write=(Path('state').absolute(),))", SOUND, "which holds Limpet's own files"),
        (DECLARED, "Sample()", "sources.s: describe() of 'wrong' failed: NameError: name 'Sample' is not defined"),
        (DECLARED, "(1,)", "sources.s: describe() of 'wrong' returned tuple, not a SampleSpec"),
    ],
)
def test_a_source_whose_code_is_wrong_is_a_problem_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: str, described: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "wrong", raising=False)
    install(tmp_path / "site", "sources", "wrong", SOURCE.format(needs=needs, described=described))
    tables = {"device": {"id": "d", "state": "state"}, "jsonl": {}, "sources": {"s": {"kind": "wrong"}}}
    problems, *_ = inspect(build({**tables, "pipelines": {"p": {"source": "s", "model": "m"}}}, tmp_path))
    monkeypatch.delitem(sys.modules, "wrong", raising=False)
    (found,) = problems
    assert problem in found


def test_options_of_a_pipeline_are_checked_although_its_source_is_wrong(tmp_path: Path) -> None:
    source = {"kind": "serail"}
    pipeline = {"source": "s", "model": "m", "transforms": [{"kind": "normalize"}], "decoder": {"kind": "detekt"}}
    tables = {"device": {"id": "d", "state": "state"}, "mqtt": {"url": "mqtt://b", "qos": 3}}
    problems, *_ = inspect(build({**tables, "sources": {"s": source}, "pipelines": {"p": pipeline}}, tmp_path))
    assert [re.split(": | is ", problem)[0] for problem in problems] == [
        "mqtt.qos",
        "sources.s.kind",
        "pipelines.p.transforms[0].kind",
        "pipelines.p.decoder.kind",
    ]
    assert problems[0] == "mqtt.qos is 3; use 0 or 1"
