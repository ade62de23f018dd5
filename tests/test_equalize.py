"""What is done to what the layers read: near zero in the mean, nearer to each other in reach, and never more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from transformers import AutoModelForSequenceClassification

from export.equalize import Change, changes_for, shift_only
from export.graph import Graph
from export.layers import Layer, find_layers
from export.onnx_model import to_onnx
from export.probe import Channels
from tests import architectures

MEAN = np.linspace(-2, 2, 32)


def layers_of(architecture: str, folder: Path, factory: pytest.TempPathFactory) -> list[Layer]:
    """Return the layers of a small model."""
    model = AutoModelForSequenceClassification.from_pretrained(architectures.checkpoint(factory, architecture))
    to_onnx(model.eval(), folder / "model.onnx")
    return list(find_layers(Graph(onnx.load(folder / "model.onnx"))))


def changes(layers: list[Layer], reach: np.ndarray) -> dict[str, Change]:
    """Return the changes where every tensor's channels have MEAN and `reach`."""
    return changes_for(layers, {name: Channels(MEAN, reach) for layer in layers for name in (layer.x, layer.inner.x)})


def test_every_input_but_the_first_is_changed(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What attention reads from the second layer on, and every feed-forward layer, is shifted to a mean of zero."""
    layers = layers_of("bert", tmp_path, tmp_path_factory)
    found = changes(layers, np.ones(32))
    assert set(found) == {layer.x for layer in layers[1:]} | {layer.inner.x for layer in layers}
    for change in found.values():
        np.testing.assert_array_equal(MEAN + change.shift, 0)
        np.testing.assert_array_equal(change.divisor, 1)


def test_channels_come_nearer_to_each_other_and_keep_their_order(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Channels that reach far are divided, those that reach hardly anywhere are not blown up, the order stays."""
    reach = np.geomspace(1e-9, 50, 32)
    for change in changes(layers_of("bert", tmp_path, tmp_path_factory), reach).values():
        after = reach / change.divisor
        assert after.max() / np.median(after) < reach.max() / np.median(reach)
        assert (np.diff(after) > 0).all()
        assert change.divisor.min() > 0.25


@pytest.mark.parametrize("reach", [np.zeros(32), np.full(32, np.nan), np.full(32, np.inf)], ids=str)
def test_a_reach_that_says_nothing_divides_by_nothing(
    reach: np.ndarray, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where the channels' reach is zero or not finite, nothing is divided."""
    for change in changes(layers_of("bert", tmp_path, tmp_path_factory), reach).values():
        np.testing.assert_array_equal(change.divisor, 1)


def test_weights_that_layers_share_stay_shared(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where layers share their weights, inputs are shifted only, as every layer would multiply them otherwise."""
    found = changes(layers_of("albert", tmp_path, tmp_path_factory), np.geomspace(0.1, 50, 32))
    assert found
    for change in found.values():
        np.testing.assert_array_equal(change.shift, shift_only(-MEAN).shift)
        np.testing.assert_array_equal(change.divisor, 1)
