"""The heads: their shapes, their round trip through a checkpoint, and their logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from tests.support.architectures import LABELS, TESTED, TEXTS, checkpoint, copy_of
from training.errors import TrainingError
from training.model.heads import FIELD, classifier_class, from_config, mean_head, mlp_head, token_head

HEADS = {"mlp": mlp_head((48, 24), 0.1), "mean": mean_head(0.1), "token": token_head(20, 1, 0.1)}
WIDTH = 32  # of the small models' hidden states


def with_head(folder: Path, head: dict[str, Any] | None) -> Any:
    """Return the model in `folder` with a fresh `head`, in eval mode, seeded."""
    torch.manual_seed(3)
    config = AutoConfig.from_pretrained(folder)
    if head is not None:
        setattr(config, FIELD, head)
    return classifier_class(config).from_pretrained(folder, config=config, ignore_mismatched_sizes=True).eval()


def logits(model: Any, folder: Path, texts: tuple[str, ...] = TEXTS) -> torch.Tensor:
    """Return the model's logits for `texts` in one batch."""
    batch = AutoTokenizer.from_pretrained(folder)(list(texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**batch).logits


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("architecture", TESTED)
def test_a_head_comes_back_from_its_checkpoint(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, architecture: str, name: str
) -> None:
    """Saved and loaded by config.json's inferer_head, a model gives the same logits, and no weight is fresh."""
    folder = checkpoint(tmp_path_factory, architecture)
    model = with_head(folder, HEADS[name])
    model.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert getattr(config, FIELD) == HEADS[name]
    again, loaded = classifier_class(config).from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert not any(loaded[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    expected = logits(model, folder)
    assert expected.shape == (len(TEXTS), len(LABELS))
    assert torch.equal(logits(again.eval(), folder), expected)
    assert (expected.max(dim=0).values - expected.min(dim=0).values).min() > 1e-6  # texts differ


@pytest.mark.parametrize("architecture", TESTED)
def test_a_head_keeps_the_stock_model_s_class(tmp_path_factory: pytest.TempPathFactory, architecture: str) -> None:
    """A model with another head is an instance of the architecture's own classifier; without a head it is that one."""
    folder = checkpoint(tmp_path_factory, architecture)
    stock = type(AutoModelForSequenceClassification.from_pretrained(folder))
    assert type(with_head(folder, None)) is stock
    for head in HEADS.values():
        model = with_head(folder, head)
        assert isinstance(model, stock)
        assert type(model) is type(with_head(folder, head))


@pytest.mark.parametrize("architecture", TESTED)
def test_the_mlp_s_layers_have_the_sizes(tmp_path_factory: pytest.TempPathFactory, architecture: str) -> None:
    """The MLP in the place of the last layer maps the encoder's width through the hidden sizes to the labels."""
    model = with_head(checkpoint(tmp_path_factory, architecture), HEADS["mlp"])
    place = model.classifier if isinstance(model.classifier, torch.nn.Sequential) else model.classifier.out_proj
    shapes = [tuple(layer.weight.shape) for layer in place if isinstance(layer, torch.nn.Linear)]
    assert shapes == [(48, WIDTH), (24, 48), (len(LABELS), 24)]


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("architecture", TESTED)
def test_the_token_head_s_layers_have_the_sizes(
    tmp_path_factory: pytest.TempPathFactory, architecture: str, layers: int
) -> None:
    """The token head has 20 numbers per token, the requested layers, a linear layer on top, and no pooler."""
    model = with_head(checkpoint(tmp_path_factory, architecture), token_head(20, layers, 0.0))
    assert model.token_embedding.weight.shape == (20, WIDTH)
    assert [tuple(layer.weight.shape) for layer in model.head_layers] == [(20, 20)] * layers
    assert model.classifier.weight.shape == (len(LABELS), 20)
    assert not [name for name, _ in model.named_parameters() if "pooler" in name or "pre_classifier" in name]


def test_the_token_head_s_logits(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The token head's logits are those of embedding, GELU, mean over the text's tokens, layer, GELU, linear."""
    folder = checkpoint(tmp_path_factory, "bert")
    model = with_head(folder, token_head(20, 1, 0.5))
    for text in TEXTS:
        batch = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
        with torch.no_grad():
            hidden = model.bert(**batch).last_hidden_state[0]
            tokens = torch.nn.functional.gelu(hidden @ model.token_embedding.weight.T + model.token_embedding.bias)
            layer = model.head_layers[0]
            pooled = torch.nn.functional.gelu(tokens.mean(dim=0) @ layer.weight.T + layer.bias)
            expected = pooled @ model.classifier.weight.T + model.classifier.bias
            torch.testing.assert_close(model(**batch).logits[0], expected)


def test_the_mean_head_s_logits(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The mean head's logits are a linear layer on the mean of the text's tokens."""
    folder = checkpoint(tmp_path_factory, "bert")
    model = with_head(folder, mean_head(0.5))
    assert not [name for name, _ in model.named_parameters() if "pooler" in name]
    for text in TEXTS:
        batch = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
        with torch.no_grad():
            pooled = model.bert(**batch).last_hidden_state[0].mean(dim=0)
            expected = pooled @ model.classifier.weight.T + model.classifier.bias
            torch.testing.assert_close(model(**batch).logits[0], expected)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("architecture", TESTED)
def test_padding_changes_nothing(tmp_path_factory: pytest.TempPathFactory, architecture: str, name: str) -> None:
    """A text's logits are the same alone and padded to a longer one."""
    folder = checkpoint(tmp_path_factory, architecture)
    model = with_head(folder, HEADS[name])
    together = logits(model, folder)
    for i, text in enumerate(TEXTS):
        torch.testing.assert_close(logits(model, folder, (text,))[0], together[i], atol=1e-5, rtol=1e-5)


def test_head_layers_start_as_torch_s(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A head's layers start uniform up to 1/sqrt(inputs), built from a config or loaded."""
    folder = checkpoint(tmp_path_factory, "bert")
    config = AutoConfig.from_pretrained(folder)
    setattr(config, FIELD, token_head(200, 1, 0.0))
    for model in (from_config(config), with_head(folder, token_head(200, 1, 0.0))):
        weight = model.token_embedding.weight.detach()
        assert weight.abs().max() <= WIDTH**-0.5
        assert weight.std().item() == pytest.approx((WIDTH * 3) ** -0.5, rel=0.05)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("mlp", "inferer_head is 'mlp', expected a table with type mlp, mean, token"),
        ({"type": "mpl"}, "inferer_head is {'type': 'mpl'}, expected a table with type mlp, mean, token"),
        ({"type": "mlp", "dropout": 0.1}, "inferer_head.hidden_sizes is None, expected list"),
        ({"type": "token", "embedding": "20"}, "inferer_head.embedding is '20', expected int"),
        ({"type": "token", "embedding": 20, "layers": True}, "inferer_head.layers is True, expected int"),
    ],
)
def test_a_faulty_head_is_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, head: object, message: str
) -> None:
    """A config.json whose inferer_head does not describe a head is refused, and the message shows its value."""
    folder = copy_of(checkpoint(tmp_path_factory, "bert"), tmp_path / "copy", **{FIELD: head})
    with pytest.raises(TrainingError) as caught:
        classifier_class(AutoConfig.from_pretrained(folder))
    assert str(caught.value) == f"config.json: {message}"
