from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.data import FloatArray, TensorSpec
from limpet.contracts.outputs import Embedding, ScoredLabel
from limpet.decoders import embed
from limpet.device import kept_file
from support.stages import decoded, output_spec

if TYPE_CHECKING:
    from pathlib import Path


def opened(size: int = 2, **options: Any) -> embed.Embed:
    spec = output_spec([TensorSpec("out", (1, size), np.dtype(np.float32))])
    return embed.open(msgspec.convert(options, embed.Config), spec)


def row(*values: float) -> list[FloatArray]:
    return [np.array([values], np.float32)]


def enrol(decoder: embed.Embed, label: str, *windows: tuple[float, ...]) -> list[str]:
    """Return what the command is answered, once the windows have come."""
    answers: list[str] = []
    decoder.enrol(label, len(windows), answers.append)
    for window in windows:
        assert not answers
        decoded(decoder, row(*window))
    return answers


def test_with_nothing_enrolled_there_is_a_vector_and_no_label() -> None:
    assert decoded(opened(), row(3, 4)) == Embedding(None, None, [], [0.6, 0.8])


def test_the_most_similar_label_by_the_cosine_is_the_result() -> None:
    decoder = opened(prototypes={"east": [5, 0], "north": [0, 2]}, threshold=0.9, vector=False)
    assert decoded(decoder, row(30, 0)) == Embedding(
        "east", 1.0, [ScoredLabel("east", 1.0), ScoredLabel("north", 0.0)]
    )
    assert decoded(decoder, row(1, 1)).label is None


def test_a_label_is_the_mean_direction_of_its_windows() -> None:
    decoder = opened(threshold=0.99)
    assert enrol(decoder, "cup", (1, 0), (0, 500)) == [""]
    assert decoded(decoder, row(1, 1)).label == "cup"
    assert decoder.labels == {"cup": 2}


def test_more_windows_of_a_label_add_to_it() -> None:
    decoder = opened()
    enrol(decoder, "cup", (1, 0))
    enrol(decoder, "cup", (0, 1), (0, 1))
    assert decoder.labels == {"cup": 3}
    assert decoded(decoder, row(1, 2)).similarity == 1.0


def test_commands_take_windows_one_after_the_other() -> None:
    decoder = opened()
    answers: list[tuple[str, str]] = []
    decoder.enrol("a", 2, lambda problem: answers.append(("a", problem)))
    decoder.enrol("b", 1, lambda problem: answers.append(("b", problem)))
    for window in ((1, 0), (nan, 0), (1, 0), (0, 1)):
        decoded(decoder, row(*window))
    assert answers == [("a", ""), ("b", "")]
    assert decoded(decoder, row(0, 1)).label == "b"


def test_what_is_enrolled_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "learned" / "enrolled"
    first = opened()
    assert first.keep(path) == ""
    enrol(first, "cup", (3, 4))
    second = opened()
    assert second.keep(path) == ""
    assert decoded(second, row(3, 4)).label == "cup"
    second.forget("cup")
    third = opened()
    assert third.keep(path) == ""
    assert third.labels == {}


def test_changes_of_labels_are_undone_the_last_first_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "learned" / "enrolled"
    first = opened()
    first.keep(path)
    enrol(first, "cup", (1, 0))
    enrol(first, "cup", (0, 1))
    first.forget("cup")
    second = opened()
    assert second.keep(path) == ""
    second.undo(1)
    assert second.labels == {"cup": 2}
    second.undo(1)
    assert second.labels == {"cup": 1}
    assert decoded(second, row(1, 0)).similarity == 1.0
    third = opened()
    assert third.keep(path) == ""
    assert third.labels == {"cup": 1}
    with pytest.raises(ValueError, match="1 changes of labels are remembered; 2 cannot be undone"):
        third.undo(2)
    third.undo(1)
    assert third.labels == {}


def test_only_so_many_changes_are_remembered() -> None:
    decoder = opened()
    for number in range(embed.MOST_PAST + 3):
        enrol(decoder, f"label {number}", (1, 0))
    decoder.undo(embed.MOST_PAST)
    assert decoder.labels.keys() == {"label 0", "label 1", "label 2"}
    with pytest.raises(ValueError, match="0 changes of labels are remembered"):
        decoder.undo(1)


def test_a_label_that_is_not_enrolled_cannot_be_forgotten() -> None:
    decoder = opened(prototypes={"east": [1, 0]})
    with pytest.raises(ValueError, match="'east' is not enrolled; enrolled: none"):
        decoder.forget("east")


def test_if_the_file_cannot_be_written_nothing_is_enrolled(tmp_path: Path) -> None:
    decoder = opened()
    (tmp_path / "file").touch()
    assert decoder.keep(tmp_path / "file" / "enrolled") == ""
    assert enrol(decoder, "cup", (1, 0)) == ["it cannot be kept: File exists"]
    assert decoder.labels == {}
    assert decoded(decoder, row(1, 0)).label is None


def test_there_is_an_end_of_labels_and_of_commands() -> None:
    decoder = opened()
    for number in range(embed.MOST_LABELS):
        enrol(decoder, str(number), (1, number))
    with pytest.raises(ValueError, match="256 labels are enrolled; forget one"):
        decoder.enrol("one more", 1, str)
    for _ in range(embed.MOST_WAITING):
        decoder.enrol("1", 1, str)
    with pytest.raises(ValueError, match="wait for an answer"):
        decoder.enrol("1", 1, str)


def test_windows_that_cancel_each_other_are_no_example() -> None:
    decoder = opened()
    (answer,) = enrol(decoder, "cup", (1, 0), (-1, 0))
    assert "no mean" in answer
    assert decoder.labels == {}


kept = st.builds(
    embed.Kept,
    st.just(1),
    st.just(2),
    st.dictionaries(
        st.text(max_size=3),
        st.builds(embed.Enrolled, st.integers(1, 9), st.lists(st.floats(width=64), min_size=1, max_size=3)),
        max_size=3,
    ),
)


@given(st.binary(max_size=300) | kept.map(kept_file.encode))
def test_whatever_is_in_the_file_it_is_used_or_refused(content: bytes) -> None:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "enrolled"
        path.write_bytes(content)
        decoder = opened()
        problem = decoder.keep(path)
        assert not (problem and decoder.labels)
        found = decoded(decoder, row(1, 2))
        assert len(found.top) == min(len(decoder.labels), 3)
        assert all(-1 - 1e-6 <= (one.score or 0.0) <= 1 + 1e-6 for one in found.top)
