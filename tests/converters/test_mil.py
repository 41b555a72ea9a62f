"""The numpy executor against coremltools' own arithmetic on constants, and against sums done the slow way."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.errors import ModelError
from limpet_convert import mil
from support.coreml import builder, coremltools, inferred, package

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import Array

# coremltools leaves its temporary folders to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")

RNG = np.random.default_rng(5)
X = RNG.uniform(0.1, 0.9, (2, 4, 3)).astype(np.float32)
SIGNED = RNG.normal(0, 2, (2, 4, 3)).astype(np.float32)
IMAGE = RNG.normal(0, 1, (1, 8, 4, 6)).astype(np.float32)


def run(tmp_path: Path, op: str, macos: str = "13", **given: Any) -> list[Array]:
    """Run one op, whose first input is the program's."""
    first, values = next(iter(given.items()))
    others = {name: value for name, value in given.items() if name != first}
    path = package(
        tmp_path / "op.mlpackage",
        lambda x: getattr(builder(), op)(**{first: x}, **others),
        {"x": values},
        macos,
    )
    return mil.Program(path).run([values])


UNARY = [
    "abs", "acos", "asin", "atan", "atanh", "ceil", "cos", "cosh", "exp", "exp2", "floor", "identity", "log",
    "relu", "relu6", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "softplus", "softsign", "sqrt",
    "square", "tan", "tanh", "inverse",
]  # fmt: skip
BINARY = ["add", "floor_div", "maximum", "minimum", "mod", "mul", "pow", "real_div", "sub"]
COMPARISONS = ["equal", "greater", "greater_equal", "less", "less_equal", "not_equal"]
REDUCTIONS = ["l1_norm", "l2_norm", "log_sum", "log_sum_exp", "max", "mean", "min", "prod", "sum", "sum_square"]
CASES: list[tuple[str, dict[str, Any]]] = [
    *((op, {"x": X}) for op in UNARY),
    *((op, {"x": SIGNED}) for op in ("relu", "relu6", "sigmoid", "round", "softplus")),
    *((op, {"x": X, "y": X[::-1].copy()}) for op in BINARY),
    *((f"reduce_{op}", {"x": X, "axes": axes}) for op in REDUCTIONS for axes in ([1], [0, 2])),
    *((f"reduce_{op}", {"x": X, "axis": 1, "keep_dims": True}) for op in ("argmax", "argmin")),
    ("clip", {"x": SIGNED, "alpha": -1.0, "beta": 1.5}),
    ("elu", {"x": SIGNED, "alpha": 0.5}),
    ("leaky_relu", {"x": SIGNED, "alpha": 0.2}),
    ("linear_activation", {"x": SIGNED, "alpha": 0.2, "beta": 3.0}),
    ("scaled_tanh", {"x": SIGNED, "alpha": 0.2, "beta": 3.0}),
    ("sigmoid_hard", {"x": SIGNED, "alpha": 0.2, "beta": 0.4}),
    ("threshold", {"x": SIGNED, "alpha": 0.3}),
    ("thresholded_relu", {"x": SIGNED, "alpha": 0.3}),
    ("prelu", {"x": SIGNED, "alpha": np.full(4, 0.1, np.float32)}),
    ("softmax", {"x": SIGNED, "axis": 1}),
    ("cast", {"x": SIGNED, "dtype": "int32"}),
    ("band_part", {"x": X, "lower": 1, "upper": 0}),
    ("concat", {"values": [X, SIGNED], "axis": 1}),
    ("expand_dims", {"x": X, "axes": [0, -1]}),
    ("flatten2d", {"x": X, "axis": 2}),
    ("gather", {"x": X, "indices": np.array([2, 0], np.int32), "axis": 1}),
    ("matmul", {"x": X, "y": SIGNED, "transpose_y": True}),
    ("pad", {"x": X, "pad": [1, 0, 2, 1], "mode": "constant", "constant_val": 2.0}),
    ("pad", {"x": X, "pad": [1, 2, 1, 1], "mode": "reflect"}),
    ("pad", {"x": X, "pad": [1, 2, 1, 1], "mode": "replicate"}),
    ("reshape", {"x": X, "shape": [4, -1]}),
    ("reverse", {"x": X, "axes": [0, 2]}),
    ("slice_by_index", {"x": X, "begin": [0, 3, 1], "end": [2, 0, 3], "stride": [1, -2, 1]}),
    (
        "slice_by_index",
        {"x": X, "begin": [1, 0, 0], "end": [0, 0, 2], "end_mask": [False, True, False]}
        | {"squeeze_mask": [True, False, False]},
    ),
    ("slice_by_size", {"x": X, "begin": [0, 1, 1], "size": [2, -1, 1]}),
    ("split", {"x": X, "split_sizes": [1, 3], "axis": 1}),
    ("squeeze", {"x": X[:, :1], "axes": [1]}),
    ("stack", {"values": [X, SIGNED], "axis": 1}),
    ("tile", {"x": X, "reps": [1, 2, 3]}),
    ("topk", {"x": X, "k": 2, "axis": 1}),
    ("transpose", {"x": X, "perm": [2, 0, 1]}),
]


