"""The settings that a search tries: those among rates and epochs that a recipe leaves open. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from training.errors import TrainingError
from training.recipe.recipe import Recipe

SEARCHED = ("learning_rate", "head_learning_rate", "epochs")
HEADS = (1, 3, 10, 30)  # the head's rate, in rates of the encoder
_SPREAD = 3  # of the learning rate, to both sides
Params = Mapping[str, float]


def open_options(recipe: Recipe) -> tuple[str, ...]:
    """Return the options to search. Raises TrainingError where `recipe` names all of them."""
    searched = [name for name in SEARCHED if not (recipe.few_labels and name == "head_learning_rate")]
    names = tuple(name for name in searched if getattr(recipe, name) is None)
    if not names:
        given = ", ".join(f"{name} {getattr(recipe, name):g}" for name in searched)
        raise TrainingError(f"--auto has nothing to search: the recipe and the flags name {given}; leave one out")
    return names


@dataclass(frozen=True)
class Space:
    """The values to try of the options `names`. default: the recipe with its defaults for them."""

    names: tuple[str, ...]
    default: Recipe

    @property
    def rates(self) -> tuple[float, float]:
        """Return the lowest and highest learning rate."""
        rate = self.default.learning_rate or 0.0
        return rate / _SPREAD, rate * _SPREAD

    @property
    def epochs(self) -> tuple[int, int]:
        """Return the fewest and most epochs; those of the head alone leave at least one."""
        epochs = self.default.epochs or 1.0
        return max(1, int(epochs / 2), self.default.head_first_epochs + 1), round(2 * epochs)

    def default_params(self) -> dict[str, float]:
        """Return the defaults as a point of the space; the head's rate is a multiple of the encoder's."""
        rate, head = self.default.learning_rate or 0.0, self.default.head_learning_rate
        times = min(HEADS, key=lambda one: abs(one - (head or rate) / rate))
        return {
            name: {"learning_rate": rate, "head_learning_rate": times, "epochs": int(self.default.epochs or 1)}[name]
            for name in self.names
        }

    def recipe_of(self, params: Params) -> Recipe:
        """Return the recipe of a point. Rates are rounded to two digits; the defaults stay exactly as they are."""
        if dict(params) == self.default_params():
            return self.default
        found = self.default
        if (rate := params.get("learning_rate")) is not None:
            found = replace(found, learning_rate=_two_digits(rate))
        if (times := params.get("head_learning_rate")) is not None:
            found = replace(found, head_learning_rate=_two_digits(times * (found.learning_rate or 0.0)))
        if (epochs := params.get("epochs")) is not None:
            found = replace(found, epochs=float(epochs))
        return found

    def settings(self, params: Params) -> dict[str, float]:
        """Return the options of a point with their values; a head without a rate has the encoder's."""
        found = self.recipe_of(params)
        return {name: float(getattr(found, name) or found.learning_rate or 0.0) for name in self.names}


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
