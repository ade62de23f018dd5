"""The learning rates and epochs of a run that names none: by the base model's width, the rows and the kind of labels.

The rates for width 384 and the epochs are measured (docs/train.md, "Defaults"); those for wider models are the
literature's (Devlin et al., BERT, 2019, appendix A.3).
"""

from __future__ import annotations

from dataclasses import replace

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION
from training.errors import TrainingError
from training.recipe.recipe import Recipe

_RATES = ((512, 1e-4), (896, 5e-5))  # up to that width of the hidden states
_RATE = 2e-5  # of wider models
_HEAD = 10  # times the encoder's rate: a fresh head has further to go
_PATIENCE = 2
_FEW_RATE = 0.5  # of the rate, for few labels
# Texts to read in all, and the fewest and most epochs that they may make.
_TEXTS, _EPOCHS = 8_000, (3, 10)
_TEXTS_OF_MANY, _EPOCHS_OF_MANY = 16_000, (5, 20)  # labels that are independent are rarer
_TEXTS_OF_FEW, _EPOCHS_OF_FEW = 1_500, (3, 20)


def with_choosing(recipe: Recipe) -> Recipe:
    """Return `recipe` with early stopping and the best epoch decided: both on where there are validation rows."""
    chooses = bool(recipe.validation_share)
    stopping = (_PATIENCE if chooses else 0) if recipe.early_stopping is None else recipe.early_stopping
    return replace(
        recipe,
        early_stopping=stopping,
        keep_best=chooses if recipe.keep_best is None else recipe.keep_best,
    )


def with_schedule(recipe: Recipe, *, width: int, rows: int, problem_type: str, fresh_head: bool) -> Recipe:
    """Return `recipe` with epochs and learning rates.

    width: of the encoder's hidden states. rows: to train on. A given learning rate is the head's too, unless that is
    given. Raises TrainingError for head_first_epochs that leave none for all weights.
    """
    epochs, rate, head = recipe.epochs, recipe.learning_rate, recipe.head_learning_rate
    if epochs is None:
        texts, (least, most) = _TEXTS, _EPOCHS
        if recipe.few_labels:
            texts, (least, most) = _TEXTS_OF_FEW, _EPOCHS_OF_FEW
        elif problem_type == MULTI_LABEL:
            texts, (least, most) = _TEXTS_OF_MANY, _EPOCHS_OF_MANY
        epochs = float(min(most, max(least, round(texts / rows))))
    if rate is None:
        rate = next((rate for up_to, rate in _RATES if width <= up_to), _RATE)
        if recipe.few_labels:
            rate *= _FEW_RATE
        elif head is None and fresh_head and problem_type != REGRESSION:
            head = _HEAD * rate
    return check_head_first(replace(recipe, epochs=epochs, learning_rate=rate, head_learning_rate=head))


def check_head_first(recipe: Recipe) -> Recipe:
    """Return `recipe`. Raises TrainingError where epochs of the head alone leave none for all weights."""
    first, epochs = recipe.head_first_epochs, recipe.epochs
    if first and epochs is not None and first >= epochs:
        raise TrainingError(f"head_first_epochs is {first}, expected fewer than epochs ({epochs:g})")
    return recipe