WANTED = [inferred(op, **given) for op, given in CASES]


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    """All cases in one program of the inputs ``X`` and ``SIGNED``."""

    def build(x: Any, signed: Any) -> Any:
        def variable(value: Any) -> Any:
            return x if value is X else signed if value is SIGNED else value

        outputs = []
        for op, given in CASES:
            inputs = {
                name: [variable(one) for one in value] if name == "values" else variable(value)
                for name, value in given.items()
            }
            results = getattr(builder(), op)(**inputs)
            outputs += results if isinstance(results, (tuple, list)) else [results]
        return outputs

    path = package(tmp_path_factory.mktemp("mil") / "all.mlpackage", build, {"x": X, "signed": SIGNED})
    found = iter(mil.Program(path).run([X, SIGNED]))
    return [list(itertools.islice(found, len(wanted))) for wanted in WANTED]


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{i}-{op}" for i, (op, _) in enumerate(CASES)])
def test_an_op_computes_what_coremltools_computes(computed: list[list[Array]], case: int) -> None:
    for ours, theirs in zip(computed[case], WANTED[case], strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("op", COMPARISONS)
def test_comparisons_choose(tmp_path: Path, op: str) -> None:
    other = X.copy()
    other[0] += RNG.choice([-1, 1], other[0].shape)
    mb = builder()
    path = package(
        tmp_path / "op.mlpackage",
        lambda x, y: mb.select(cond=getattr(mb, op)(x=x, y=y), a=x, b=mb.mul(x=y, y=10.0)),
        {"x": X, "y": other},
    )
    (wanted,) = inferred(op, x=X, y=other)
    (found,) = mil.Program(path).run([X, other])
    np.testing.assert_allclose(found, np.where(wanted, X, other * 10), rtol=1e-6)


def slow_conv(x: Array, weight: Array, strides: tuple[int, int], dilations: tuple[int, int], groups: int) -> Array:
    """Convolve by the definition, without padding."""
    n, channels, height, width = x.shape
    out, per_group, kh, kw = weight.shape
    tall = (height - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    wide = (width - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    result = np.zeros((n, out, tall, wide))
    for o, i, j, c, a, b in itertools.product(*map(range, (out, tall, wide, per_group, kh, kw))):
        channel = o // (out // groups) * per_group + c
        rows, columns = i * strides[0] + a * dilations[0], j * strides[1] + b * dilations[1]
        result[:, o, i, j] += weight[o, c, a, b] * x[:, channel, rows, columns]
    assert channels == per_group * groups
    return result


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize(("strides", "dilations"), [((1, 1), (1, 1)), ((2, 1), (1, 2))])
def test_convolution(tmp_path: Path, groups: int, strides: tuple[int, int], dilations: tuple[int, int]) -> None:
    weight = RNG.normal(0, 1, (8, 8 // groups, 3, 2)).astype(np.float32)
    bias = RNG.normal(0, 1, 8).astype(np.float32)
    (found,) = run(
        tmp_path, "conv", x=IMAGE, weight=weight, bias=bias, strides=strides, dilations=dilations, groups=groups
    )
    wanted = slow_conv(IMAGE, weight, strides, dilations, groups) + bias[:, None, None]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("pad_type", "before"), [("same", (0, 0)), ("same_lower", (1, 1))])
def test_same_padding_puts_the_odd_one_behind_or_before(
    tmp_path: Path, pad_type: str, before: tuple[int, int]
) -> None:
    weight = RNG.normal(0, 1, (2, 8, 3, 3)).astype(np.float32)
    (found,) = run(tmp_path, "conv", x=IMAGE, weight=weight, strides=[2, 2], pad_type=pad_type)
    around = [(0, 0), (0, 0), *((b, 1 - b) for b in before)]
    np.testing.assert_allclose(found, slow_conv(np.pad(IMAGE, around), weight, (2, 2), (1, 1), 1), atol=1e-5)


def test_transposed_convolution_is_the_gradient_of_convolution(tmp_path: Path) -> None:
    """<conv(x), y> equals <x, conv_transpose(y)> for every x and y."""
    weight = RNG.normal(0, 1, (5, 8, 3, 2)).astype(np.float32)
    y = RNG.normal(0, 1, (1, 5, 1, 5)).astype(np.float32)
    (back,) = run(
        tmp_path, "conv_transpose", x=y, weight=weight, strides=[2, 1], output_shape=np.array([1, 8, 4, 6])
    )
    ahead = slow_conv(IMAGE, weight, (2, 1), (1, 1), 1)
    assert back.shape == IMAGE.shape
    np.testing.assert_allclose((ahead * y).sum(), (IMAGE * back).sum(), rtol=1e-4)


@pytest.mark.parametrize("exclude", [True, False])
def test_average_pool_counts_padding_or_not(tmp_path: Path, exclude: bool) -> None:  # noqa: FBT001
    ones = np.ones((1, 1, 4, 4), np.float32)
    (found,) = run(
        tmp_path,
        "avg_pool",
        x=ones,
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
        exclude_padding_from_average=exclude,
    )
    np.testing.assert_allclose(found[0, 0], 1 if exclude else [[4 / 9, 6 / 9], [6 / 9, 1]], rtol=1e-6)


def test_max_pool_with_a_last_partial_window(tmp_path: Path) -> None:
    line = np.arange(5, dtype=np.float32)[None, None]
    (found,) = run(tmp_path, "max_pool", x=line, kernel_sizes=[2], strides=[2], pad_type="valid", ceil_mode=True)
    np.testing.assert_array_equal(found[0, 0], [1, 3, 4])


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("UNALIGN_CORNERS", [0, 0.1, 0.5, 0.9, 1]),
        ("ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1]),
        ("DEFAULT", [0, 0.4, 0.8, 1, 1]),
        ("OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9]),
    ],
)
def test_where_resizing_takes_its_samples(tmp_path: Path, mode: str, wanted: list[float]) -> None:
    """The examples are those of MIL's documentation of ``resize_bilinear``."""
    ramp = np.array([0, 1], np.float32).reshape(1, 1, 1, 2)
    (found,) = run(
        tmp_path, "resize_bilinear", x=ramp, target_size_height=1, target_size_width=5, sampling_mode=mode
    )
    np.testing.assert_allclose(found[0, 0, 0], wanted, atol=1e-6)


def test_normalisations_have_mean_0_and_variance_1(tmp_path: Path) -> None:
    mb, statistics = builder(), {"mean": SIGNED.mean((0, 2)), "variance": SIGNED.var((0, 2))}

    def build(x: Any) -> Any:
        return [
            mb.layer_norm(x=x, axes=[1, 2], epsilon=1e-12),
            mb.instance_norm(x=x, epsilon=1e-12),
            mb.batch_norm(x=x, epsilon=1e-12, **statistics),
        ]

    program = mil.Program(package(tmp_path / "norms.mlpackage", build, {"x": SIGNED}))
    for found, axes in zip(program.run([SIGNED]), [(1, 2), (2,), (0, 2)], strict=True):
        np.testing.assert_allclose(found.mean(axes), 0, atol=1e-5)
        np.testing.assert_allclose(found.std(axes), 1, atol=1e-4)


def test_sums_that_run(tmp_path: Path) -> None:
    (found,) = run(tmp_path, "cumsum", x=X, axis=1, exclusive=True, reverse=True)
    np.testing.assert_allclose(found[:, -1], 0)
    np.testing.assert_allclose(found[:, 0], X[:, 1:].sum(1), rtol=1e-6)


def test_quantize_rounds_to_even_clips_and_comes_back(tmp_path: Path) -> None:
    values = np.array([[0.25, 0.75, -100, 100, 0.6]], np.float32)
    mb = builder()

    def build(x: Any) -> Any:
        stored = mb.quantize(input=x, scale=np.float32(0.5), zero_point=np.int8(3), output_dtype="int8")
        return mb.dequantize(input=stored, scale=np.float32(0.5), zero_point=np.int8(3))

    path = package(tmp_path / "q.mlpackage", build, {"x": values}, "14")
    (found,) = mil.Program(path).run([values])
    np.testing.assert_allclose(found, [[0, 1, -65.5, 62, 0.5]])
    kinds = [step.kind for step in mil.Program(path).trace([values])]
    assert kinds == ["quantize", "dequantize"]


def test_ops_that_coremltools_does_not_compute_itself(tmp_path: Path) -> None:
    """Each against its definition, written out."""
    mb = builder()
    sums = np.zeros_like(IMAGE)
    for channel in range(8):
        sums[:, channel] = np.square(IMAGE[:, max(0, channel - 1) : channel + 2]).sum(1)
    blocks = np.zeros((1, 2, 8, 12), np.float32)
    for c, i, j in itertools.product(range(2), range(2), range(2)):
        blocks[:, c, i::2, j::2] = IMAGE[:, (i * 2 + j) * 2 + c]
    updated = IMAGE.copy()
    updated[:, 1:3] = 7
    nd = np.array([[0, 1], [1, 2]], np.int32)
    scattered = SIGNED.copy()
    scattered[0, 1] += 1
    scattered[1, 2] += 1
    attended = np.exp(X @ SIGNED.swapaxes(1, 2) / np.sqrt(3))
    truth = X > 0.5

    def build(x: Any, signed: Any, image: Any) -> Any:
        spaced = mb.depth_to_space(x=image, block_size=2)
        above, below = mb.greater(x=x, y=0.5), mb.less(x=signed, y=0.0)
        conditions = [
            mb.logical_not(x=above), mb.logical_and(x=above, y=below), mb.logical_or(x=above, y=below),
            mb.logical_xor(x=above, y=below),
        ]  # fmt: skip
        return [
            mb.clamped_relu(x=signed, alpha=0.2, beta=1.0),
            mb.softplus_parametric(x=signed, alpha=np.full(4, 2, np.float32), beta=np.full(4, 3, np.float32)),
            mb.l2_norm(x=signed, epsilon=1e-6),
            mb.local_response_norm(x=image, size=3, alpha=0.5, beta=0.75, k=1.5),
            mb.l2_pool(x=image, kernel_sizes=[1, 2], strides=[1, 2], pad_type="valid"),
            spaced,
            mb.space_to_depth(x=spaced, block_size=2),
            mb.einsum(values=(image, mb.transpose(x=image, perm=[0, 3, 2, 1])), equation="nchw,nwhu->nchu"),
            mb.fill_like(ref_tensor=x, value=2.5),
            mb.gather_nd(x=x, indices=nd),
            mb.scatter_nd(data=signed, indices=nd, updates=np.ones((2, 3), np.float32), mode="add"),
            mb.sliding_windows(x=signed, axis=1, size=2, stride=2),
            mb.slice_update(
                x=image, update=np.full((1, 2, 4, 6), 7, np.float32), begin=[0, 1, 0, 0], end=[1, 3, 4, 6]
            ),
            mb.scaled_dot_product_attention(query=x, key=signed, value=x),
            mb.resize_nearest_neighbor(x=image, target_size_height=8, target_size_width=3),
            mb.resize(
                x=image, shape=[8, 3], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR",
                sampling_mode="DEFAULT",
            ),
            *(mb.cast(x=condition, dtype="fp32") for condition in conditions),
            mb.cast(x=mb.shape(x=image), dtype="fp32"),
            mb.cast(x=mb.non_zero(x=mb.relu(x=signed)), dtype="fp32"),
            mb.mul(x=x, y=mb.range_1d(start=1.0, end=4.0, step=1.0)),
            mb.mul(x=x, y=mb.fill(shape=[3], value=3.0)),
        ]  # fmt: skip

    path = package(tmp_path / "many.mlpackage", build, {"x": X, "signed": SIGNED, "image": IMAGE}, "15")
    wanted = [
        np.minimum(np.where(SIGNED >= 0, SIGNED, 0.2 * SIGNED), 1),
        2 * np.log1p(np.exp(3 * SIGNED)),
        SIGNED / np.sqrt(np.square(SIGNED).sum() + 1e-6),
        IMAGE / (1.5 + 0.5 / 3 * sums) ** 0.75,
        np.sqrt(np.square(IMAGE[..., ::2]) + np.square(IMAGE[..., 1::2])),
        blocks,
        IMAGE,
        np.stack([np.stack([IMAGE[0, c, h] @ IMAGE[0, :, h].T for h in range(4)]) for c in range(8)])[None],
        np.full_like(X, 2.5),
        np.stack([X[0, 1], X[1, 2]]),
        scattered,
        np.stack([SIGNED[:, :2], SIGNED[:, 2:]], 1),
        updated,
        attended / attended.sum(-1, keepdims=True) @ X,
        IMAGE[:, :, [0, 0, 1, 1, 2, 2, 3, 3]][..., [0, 2, 4]],
        IMAGE[:, :, [0, 0, 1, 1, 2, 2, 3, 3]][..., [0, 2, 4]],
        ~truth, truth & (SIGNED < 0), truth | (SIGNED < 0), truth ^ (SIGNED < 0),
        [1, 8, 4, 6],
        np.argwhere(SIGNED > 0),
        X * [1, 2, 3],
        X * 3,
    ]  # fmt: skip
    found = mil.Program(path).run([X, SIGNED, IMAGE])
    for number, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=f"output {number}")


def test_state_is_kept_between_runs_and_forgotten(tmp_path: Path) -> None:
    from coremltools.converters.mil.mil import types

    mb, target = builder(), coremltools.target.iOS18
    specs = [mb.TensorSpec((3,), dtype=types.fp16), mb.StateTensorSpec((3,), dtype=types.fp16)]

    @mb.program(input_specs=specs, opset_version=target)
    def accumulate(x: Any, total: Any) -> Any:
        grown = mb.add(x=x, y=mb.read_state(input=total))
        return mb.coreml_update_state(state=total, value=grown)

    path = tmp_path / "total.mlpackage"
    coremltools.convert(accumulate, minimum_deployment_target=target, skip_model_load=True).save(str(path))
    program, ones = mil.Program(path), np.ones(3, np.float32)
    assert [program.run([ones])[0][0] for _ in range(3)] == [1, 2, 3]
    program.reset()
    assert program.run([ones])[0][0] == 1


def test_control_flow(tmp_path: Path) -> None:
    """Double until the sum passes 100, and then negate if the first is large."""
    mb = builder()

    def build(x: Any) -> Any:
        doubled = mb.while_loop(
            _cond=lambda a: mb.less(x=mb.reduce_sum(x=a, axes=[0]), y=100.0),
            _body=lambda a: (mb.mul(x=a, y=2.0),),
            loop_vars=(x,),
        )
        large = mb.greater(x=mb.reduce_sum(x=doubled, axes=[0]), y=150.0)
        return mb.cond(
            pred=large, _true_fn=lambda: mb.mul(x=doubled, y=-1.0), _false_fn=lambda: mb.identity(x=doubled)
        )

    path = package(tmp_path / "flow.mlpackage", build, {"x": np.ones(3, np.float32)})
    program = mil.Program(path)
    np.testing.assert_array_equal(program.run([np.full(3, 1, np.float32)])[0], np.full(3, -64))
    np.testing.assert_array_equal(program.run([np.full(3, 12, np.float32)])[0], np.full(3, 48))


def test_float16_is_rounded_to_after_each_op(tmp_path: Path) -> None:
    mb = builder()
    path = package(
        tmp_path / "half.mlpackage",
        lambda x: mb.cast(x=mb.add(x=mb.cast(x=x, dtype="fp16"), y=np.float16(1000)), dtype="fp32"),
        {"x": X[0, 0]},
    )
    (found,) = mil.Program(path).run([X[0, 0]])
    np.testing.assert_array_equal(found, (X[0, 0].astype(np.float16) + np.float16(1000)).astype(np.float32))


def test_an_op_that_it_lacks_is_named_with_its_layer(tmp_path: Path) -> None:
    mb = builder()
    path = package(
        tmp_path / "odd.mlpackage",
        lambda x: mb.random_uniform(shape=mb.shape(x=x), low=0.0, high=1.0, seed=1, name="dice"),
        {"x": X},
    )
    with pytest.raises(ModelError, match=r"odd\.mlpackage.*'random_uniform' \(layer 'dice'\)"):
        mil.Program(path)


def test_inputs_may_have_other_ones(tmp_path: Path) -> None:
    row = X[:1, 0]
    program = mil.Program(package(tmp_path / "m.mlpackage", lambda x: builder().relu(x=x), {"x": row}))
    for given in (row[0], row.T, row[None]):
        np.testing.assert_array_equal(program.run([given])[0], row)


@pytest.mark.parametrize("inputs", [[], [X, X], [X[:, :2]]])
def test_inputs_that_do_not_fit_are_refused(tmp_path: Path, inputs: list[Array]) -> None:
    program = mil.Program(package(tmp_path / "m.mlpackage", lambda x: builder().relu(x=x), {"x": X}))
    with pytest.raises(ModelError, match=r"m\.mlpackage"):
        program.run(inputs)


@pytest.mark.parametrize("content", [None, b"", b"hello", bytes(4096)], ids=["absent", "empty", "short", "zeros"])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.mlmodel"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.mlmodel"):
        mil.Program(path)


def test_every_op_is_one_of_mils() -> None:
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    assert set(mil.OPS) <= set(SSAOpRegistry.core_ops)
