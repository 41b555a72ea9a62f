from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import config
from limpet.config import ReporterTable
from limpet.errors import ConfigError, ConfigFileError

GOOD = """
[device]
id = "press-07"
state = "state"

[mqtt]
url = "mqtt://127.0.0.1"

[sources.accelerometer]
kind = "serial"
port = "/dev/ttyUSB0"
channels = ["ax", "ay", "az"]

[pipelines.motion]
source = "accelerometer"
model = "motion"
"""


def problems(text: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "limpet.toml"
    path.write_text(text)
    with pytest.raises(ConfigFileError) as caught:
        config.read(path)
    return [problem.message for problem in caught.value.found]


def test_ten_lines_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text(GOOD)
    read = config.read(path)
    assert read.device.state == tmp_path / "state"
    assert read.models == tmp_path / "state" / "models"
    assert read.sources["accelerometer"].options["port"] == "/dev/ttyUSB0"
    assert read.pipelines["motion"].delegates == ["cpu"]
    assert read.reporters == {"mqtt": ReporterTable("mqtt", {"url": "mqtt://127.0.0.1"}, "mqtt")}


def test_every_problem_is_reported_at_once_with_its_path(tmp_path: Path) -> None:
    text = GOOD.replace('id = "press-07"', 'id = "press 07"').replace('model = "motion"', "modell = 3")
    text += "deadline = -1\n[pipelines.motion.window]\nhop = 3\n[sources.other]\nport = 1\n"
    found = problems(text, tmp_path)
    paths = [re.split(":| is ", problem)[0] for problem in found]
    assert paths == [
        "device.id",
        "pipelines.motion.model",
        "pipelines.motion.modell",
        "pipelines.motion.deadline",
        "pipelines.motion.window",
        "sources.other.kind",
    ]
    assert "did you mean 'model'?" in found[2]


@pytest.mark.parametrize(
    ("line", "wrong", "said"),
    [
        ('source = "accelerometer"', 'source = "acelerometer"', "did you mean 'accelerometer'?"),
        ("[pipelines.motion]", '["pipelines"."mo/tion"]', "letters, digits"),
        ('kind = "serial"', "kind = 3", "names the plugin"),
        ("[device]", "[device", "not TOML"),
        ("[device]", f"x = {'[' * 5000}\n[device]", "not TOML"),
        ('kind = "serial"', 'kind = "serial"\nqueue = 0', "queue is 0; use a whole number of at least 1"),
        (
            'kind = "serial"',
            'kind = "serial"\nqueue_bytes = true',
            "queue_bytes is true; use a whole number of at least 1",
        ),
        ("[sources.accelerometer]", "[elsewhere.accelerometer]", "sources is missing"),
        ("[sources.accelerometer]", "[source.accelerometer]", "source: unknown table (did you mean 'sources'?)"),
        ("[mqtt]", "[mqt]", "mqt: unknown table (did you mean 'mqtt'?)"),
        ("[mqtt]", "[kafka]", '; a reporter of another package is [reporters.NAME] with kind = "kafka"'),
        ("[device]", "x = 1\n[device]", "x: unknown key"),
        (
            'id = "press-07"',
            'id = "press 07"',
            'device.id is "press 07"; use letters, digits, ".", "_" and "-", at most 64',
        ),
        (
            'source = "accelerometer"',
            'source = "x"\nladder = [{ every = 0 }]',
            "motion.ladder[0].every is 0; use a whole number of at least 1",
        ),
        ("[mqtt]", "[reporters.cloud]", 'reporters.cloud.kind is missing; it names the plugin, as kind = "mqtt"'),
        (
            "[mqtt]",
            '[mqtt]\n[reporters.MQTT]\nkind = "mqtt"',
            "reporters.MQTT: on some disks its folder would be that of",
        ),
        (
            "[mqtt]",
            '[reporters."mqtt.damaged"]\nkind = "mqtt"',
            "reporters.mqtt.damaged: no name ends in .damaged",
        ),
        ("[mqtt]", '[reporters."../up"]\nkind = "mqtt"', "reporters.../up: use a name of letters, digits"),
        (
            "[mqtt]",
            '[reporters.mqtt]\nkind = "mqtt"\n[mqtt]',
            "[mqtt] is short for [reporters.mqtt], which is there",
        ),
        ("[mqtt]", "[reporters]\nmqtt = 1\n[jsonl]", "reporters.mqtt: must be a table, as [reporters.mqtt]"),
    ],
)
def test_a_problem_says_what_to_do(line: str, wrong: str, said: str, tmp_path: Path) -> None:
    assert said in "\n".join(problems(GOOD.replace(line, wrong), tmp_path))


def test_reporters_have_names_and_kinds_and_a_table_of_a_kind_is_short_for_one(tmp_path: Path) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text(
        f'{GOOD}[jsonl]\n[reporters.cloud]\nkind = "mqtt"\nurl = "mqtts://cloud"\n[reporters.x]\nkind = "kafka"\n'
    )
    assert config.read(path).reporters == {
        "mqtt": ReporterTable("mqtt", {"url": "mqtt://127.0.0.1"}, "mqtt"),
        "jsonl": ReporterTable("jsonl", {}, "jsonl"),
        "cloud": ReporterTable("mqtt", {"url": "mqtts://cloud"}, "reporters.cloud"),
        "x": ReporterTable("kafka", {}, "reporters.x"),
    }


def test_a_rung_that_runs_more_windows_is_refused(tmp_path: Path) -> None:
    for ladder in ("[{ every = 2 }]", '[{ delegates = ["cpu"], every = 8 }, { every = 4 }]'):
        (problem,) = problems(f"{GOOD}every = 4\nladder = {ladder}\n", tmp_path)
        assert "runs more windows than the step above it" in problem
    lighter = (
        f'{GOOD}every = 4\nladder = [{{ model = "light", every = 1 }}, {{ model = "light" }}, {{ every = 9 }}]\n'
    )
    (tmp_path / "limpet.toml").write_text(lighter)
    assert [rung.every for rung in config.read(tmp_path / "limpet.toml").pipelines["motion"].ladder] == [
        1,
        None,
        9,
    ]


def test_a_backup_that_is_the_main_model_or_has_an_unknown_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "limpet.toml").write_text(GOOD)
    model = config.read(tmp_path / "limpet.toml").pipelines["motion"].model
    (problem,) = problems(f'{GOOD}backup = {{ model = "{model}" }}\n', tmp_path)
    assert f"pipelines.motion.backup.model: {model} is the main model; name another one" in problem
    (problem,) = problems(f"{GOOD}backup = {{ slower_than_ms = 50 }}\n", tmp_path)
    assert "backup.model" in problem
    assert "slower_than" in "".join(problems(f'{GOOD}backup = {{ model = "x", slower_than = 50 }}\n', tmp_path))
    (tmp_path / "limpet.toml").write_text(f'{GOOD}backup = {{ model = "small", slower_than_ms = 50 }}\n')
    wanted = config.read(tmp_path / "limpet.toml").pipelines["motion"]
    assert wanted.backup == config.Backup(model="small", slower_than_ms=50)
    assert wanted.models == [model, "small"]


def test_a_missing_file_is_a_problem_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        config.read(tmp_path / "none.toml")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["device", "id", "sources", "kind", "a", "pipelines", "model"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_any_tables_are_read_or_refused(tables: object) -> None:
    if not isinstance(tables, dict):
        return
    with contextlib.suppress(ConfigError):
        read = config.build(tables, Path("/nowhere"))
        assert {pipeline.source for pipeline in read.pipelines.values()} <= read.sources.keys()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('allow = ["models.example.com/"]', 'allow has "models.example.com/"'),
        ('allow = ["https://user@models.example.com/"]', "no user name"),
        ('allow = ["https://models.example.com/a/../b"]', '"."'),
        ('allow = ["https://models.example.com/?x=1"]', "leave out"),
        ('proxy = "socks5://proxy"', "http://"),
    ],
)
def test_a_url_that_would_allow_nothing_is_refused(line: str, said: str, tmp_path: Path) -> None:
    (problem,) = problems(f"{GOOD}\n[updates]\n{line}\n", tmp_path)
    assert said in problem
