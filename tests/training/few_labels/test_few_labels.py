"""The contrastive loss, the linear head, and runs from few labels."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from inferer.bundle.manifest import SINGLE_LABEL
from inferer.scoring import softmax
from tests.support.fruit import command, write_base, write_table
from tests.support.server import run_to_end
from training.data.dataset import Columns, Dataset
from training.errors import TrainingError
from training.few_labels.contrast import contrastive
from training.few_labels.linear_head import fit_head
from training.recipe.checks import check_recipe
from training.recipe.recipe import Recipe


def labelled(targets: list[tuple[int, ...]], labels: tuple[str, ...]) -> Dataset:
    """Return a data set of these labels."""
    texts = tuple(map(str, range(len(targets))))
    return Dataset(texts, tuple(targets), labels, SINGLE_LABEL, Columns("text", "label"))


def test_the_loss_is_that_of_all_pairs() -> None:
    """Each text has the mean of -log of its partners' shares; a text without a partner does not count."""
    embeddings = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    half = math.sqrt(0.5) / 0.1  # the similarity of the third with each other, over the temperature
    expected = math.log(math.exp(0.0) + math.exp(half)) - half
    other = math.log(2 * math.exp(half)) - half
    loss = contrastive(embeddings, torch.tensor([0, 1, 0]))
    assert loss.item() == pytest.approx((expected + other) / 2, rel=1e-5)


def test_the_loss_has_a_finite_gradient() -> None:
    """Equal texts, batches without a pair, and a lone text have finite gradients."""
    for targets in ([0, 0, 0], [0, 1, 2], [1, 1, 0]):
        embeddings = torch.ones(3, 4, requires_grad=True)
        contrastive(embeddings, torch.tensor(targets)).backward()
        assert embeddings.grad is not None
        assert embeddings.grad.isfinite().all()
    assert contrastive(torch.ones(1, 4), torch.tensor([0])).item() == 0


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_a_logistic_regression(classes: int) -> None:
    """Its scores are those of scikit-learn, for two classes too, whatever the length of the embeddings."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    targets = np.arange(60) % classes
    embeddings = (rng.normal(size=(60, 5)) + targets[:, None]).astype(np.float32)
    head = fit_head(embeddings, labelled([(int(one),) for one in targets], tuple("abc"[:classes])))
    scaled = embeddings.astype(float) / np.linalg.norm(embeddings, axis=1).mean()
    expected = LogisticRegression(max_iter=1000).fit(scaled, targets).predict_proba(scaled)
    np.testing.assert_allclose(softmax(head.logits(embeddings).astype(float)), expected, atol=1e-3)
    layer = head.layer()
    np.testing.assert_allclose(
        layer(torch.from_numpy(embeddings)).detach().numpy(), head.logits(embeddings), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "mlp"}, "head cannot be given with few_labels, which fits a linear head to embeddings"),
        ({"freeze": 2}, "freeze cannot be given with few_labels, which fits a linear head to embeddings"),
        ({"teacher": ("a",)}, "teacher cannot be given with few_labels, which fits a linear head to embeddings"),
        ({"problem_type": "regression"}, "few_labels is for data with one label per text"),
        ({"label_separator": "|"}, "few_labels is for data with one label per text"),
    ],
)
def test_options_of_other_ways_are_refused(options: dict[str, object], message: str) -> None:
    """Another head, frozen layers, weights, a teacher and a regression do not go with few labels."""
    recipe = Recipe(
        file=Path("x.csv"),
        text_column="t",
        label_column="l",
        output=Path("m"),
        few_labels=True,
        **options,  # type: ignore[arg-type]
    )
    with pytest.raises(TrainingError) as caught:
        check_recipe(recipe)
    assert str(caught.value) == message


@pytest.mark.slow
def test_a_run_from_few_labels(tmp_path: Path) -> None:
    """It learns, keeps its best epoch, and writes a checkpoint with the mean head that evaluation reads the same."""
    base, table = write_base(tmp_path / "base"), write_table(tmp_path / "fruit.csv")
    flags = ("--few-labels", "--validation-share", "0.2", "--early-stopping", "0", "--learning-rate", "0.001")
    given = command(table, base, tmp_path / "m", "--label-column", "colour", *flags)
    done = run_to_end(sys.executable, "-m", "training", *given, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "m" / "training.json").read_text(encoding="utf-8"))["held_out"]
    (always,) = [one for one in record["baselines"].values() if "label" in one]
    assert record["macro_f1"] > always["macro_f1"] + 0.2
    config = json.loads((tmp_path / "m" / "config.json").read_text(encoding="utf-8"))
    assert config["inferer_head"]["type"] == "mean"
    epochs = json.loads((tmp_path / "m" / "epochs.json").read_text(encoding="utf-8"))
    assert len(epochs) == 6
    assert sum(epoch["kept"] for epoch in epochs) == 1
    again = run_to_end(
        sys.executable, "-m", "training.evaluate", str(tmp_path / "m"), "--data", str(tmp_path / "m" / "held_out.csv"),
        "--output", str(tmp_path / "report"), OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["accuracy"] == record["accuracy"]
