"""Models that would write or read other files, or run Python: refused, and harmless where they are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow", reason="needs the environment of `make parity`")

from tensorflow.python.trackable import resource  # noqa: E402

from limpet_convert import cli, sources  # noqa: E402
from limpet_convert.errors import ConvertError  # noqa: E402
from limpet_convert.jail import Jail  # noqa: E402
from support.kernel import has_landlock  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks warn of each other's versions

SIGNATURE = [tf.TensorSpec((1, 3), tf.float32)]


class Plain(tf.Module):  # type: ignore[misc]
    """Three numbers to two."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.ones((3, 2)))

    def reach(self) -> Any:
        """Do something that no model needs, in the graph."""
        return 0.0

    @tf.function(input_signature=SIGNATURE)  # type: ignore[untyped-decorator]
    def __call__(self, x: Any) -> Any:
        return x @ self.weights + self.reach()


class Writes(Plain):
    def reach(self) -> Any:
        tf.io.write_file(TARGET, "escaped")
        return 0.0


class Reads(Plain):
    def reach(self) -> Any:
        return tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


class Lists(Plain):
    def reach(self) -> Any:
        return tf.cast(tf.size(tf.io.matching_files("/etc/*")), tf.float32)


class Calls(Plain):
    def reach(self) -> Any:
        return tf.py_function(lambda: 1.0, [], tf.float32)


class Prints(Plain):
    def reach(self) -> Any:
        tf.print("escaped", output_stream=f"file://{TARGET}")
        return 0.0


class Loads(Plain):
    def reach(self) -> Any:
        return tf.cast(
            tf.size(
                tf.raw_ops.RestoreV2(
                    prefix="/etc/x", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
                )[0]
            ),
            tf.float32,
        )


class Conditionally(Plain):
    """The op lies in a branch of a branch."""

    def reach(self) -> Any:
        def write() -> Any:
            tf.io.write_file(TARGET, "escaped")
            return 1.0

        return tf.cond(tf.random.uniform([]) > 2, write, lambda: 0.0)


class _Initializer(resource.TrackableResource):  # type: ignore[misc]
    """TensorFlow runs a resource's initializer when the model is loaded."""

    def _create_resource(self) -> Any:
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.int64, shared_name="t")

    def _initialize(self) -> Any:
        tf.io.write_file(TARGET, "escaped")
        return tf.constant(1)


class WhenLoaded(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.table = _Initializer()

    def reach(self) -> Any:
        return tf.cast(tf.raw_ops.LookupTableSizeV2(table_handle=self.table.resource_handle), tf.float32)


TARGET = ""


def saved(folder: Path, kind: type[Plain]) -> Path:
    """Save a model of this kind. What it wrote while it was made is deleted."""
    global TARGET  # noqa: PLW0603 - graphs hold the name
    TARGET = str(folder / "escaped")
    model, path = kind(), folder / "model"
    tf.saved_model.save(model, str(path), signatures=model.__call__)
    Path(TARGET).unlink(missing_ok=True)
    return path


@pytest.mark.parametrize("kind", [Writes, Reads, Lists, Calls, Prints, Loads, Conditionally, WhenLoaded])
def test_a_saved_model_that_reaches_outside_is_refused_before_it_is_opened(
    kind: type[Plain], tmp_path: Path
) -> None:
    path = saved(tmp_path, kind)
    with pytest.raises(ConvertError, match="reads or writes outside the model, or runs Python"):
        sources.convert(path, "", {}, tmp_path)
    assert not Path(TARGET).exists()


def test_a_plain_saved_model_is_converted(tmp_path: Path) -> None:
    assert sources.convert(saved(tmp_path, Plain), "", {}, tmp_path)[4:8] == b"TFL3"


@pytest.mark.parametrize("ending", ["cpb", "pbtxt"])
def test_a_saved_model_in_another_form_is_refused(ending: str, tmp_path: Path) -> None:
    """TensorFlow would read it in place of the one that was looked at."""
    path = saved(tmp_path, Plain)
    (path / f"saved_model.{ending}").write_bytes(b"")
    with pytest.raises(ConvertError, match=f"saved_model.{ending} is not supported"):
        sources.convert(path, "", {}, tmp_path)


@pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock")
def test_what_runs_when_a_model_is_loaded_cannot_write_outside_the_sandbox(tmp_path: Path) -> None:
    """The second border: this model gets past the first one, and its op runs."""
    path = saved(tmp_path, WhenLoaded)
    tf.saved_model.load(str(path))
    assert Path(TARGET).read_text() == "escaped"  # it does what it is made for
    Path(TARGET).unlink()
    jail = Jail([path])
    with pytest.raises(ConvertError, match=r"ermission denied|not permitted"):
        jail.call("convert", str(path), "saved_model", {}, str(tmp_path))
    jail.close()
    assert not Path(TARGET).exists()


def test_a_folder_with_a_link_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Plain)
    (path / "assets" / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(ConvertError, match="a link or a special file"):
        sources.convert(path, "", {}, tmp_path)


def test_a_keras_model_is_opened_by_no_library_in_this_process(tmp_path: Path) -> None:
    """What a layer of Keras does happens in the child: nothing of it can write beside the model."""
    import keras

    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    model.save(tmp_path / "m.keras")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["convert", str(tmp_path / "m.keras"), "--output", str(tmp_path / "out")]) == 0
    assert sorted(set(tmp_path.rglob("*")) - set(before)) == [tmp_path / "out", tmp_path / "out/m.tflite"]
