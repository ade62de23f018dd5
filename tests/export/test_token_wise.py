"""The arithmetic of int8-token, against the same worked out by hand in integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.engine.encoder import Hints
from export.engine.graph import MICROSOFT, Graph
from export.engine.token_wise import quantize_along, quantize_linears, quantize_tables

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(8, 3)).astype(np.float32)
BIAS = np.array([1.0, -2.0, 3.0], np.float32)
ROWS = RNG.normal(size=(5, 8)).astype(np.float32) * np.array([[1], [100], [0.01], [7], [1]], np.float32)


def linear_model(floor: float | None = None, kept: frozenset[str] = frozenset()) -> onnx.ModelProto:
    """Return y = x·WEIGHT + BIAS, quantized unless its MatMul, called product, is in `kept`."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weight"], ["product"], name="product"),
            helper.make_node("Add", ["product", "bias"], ["y"]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
        [numpy_helper.from_array(WEIGHT, "weight"), numpy_helper.from_array(BIAS, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)])
    model.ir_version = 10
    editable = Graph(model)
    quantize_linears(editable, kept, Hints(floors={} if floor is None else {"x": floor}))
    editable.prune()
    return model


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """Return the model's output for `x`."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def by_hand(x: np.ndarray, floor: float | None = None) -> np.ndarray:
    """Return the result of int8-token, with sums in Python's integers."""
    columns = np.abs(WEIGHT).max(axis=0) / np.float32(127)
    weight = np.rint(WEIGHT / columns).astype(int)
    zero_point = {None: 128, 0.0: 0}.get(floor, 24)
    steps = 127 if floor is None else 255 - zero_point
    largest = np.abs(x).max(axis=1) if floor is None else x.max(axis=1)
    if floor:
        largest = np.maximum(largest, np.float32(floor * steps / zero_point))
    scale = (largest * np.float32(1 / steps)).astype(np.float32)
    quantized = np.clip(np.rint(x / scale[:, None]), -zero_point, 255 - zero_point).astype(int)
    return (quantized @ weight) * columns * scale[:, None] + BIAS


def test_a_linear_layer_is_what_integers_give() -> None:
    """Each row is rounded by its own largest value, each column of weights by its own, and the sums are exact."""
    np.testing.assert_allclose(run(linear_model(), ROWS), by_hand(ROWS), rtol=1e-5, atol=1e-6)
    assert np.abs(run(linear_model(), ROWS) - (ROWS @ WEIGHT + BIAS)).max() > 1e-3


@pytest.mark.parametrize("floor", [0.1, 0.0])
def test_a_bound_below_leaves_more_steps_above(floor: float) -> None:
    """Where no value is below -f, few steps or none lie below zero, also in a row of small values."""
    x = np.maximum(ROWS, -floor)
    x[2] = np.linspace(-floor, 0.05, 8)
    found = run(linear_model(floor=floor), x)
    np.testing.assert_allclose(found, by_hand(x, floor=floor), rtol=1e-5, atol=1e-6)
    columns = np.abs(WEIGHT).max(axis=0) / 127
    weight = np.rint(WEIGHT / columns) * columns
    half_steps = np.maximum(x.max(axis=1), 1) / 231 / 2
    assert (np.abs(found - (x @ weight + BIAS)) <= half_steps[:, None] * np.abs(weight).sum(axis=0) + 1e-6).all()


def test_a_row_of_zeros_gives_the_bias() -> None:
    """A row of zeros, with scale 0, gives exactly the bias and leaves its neighbours alone."""
    x = ROWS.copy()
    x[3] = 0
    found = run(linear_model(), x)
    np.testing.assert_array_equal(found[3], BIAS)
    np.testing.assert_array_equal(found[:3], run(linear_model(), ROWS)[:3])


@pytest.mark.parametrize("others", [1, 2, 16, 63])
def test_a_rows_bits_do_not_depend_on_the_other_rows(others: int) -> None:
    """A row has the same bits alone and among others that are a thousand times larger."""
    model = linear_model()
    x = np.concatenate([RNG.normal(size=(others, 8)).astype(np.float32) * 1000, ROWS[:1]])
    np.testing.assert_array_equal(run(model, x)[-1], run(model, ROWS[:1])[0])


def test_a_product_that_is_kept_stays_fp32() -> None:
    """A product that is named stays as it was."""
    model = linear_model(kept=frozenset({"product"}))
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Add"]
    np.testing.assert_allclose(run(model, ROWS), ROWS @ WEIGHT + BIAS, rtol=1e-5, atol=1e-5)


def test_weights_are_rounded_by_the_largest_of_each_column() -> None:
    """The largest weight of a column becomes 127, and a column of zeros keeps the scale 1."""
    values, scales = quantize_along(np.array([[1.0, 0.0, -4.0], [-0.5, 0.0, 2.0]]), axis=0)
    np.testing.assert_array_equal(values, [[127, 0, -127], [-64, 0, 64]])
    np.testing.assert_allclose(scales, [[1 / 127, 1, 4 / 127]])


def test_embeddings_are_off_by_half_a_step_of_their_own_row_at_most() -> None:
    """A looked-up row is within half a step of its own scale, however large other rows are."""
    table = RNG.normal(size=(300, 64)).astype(np.float32)
    table[7] *= 10_000
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["found"]), helper.make_node("Identity", ["found"], ["y"])],
        "embedding",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["tokens"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", 64])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    editable = Graph(model)
    quantize_tables(editable)
    editable.prune()
    assert {tuple(t.dims): t.data_type for t in model.graph.initializer} == {
        (300, 64): TensorProto.INT8,
        (300, 1): TensorProto.FLOAT,
    }
    found = run(model, np.arange(300))
    steps = np.abs(table).max(axis=1, keepdims=True) / 127
    assert (np.abs(found - table) <= steps * 0.5001).all()
    assert np.abs(found - table).max() > 0
