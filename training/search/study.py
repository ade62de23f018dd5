"""The trials of a search, in a file that outlives a kill. The only import of optuna.

Akiba, Sano, Yanase, Ohta, Koyama: Optuna: A Next-generation Hyperparameter Optimization Framework. KDD 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from training.search.settings import HEADS, Params, Space

_NAME, _SECONDS = "search", "seconds"
_RANDOM = 5  # trials before the sampler learns from them
_UNPRUNED = 2  # trials that end before others are compared with them
_PARTS = 10  # trials of different length are compared at like parts of their schedules
_FIRST_PART = 3  # before it the learning rate has hardly risen
_REPEATS = 20  # of settings that were tried, after which the space counts as used up


@dataclass(frozen=True)
class Tried:
    """A trial that has ended. value: its figure, None if it was stopped. seconds: it took."""

    number: int
    params: Params
    value: float | None
    seconds: float


class Study:
    """A search for the highest figure, in the journal `path`, which no other process may use.

    Settings: a tree-structured Parzen estimator (Bergstra et al., NIPS 2011). Pruning: the median of other trials.
    """

    def __init__(self, path: Path, space: Space, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.seed = space, seed
        self.distributions = _distributions(space)
        self.parts: set[int] = set()  # of the trial that runs, which have a figure
        for lock in path.parent.glob(f"{path.name}.lock*"):  # of a killed process; it would be waited for
            lock.unlink()
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=_NAME,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED, n_warmup_steps=_FIRST_PART),
        )
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):  # it was killed
            self.study.tell(trial.number, state=TrialState.FAIL)
            self.study.enqueue_trial(trial.params)
        # They come first, and again where they ran out of a smaller budget.
        if not self.tried() and not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.study.enqueue_trial(space.default_params())

    def spent(self) -> float:
        """Return the seconds of all trials, of those that ran out of time too."""
        return sum(float(one.user_attrs.get(_SECONDS, 0)) for one in self.study.get_trials(deepcopy=False))

    def tried(self) -> list[Tried]:
        """Return the trials that have ended or were pruned, in their order, the defaults first."""
        ended = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return [
            Tried(
                one.number,
                one.params,
                one.value if one.state == TrialState.COMPLETE else None,
                one.user_attrs.get(_SECONDS, 0.0),
            )
            for one in ended
        ]

    def next(self) -> optuna.Trial | None:
        """Return a trial of new settings, None if none are left."""
        self.parts = set()
        known = [self.space.settings(one.params) for one in self.tried()]
        for _ in range(_REPEATS):
            # By the number, so that a search that resumes does not draw its first settings again.
            number = len(self.study.get_trials(deepcopy=False))
            self.study.sampler = optuna.samplers.TPESampler(seed=self.seed + number, n_startup_trials=_RANDOM)
            trial = self.study.ask(self.distributions)
            if self.space.settings(trial.params) not in known:
                return trial
            self.study.tell(trial, state=TrialState.FAIL)
        return None

    def is_worse(self, trial: optuna.Trial, share: float, value: float) -> bool:
        """Note the figure after `share` of a trial's steps; return whether it is below the median of the others."""
        if (part := round(_PARTS * share)) in self.parts:
            return False
        self.parts.add(part)
        trial.report(value, part)
        return share < 1 and trial.should_prune()

    def end(self, trial: optuna.Trial, value: float | None, seconds: float, *, judged: bool = True) -> None:
        """Note the end of a trial, with its figure, or None if it was stopped: judged worse, or out of time."""
        trial.set_user_attr(_SECONDS, seconds)
        stopped = TrialState.PRUNED if judged else TrialState.FAIL
        self.study.tell(trial, value, state=stopped if value is None else TrialState.COMPLETE)


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    every: dict[str, BaseDistribution] = {
        "learning_rate": FloatDistribution(*space.rates, log=True),
        "head_learning_rate": CategoricalDistribution(HEADS),
        "epochs": IntDistribution(*space.epochs),
    }
    return {name: every[name] for name in space.names}
