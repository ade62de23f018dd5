"""Models with fewer layers than their base: the layers kept, the weights, and the checkpoint read back."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from tests.support.architectures import TESTED, checkpoint
from training.errors import TrainingError
from training.model.layers import kept_layers, layers_of, shortened

IDS = torch.tensor([[2, 5, 9, 14, 3], [2, 30, 7, 21, 3]])


def deep(folder: Path, layers: int) -> PreTrainedModel:
    """Return a model of that many layers with the checkpoint's weights, and random ones in its further layers."""
    config = AutoModelForSequenceClassification.from_pretrained(folder).config
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = ["full_attention" if i % 3 == 0 else "sliding_attention" for i in range(layers)]
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config).eval()


def logits(model: PreTrainedModel) -> torch.Tensor:
    """Return the logits of two texts."""
    with torch.inference_mode():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


@pytest.mark.parametrize(
    ("count", "total", "kept"),
    [(6, 12, [0, 2, 4, 7, 9, 11]), (1, 6, [0]), (2, 6, [0, 5]), (3, 6, [0, 2, 5]), (4, 6, [0, 2, 3, 5])],
)
def test_the_layers_kept_are_evenly_spaced(count: int, total: int, kept: list[int]) -> None:
    """Six of twelve are those of DistilBERT; the first and the last are always among them."""
    assert kept_layers(count, total) == kept


@pytest.mark.parametrize("architecture", [name for name in TESTED if name != "albert"])
def test_a_shortened_model_computes_with_the_kept_layers(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, architecture: str
) -> None:
    """Its logits are those of the base without the other layers, and the saved checkpoint gives them too."""
    base = deep(checkpoint(tmp_path_factory, architecture), 5)
    cut = copy.deepcopy(base)
    layers = layers_of(cut)
    assert layers is not None
    for index in (3, 1):
        del layers[index]
    if hasattr(cut.config, "layer_types"):  # its forward pass takes masks by the config's list
        cut.config.layer_types = [cut.config.layer_types[i] for i in (0, 2, 4)]
    cut.config.num_hidden_layers = 3
    short = shortened(base, 3).eval()
    assert torch.equal(logits(short), logits(cut))
    assert not torch.equal(logits(short), logits(base))
    short.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(again), logits(short))


def test_missing_and_shared_layers_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    """More layers than the base has, and ALBERT with its shared layers."""
    with pytest.raises(TrainingError, match="^layers is 6, the model has 5$"):
        shortened(deep(checkpoint(tmp_path_factory, "bert"), 5), 6)
    with pytest.raises(TrainingError, match="^architecture 'albert' has no layers with weights of their own"):
        shortened(AutoModelForSequenceClassification.from_pretrained(checkpoint(tmp_path_factory, "albert")), 1)
