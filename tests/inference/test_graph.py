"""The graph of a pipeline: who resets stages and when, chains, joins, and what a successor takes over."""

from __future__ import annotations

import gc
import sys
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from limpet import plugins
from limpet.config import PipelineConfig
from limpet.contracts import decoder, transform
from limpet.contracts.assignment import Folders, PipelineOptions, SourceTable
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.fields import WindowSpec
from limpet.deployment.assignments import assignments
from limpet.deployment.desired import Desired, DesiredPipeline
from limpet.deployment.local import examined
from limpet.errors import ConfigError, ModelError
from limpet.inference.join import Join
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from support import models
from support.assigned import single
from support.bundles import bundle
from support.outside import install

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from limpet.inference.plan import PipelinePlan
    from limpet.wire.records import Result

ONE = SampleSpec((1,), np.dtype(np.float32), ("x",), 100.0)
PICTURE = SampleSpec((8, 8, 1), np.dtype(np.uint8))
MS = 1_000_000

PROBE = '''
import msgspec
from limpet.contracts.{group} import Abilities

ABILITIES = Abilities({abilities})
opened = []


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing."""


class Probe:
    def __init__(self, spec):
        self.spec = spec
        self.seen = []
        opened.append(self)

    def __call__(self, window):
        self.seen.append((window.ordinal, window.gap))
        {work}
        return window

    def reset(self):
        self.seen.append("reset")


def open(config, spec):
    return Probe(spec)
'''
COUNTS = "window.result = {'values': {'x': float(window.outputs[0].item())}}"
CROP = '''
import msgspec
import numpy as np
from msgspec.structs import replace
from limpet.contracts.data import Cut


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing."""


class Crop:
    def __init__(self, spec):
        self.spec = replace(spec, shape=(1, 1, 6, 1), dtype=np.dtype(np.uint8))

    def __call__(self, window):
        window.result = {"values": {}}
        window.values = window.inputs[0][:, :1, 2:]
        window.cut = Cut(2 / 8, 0, 1, 1 / 8)
        return window

    def reset(self):
        pass


def open(config, spec):
    return Crop(spec)
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder where plugins can be installed for this process."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield tmp_path / "site"
    for name in ("probe", "observe", "crop", "wrong", "empty"):
        sys.modules.pop(name, None)


def probe(site: Path, group: str, kind: str, abilities: str = "", work: str = "") -> None:
    """Install a stage that notes what the graph does with it."""
    install(site, f"{group}s", kind, PROBE.format(group=group, abilities=abilities, work=work))


def planned(folder: Path, model: Path, spec: SampleSpec = ONE, name: str = "p", **wanted: Any) -> PipelinePlan:
    pipeline = PipelineConfig(source="s", model=str(model), **{"decoder": {"kind": "regress"}, **wanted})
    return plan_pipeline(single(folder, pipeline, name), name, spec)


def block(rows: Sequence[Any], index: int = 0, *, gap: bool = False, start: int = 0) -> Samples:
    values = np.array(rows, np.float32).reshape(len(rows), -1)
    stamps = (start + np.arange(index, index + len(rows), dtype=np.int64)) * 10 * MS
    return Samples(values, stamps, stamps + 7, index, gap)


def values(results: Sequence[Result]) -> list[list[float]]:
    return [list(msgspec.to_builtins(result.output)["values"].values()) for result in results]


@pytest.fixture
def copying(tmp_path: Path) -> Path:
    return models.dense(tmp_path / "copy.tflite", 1, 1, int8=False)


def test_stages_are_reset_after_a_gap_and_before_the_window_that_follows(
    site: Path, tmp_path: Path, copying: Path
) -> None:
    probe(site, "transform", "probe")
    probe(site, "decoder", "observe", work=COUNTS)
    plan = planned(tmp_path, copying, transforms=[{"kind": "probe"}], decoder={"kind": "observe"})
    with Pipeline(plan) as pipeline:
        assert len(list(pipeline.feed(block([1, 2])))) == 2
        assert len(list(pipeline.feed(block([3], 5)))) == 1
    first, last = sys.modules["probe"].opened[-1], sys.modules["observe"].opened[-1]
    assert first.seen == last.seen == [(0, False), (1, False), "reset", (5, True)]


def test_memory_that_outlives_gaps_is_left_alone(site: Path, tmp_path: Path, copying: Path) -> None:
    probe(site, "transform", "probe", "outlives_gaps=True")
    probe(site, "decoder", "observe", "outlives_gaps=True", work=COUNTS)
    plan = planned(tmp_path, copying, transforms=[{"kind": "probe"}], decoder={"kind": "observe"})
    with Pipeline(plan) as pipeline:
        assert len(list(pipeline.feed(block([1, 2])))) == 2
        assert len(list(pipeline.feed(block([3], 5)))) == 1
    for kind in ("probe", "observe"):
        assert sys.modules[kind].opened[-1].seen == [(0, False), (1, False), (5, True)]


def test_a_window_that_failed_before_the_decoder_is_a_gap(site: Path, tmp_path: Path, copying: Path) -> None:
    refuse = (
        "from limpet.errors import ModelError\n        if window.values[0, 0] == 2: raise ModelError('no two')"
    )
    probe(site, "transform", "probe", work=refuse)
    probe(site, "decoder", "observe", work=COUNTS)
    plan = planned(tmp_path, copying, transforms=[{"kind": "probe"}], decoder={"kind": "observe"})
    errors: list[ModelError] = []
    with Pipeline(plan) as pipeline:
        results = list(pipeline.feed(block([1, 2, 3]), errors.append))
    assert values(results) == [[1], [3]]
    assert [str(error) for error in errors] == ["no two"]
    assert sys.modules["observe"].opened[-1].seen == [(0, False), "reset", (2, False)]


def test_stages_in_a_batch_are_reset_as_one_by_one(site: Path, tmp_path: Path) -> None:
    probe(site, "decoder", "observe", work=COUNTS)
    model = models.dense(tmp_path / "batch.tflite", 1, 1, int8=False, batch=-1)
    with Pipeline(planned(tmp_path, model, decoder={"kind": "observe"})) as pipeline:
        blocks = [block(range(20)), block([np.nan] * 2 + [1] * 20, 20)]
        assert sum(len(list(pipeline.feed(one))) for one in blocks) == 40
    seen = sys.modules["observe"].opened[-1].seen
    assert seen == [*((n, False) for n in range(20)), "reset", (22, True), *((n, False) for n in range(23, 42))]


def test_every_is_the_graphs_business(site: Path, tmp_path: Path, copying: Path) -> None:
    probe(site, "transform", "probe")
    plan = planned(tmp_path, copying, transforms=[{"kind": "probe"}], every=3)
    with Pipeline(plan) as pipeline:
        assert values(list(pipeline.feed(block(range(6))))) == [[0], [3]]
        assert values(list(pipeline.feed(block([7, 8, 9], 7)))) == [[7]]  # 6 is missing
    assert sys.modules["probe"].opened[-1].seen == [(0, False), (3, False), "reset", (7, True)]


def test_transforms_are_opened_once_a_start(site: Path, tmp_path: Path, copying: Path) -> None:
    probe(site, "transform", "probe")
    plan = planned(tmp_path, copying, transforms=[{"kind": "probe"}])
    with Pipeline(plan):
        assert len(sys.modules["probe"].opened) == 1
        with Pipeline(plan):  # a stage has a memory, so a second pipeline does not share it
            assert len(sys.modules["probe"].opened) == 2


def test_a_tried_window_leaves_no_trace(tmp_path: Path) -> None:
    model = models.accumulator(tmp_path / "sum.tflite", 1)
    decoder = {"kind": "anomaly", "metric": "output", "threshold": 0.5, "release": -1.0}
    with Pipeline(planned(tmp_path, model, decoder=decoder, stateful=True)) as pipeline:
        pipeline.try_once(noise=True)
        (result,) = pipeline.feed(block([0]))
    assert (result.output.score, result.output.anomalous) == (0, False)


def test_a_plugin_that_lacks_a_member_or_declares_those_of_another_group_is_refused(
    site: Path, tmp_path: Path, copying: Path
) -> None:
    install(site, "transforms", "empty", "Config = None\n")
    install(site, "decoders", "wrong", PROBE.format(group="transform", abilities="", work=""))
    with pytest.raises(ConfigError, match="transforms 'empty' has no open"):
        plugins.load("transforms", "empty")
    with pytest.raises(ConfigError, match=r"ABILITIES of .*wrong.* is no limpet.contracts.decoder.Abilities"):
        planned(tmp_path, copying, decoder={"kind": "wrong"})


@pytest.mark.parametrize(
    ("group", "abilities", "contract"),
    [
        ("transform", "", r"stage\.Stage: it has no reset"),
        ("transform", "byte_table=True", r"transform\.ByteTable: it has no byte_values"),
        ("decoder", "batches=True", r"decoder\.Batching: it has no decode_batch"),
        ("decoder", "threshold=True", r"decoder\.Adjustable: it has no set_threshold"),
    ],
)
def test_a_stage_that_lacks_what_its_plugin_promises_is_refused_before_data_flows(
    site: Path, copying: Path, group: str, abilities: str, contract: str
) -> None:
    text = PROBE.format(group=group, abilities=abilities, work=COUNTS if group == "decoder" else "")
    install(site, f"{group}s", "probe", text if abilities else text.replace("def reset", "def forget"))
    wanted = {"transforms": [{"kind": "probe"}]} if group == "transform" else {"decoder": {"kind": "probe"}}
    with pytest.raises(ModelError, match=rf"'probe' breaks its contract: .* is no limpet\.contracts\.{contract}"):
        Pipeline(planned(copying.parent, copying, **wanted))


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (
            "boom()",
            r"the decoder 'probe' failed on outputs of zeros: NameError: .*boom.* \(.*probe\.py, line 21\)",
        ),
        ("return None", "the decoder 'probe' returned NoneType; it must return the window"),
        ("pass", "the result of the decoder 'probe' is a NoneType; it must be a mapping or a struct"),
        (
            "window.result = {'at': window.outputs[0].argmax()}",
            "the result of the decoder 'probe' cannot be encoded: .*numpy.int64",
        ),
    ],
)
def test_a_decoder_that_breaks_its_contract_is_refused_before_data_flows_with_its_name(
    site: Path, copying: Path, work: str, reason: str
) -> None:
    probe(site, "decoder", "probe", work=work)
    output = {"name": "y", "shape": [1, 1], "dtype": "float32"}
    members = {"model.tflite": copying.read_bytes()}
    made = bundle(copying.with_name("copy-1.limpet"), members, name="copy", outputs=[output])
    with pytest.raises(ModelError, match=reason):
        planned(copying.parent, made, decoder={"kind": "probe"})


def test_a_transform_that_writes_to_its_window_fails_the_window_that_is_tried(site: Path, copying: Path) -> None:
    probe(site, "transform", "probe", work="window.values *= 2")
    made = planned(copying.parent, copying, transforms=[{"kind": "probe"}])
    with (
        Pipeline(made) as pipeline,
        pytest.raises(ModelError, match=r"failed: ValueError: .* read-only \(.*probe\.py, line 21\)"),
    ):
        pipeline.try_once(noise=False)


def test_an_error_in_open_names_the_plugin_and_the_line(site: Path, copying: Path) -> None:
    text = PROBE.format(group="decoder", abilities="", work=COUNTS)
    install(site, "decoders", "probe", text.replace("def open(config, spec)", "def open(config)"))
    with pytest.raises(
        ModelError, match=r"decoder: open\(\) of the plugin 'probe' failed: TypeError: open\(\) takes"
    ):
        Pipeline(planned(copying.parent, copying, decoder={"kind": "probe"}))


def test_abilities_are_the_contracts_defaults_where_none_are_declared() -> None:
    module = ModuleType("plain")
    assert plugins.abilities(module, transform.Abilities) == transform.Abilities()
    assert plugins.abilities(module, decoder.Abilities).reads_inputs
    assert not vars(module).keys() & {"ABILITIES"}


def test_one_pipeline_feeds_another(tmp_path: Path, copying: Path) -> None:
    mean = models.dense(tmp_path / "two.tflite", 2, 2, int8=False)
    first = planned(tmp_path, copying, name="first", window=WindowSpec(size=1))
    with Pipeline(first) as parent:
        assert (parent.output.shape, parent.output.dtype, parent.output.rate) == ((1,), np.float32, 100.0)
        second = planned(tmp_path, mean, parent.output, "second", window=WindowSpec(size=2, hop=1))
        with Pipeline(second) as child:
            parent.then(child)
            results = list(parent.feed(block([1, 2, 3])))
            assert [(r.pipeline, r.sample) for r in results] == [
                ("first", 0),
                ("first", 1),
                ("second", 1),
                ("first", 2),
                ("second", 2),
            ]
            assert values(results) == [[1], [2], [1, 2], [3], [2, 3]]
            assert {r.monotonic_ns for r in results[1:3]} == {10 * MS}
            # A gap of the first is one of the second: no window of it reaches over the gap.
            later = list(parent.feed(block([7, 8], 10)))
    assert [(r.pipeline, *row) for r, row in zip(later, values(later), strict=True)] == [
        ("first", 7),
        ("first", 8),
        ("second", 7, 8),
    ]


def test_a_window_without_a_result_is_a_gap_to_the_pipeline_that_it_feeds(tmp_path: Path) -> None:
    logit = models.dense(tmp_path / "logit.tflite", 1, 1, int8=False)
    pairs = models.dense(tmp_path / "two.tflite", 2, 2, int8=False)
    decoder = {"kind": "classify", "labels": ["no", "yes"]}
    errors: list[ModelError] = []
    with Pipeline(planned(tmp_path, logit, name="first", decoder=decoder)) as parent:
        second = planned(tmp_path, pairs, parent.output, "second", window=WindowSpec(size=2, hop=1))
        with Pipeline(second) as child:
            parent.then(child)
            results = list(parent.feed(block([0.25, 9, 0.5, 0.75]), errors.append))
    assert len(errors) == 1
    assert values([r for r in results if r.pipeline == "second"]) == [[0.5, 0.75]]


def test_what_is_cut_out_of_a_picture_goes_on_and_its_boxes_lie_in_the_picture(site: Path, tmp_path: Path) -> None:
    install(site, "decoders", "crop", CROP)
    model = models.conv(tmp_path / "picture.tflite", 8, 1)
    boxes = models.dense(tmp_path / "boxes.tflite", 6, 6, int8=False)
    find = {"kind": "detect", "labels": ["cat", "dog"], "pixels": [8, 8], "threshold": 0.5}
    pictures = np.zeros((2, 8, 8, 1), np.uint8)
    pictures[1, 0, 2:, 0] = [4, 4, 4, 4, 1, 0]  # a row of a YOLO: centre, width, height, scores
    stamps = np.array([5, 6])
    with Pipeline(planned(tmp_path, model, PICTURE, "crop", decoder={"kind": "crop"})) as parent:
        assert (parent.output.shape, parent.output.dtype) == ((1, 6, 1), np.uint8)
        with Pipeline(planned(tmp_path, boxes, parent.output, "find", decoder=find)) as child:
            parent.then(child)
            results = list(parent.feed(Samples(pictures, stamps, stamps, 0)))
    assert [r.pipeline for r in results] == ["crop", "find"] * 2
    empty, found = (r.output.detections for r in results[1::2])
    assert empty == []
    assert [one.box for one in found] == [(0.4375, 0.03125, 0.8125, 0.09375)]


LEFT = SampleSpec((1,), np.dtype(np.float32), ("x",), 100.0)
RIGHT = SampleSpec((2,), np.dtype(np.float32), ("x", "y"), 50.0)


def test_one_pipeline_takes_the_samples_of_two_sources(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "three.tflite", 3, 3, int8=False)
    join = Join(["left", "right"], [LEFT, RIGHT], tolerance=0.025, patience=0.035)
    assert join.spec.channels == ("left.x", "right.x", "y")
    plan = planned(tmp_path, model, join.spec, window=WindowSpec(size=1))
    with Pipeline(plan, join=join) as pipeline:
        assert list(pipeline.feed(block([1, 2, 3, 4]), source="left")) == []
        right = Samples(
            np.array([[10, 20], [11, 21]], np.float32), np.array([0, 20 * MS]), np.array([0, 20 * MS]), 0
        )
        results = list(pipeline.feed(right, source="right"))
        assert values(results) == [[1, 10, 20], [2, 10, 20], [3, 11, 21]]
        assert [r.monotonic_ns for r in results] == [0, 10 * MS, 20 * MS]
        # The fourth has waited for as long as it may, and takes the newest there is.
        results = list(pipeline.feed(block([5, 6, 7, 8], 4), source="left"))
        assert values(results) == [[4, 11, 21]]
        # Those that are too late for every partner are left out, counted, and are a gap.
        results = list(pipeline.feed(block([9] * 6, 8), source="left"))
        assert values(results) == [[5, 11, 21]]
        assert pipeline.in_no_window == 5


def test_sources_without_named_channels_or_times_are_not_joined() -> None:
    with pytest.raises(ConfigError, match="only sources whose channels have names can be joined"):
        Join(["a", "b"], [LEFT, PICTURE], 1)
    with pytest.raises(ConfigError, match=r"sources.b: its samples carry no time"):
        Join(["a", "b"], [LEFT, replace(RIGHT, timed=False)], 1)


def test_a_cell_runs_as_it_is_assigned_one_pipeline_joins_two_sources_and_feeds_another(tmp_path: Path) -> None:
    sources = {"left": LEFT, "right": RIGHT, "other": ONE}
    models.dense(tmp_path / "three.tflite", 3, 3, int8=False)
    options = PipelineOptions(decoder={"kind": "regress"})
    model = examined(tmp_path / "three.tflite").file
    wanted = Desired(
        Folders(tmp_path, tmp_path / "state", tmp_path / "store"),
        {name: SourceTable("replay", {}) for name in sources},
        {
            "second": DesiredPipeline(sources=(), options=options, model=model, after="first"),
            "first": DesiredPipeline(sources=("right", "left"), options=options, model=model),
        },
        {},
    )
    (cell,) = assignments(wanted).values()
    assert (cell.cell, list(cell.sources)) == ("left", ["left", "right"])
    leads = cell.pipelines["first"].sources
    join = Join(leads, [sources[name] for name in leads], tolerance=1.0)
    with Pipeline(plan_pipeline(cell, "first", join.spec), join=join) as first:
        assert cell.pipelines["second"].after == "first"
        with Pipeline(plan_pipeline(cell, "second", first.output)) as second:
            first.then(second)
            assert list(first.feed(block([1, 2]), source="left")) == []
            results = list(first.feed(block([[10, 20], [11, 21]]), source="right"))
    assert [r.pipeline for r in results] == ["first", "second"] * 2
    assert values(results) == [[10, 20, 1], [10, 20, 1], [11, 21, 2], [11, 21, 2]]


steps = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 30)), min_size=1, max_size=60)


@settings(max_examples=60)
@given(steps, st.integers(1, 50))
def test_joined_samples_are_those_of_a_naive_join(steps: list[tuple[int, int]], tolerance: int) -> None:
    join = Join(["a", "b"], [LEFT, replace(LEFT, channels=("y",))], tolerance / 1000, patience=10)
    now, found = 0, []
    sent: list[list[tuple[int, float]]] = [[], []]
    for source, step in steps:
        now += step
        index = len(sent[source])
        sent[source].append((now, float(index)))
        stamp = np.array([now * MS])
        one = Samples(np.array([[index]], np.float32), stamp, stamp, index)
        for samples in join.push("ab"[source], one):
            found += list(zip((samples.monotonic_ns // MS).tolist(), samples.values.tolist(), strict=True))
    lead, other = sent
    wanted = []
    for time, value in lead:
        partners = [row for row in other if row[0] <= time and time - row[0] <= tolerance]
        complete = bool(other) and other[-1][0] >= time
        if partners and complete:
            wanted.append((time, [value, partners[-1][1]]))
    assert found == wanted


def test_joined_memory_is_not_that_of_the_sources() -> None:
    join = Join(["a", "b"], [LEFT, replace(LEFT, channels=("y",))], 1.0)
    lead = block([1, 2])
    assert join.push("a", lead) == []
    lead.values[...] = 99
    (joined,) = join.push("b", block([5, 6]))
    assert joined.values.tolist() == [[1, 5], [2, 6]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("swap")


@settings(max_examples=40)
@given(
    spec=st.builds(WindowSpec, size=st.integers(1, 5), hop=st.integers(1, 7))
    | st.builds(
        WindowSpec, size=st.integers(1, 5), seconds=st.just(0.05), hop_seconds=st.sampled_from([0.02, 0.07])
    ),
    every=st.integers(1, 3),
    stream=st.tuples(st.integers(1, 40), st.integers(1, 6)),
    switch=st.integers(0, 39),
)
def test_a_successor_loses_no_window_and_doubles_none(
    folder: Path, spec: WindowSpec, every: int, stream: tuple[int, int], switch: int
) -> None:
    size, (rows, length) = spec.size or 1, stream
    model = models.dense(folder / "m.tflite", size, size, int8=False)
    plan = planned(folder, model, window=spec, every=every)
    blocks = [block(range(at, min(at + length, rows)), at) for at in range(0, rows, length)]
    with Pipeline(plan) as alone, Pipeline(plan) as old, Pipeline(plan) as new:
        wanted = [row for one in blocks for row in values(list(alone.feed(one)))]
        before = blocks[: switch % (len(blocks) + 1)]
        found = [row for one in before for row in values(list(old.feed(one)))]
        assert new.take_over(old)
        found += [row for one in blocks[len(before) :] for row in values(list(new.feed(one)))]
        assert found == wanted
        # The old one stands where it stood, should the new one fail.
        again = [row for one in blocks[len(before) :] for row in values(list(old.feed(one)))]
        assert again == wanted[len(wanted) - len(again) :]


def test_a_successor_with_other_windows_begins_with_the_next_sample(tmp_path: Path, copying: Path) -> None:
    pairs = models.dense(tmp_path / "two.tflite", 2, 2, int8=False)
    old_plan = planned(tmp_path, pairs, window=WindowSpec(size=2))
    with Pipeline(old_plan) as old, Pipeline(planned(tmp_path, copying, window=WindowSpec(size=1))) as new:
        assert values(list(old.feed(block([1, 2, 3])))) == [[1, 2]]
        assert not new.take_over(old)
        assert values(list(new.feed(block([4, 5], 3)))) == [[4], [5]]
        assert values(list(old.feed(block([4], 3)))) == [[3, 4]]


def test_a_successor_feeds_whom_the_old_one_fed(tmp_path: Path, copying: Path) -> None:
    plans = [planned(tmp_path, copying, name=name) for name in ("old", "new", "fed")]
    old, new, fed = (Pipeline(plan) for plan in plans)
    with old, new, fed:
        old.then(fed)
        assert [r.pipeline for r in old.feed(block([1]))] == ["old", "fed"]
        new.take_over(old)
        assert [r.pipeline for r in new.feed(block([2], 1))] == ["new", "fed"]


def test_windows_are_views_that_a_source_may_overwrite_after_the_feed(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "three.tflite", 3, 3, int8=False)
    plan = planned(tmp_path, model, window=WindowSpec(size=3, hop=2))
    memory = np.zeros((4, 1), np.float32)
    found = []
    with Pipeline(plan) as pipeline:
        for start in range(0, 20, 4):
            samples = block(range(start, start + 4), start)
            memory[...] = samples.values
            samples.values = memory
            found += values(list(pipeline.feed(samples)))
            memory[...] = np.nan
    assert found == [[n, n + 1, n + 2] for n in range(0, 18, 2)]


def test_nothing_of_a_block_is_kept_once_its_results_are_there(tmp_path: Path) -> None:
    model = models.conv(tmp_path / "picture.tflite", 8, 1)
    with Pipeline(planned(tmp_path, model, PICTURE)) as pipeline:
        pictures = np.zeros((2, *PICTURE.shape), np.uint8)
        stamps = np.arange(2, dtype=np.int64)
        gone = weakref.ref(pictures)
        assert len(list(pipeline.feed(Samples(pictures, stamps, stamps, 0)))) == 2
        del pictures
        assert gone() is None  # so that a camera can fill its buffer again


@pytest.fixture
def _uncollected() -> Iterator[None]:
    """Collect no reference cycles, as in workers: a fork server disables that so that they share memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_uncollected")
def test_a_closed_pipeline_is_freed_without_a_garbage_collector(tmp_path: Path, copying: Path) -> None:
    with Pipeline(planned(tmp_path, copying)) as pipeline:
        assert values(list(pipeline.feed(block([1])))) == [[1]]
    gone = weakref.ref(pipeline), weakref.ref(pipeline.graph), weakref.ref(pipeline.decoder)
    del pipeline
    assert [one() for one in gone] == [None] * 3


@pytest.mark.usefixtures("_uncollected")
@pytest.mark.parametrize("batch", [1, -1])
def test_windows_that_fail_are_freed_without_a_garbage_collector(tmp_path: Path, batch: int) -> None:
    model = models.dense(tmp_path / "logit.tflite", 1, 1, int8=False, batch=batch)
    decoder = {"kind": "classify", "labels": ["no", "yes"]}
    with Pipeline(planned(tmp_path, model, decoder=decoder)) as pipeline:
        samples = block([0.25] * 20 + [9] + [0.25] * 20)
        gone = weakref.ref(samples.values)
        errors: list[weakref.ref[ModelError]] = []
        assert len(list(pipeline.feed(samples, lambda error: errors.append(weakref.ref(error))))) == 40
        assert [error() for error in errors] == [None]
        del samples
        assert gone() is None


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 1, 1)])
def test_a_block_of_another_shape_than_the_source_declares_is_refused(
    tmp_path: Path, copying: Path, shape: tuple[int, ...]
) -> None:
    stamps = np.arange(2, dtype=np.int64)
    with Pipeline(planned(tmp_path, copying)) as pipeline:
        with pytest.raises(
            ModelError, match=r"values of shape \(2.*\) with 2 times; .* shape \('n', 1\) and n times"
        ):
            list(pipeline.feed(Samples(np.zeros(shape, np.float32), stamps, stamps, 0)))
        with pytest.raises(ModelError, match="with 1 times"):
            list(pipeline.feed(Samples(np.zeros((2, 1), np.float32), stamps[:1], stamps, 0)))


def test_a_block_that_lacks_the_channels_of_a_model_is_refused(tmp_path: Path, copying: Path) -> None:
    stamps = np.arange(2, dtype=np.int64)
    two = SampleSpec((2,), np.dtype(np.float32), ("x", "y"), 100.0)
    with (
        Pipeline(planned(tmp_path, copying, two, inputs={"input": ["y"]})) as pipeline,
        pytest.raises(ModelError, match="without all channels"),
    ):
        list(pipeline.feed(Samples(np.zeros((2, 1), np.float32), stamps, stamps, 0)))


def test_a_filter_goes_on_over_overlapping_windows_and_begins_again_after_a_gap(tmp_path: Path) -> None:
    sums = {"kind": "filter", "taps": [1.0] * 100}  # the sum of all samples since the start, or the gap
    model = models.dense(tmp_path / "last.tflite", 4, 4, int8=False)
    plan = planned(tmp_path, model, window=WindowSpec(size=4, hop=2), transforms=[sums])
    with Pipeline(plan) as pipeline:
        found = list(pipeline.feed(block(range(1, 9))))
        found += list(pipeline.feed(block([10, 20, 30, 40], 20)))
    assert values(found) == [[1, 3, 6, 10], [6, 10, 15, 21], [15, 21, 28, 36], [10, 30, 60, 100]]


def test_a_filter_is_refused_where_windows_that_are_left_out_have_its_samples(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "last.tflite", 4, 4, int8=False)
    options: dict[str, Any] = {
        "window": WindowSpec(size=4, hop=2),
        "transforms": [{"kind": "filter", "taps": [1.0]}],
    }
    planned(tmp_path, model, every=2, **options)
    with pytest.raises(ModelError, match="Windows of 4 samples that start 6 apart leave samples out"):
        planned(tmp_path, model, every=3, **options)
