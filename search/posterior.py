"""A Gaussian process over the trials of a study, to tell good candidates from lucky ones.

Every trial has its own known noise, the standard error of its paired difference, which no sampler
of Optuna's can be told. Matérn 5/2 with one length a knob, words as corners; lengths, height and a
little extra noise by maximum marginal likelihood (Rasmussen and Williams 2006, chapters 2 and 5).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import ndtr

from search.candidate import Value
from search.objective import Objective
from search.space import Space
from search.trial import Trial, values_of

Array = NDArray[np.float64]
FEWEST = 8  # trials from which a surface can be told
LEAST_ERROR = 0.003


class Posterior:
    """The value of any point, given values with their standard errors."""

    def __init__(
        self,
        space: Space,
        points: Sequence[Mapping[str, Value]],
        values: Sequence[float],
        errors: Sequence[float],
    ) -> None:
        self.space = space
        self._x = np.array([self._encoded(p) for p in points])
        y = np.array(values)
        self._mean, self._spread = float(y.mean()), float(y.std()) or 1.0
        self._y = (y - self._mean) / self._spread
        self._noise = (np.maximum(errors, LEAST_ERROR) / self._spread) ** 2
        start = np.r_[np.full(self._x.shape[1], math.log(0.5)), 0.0, math.log(0.1)]
        bounds = [(-3.0, 3.0)] * self._x.shape[1] + [(-3.0, 3.0), (-6.0, 0.0)]
        found = minimize(
            self._loss, start, bounds=bounds, method="L-BFGS-B", options={"maxiter": 40}
        )
        self._theta = found.x
        self._factor = cho_factor(
            self._kernel(self._x, self._x, self._theta) + self._diagonal(found.x)
        )
        self._alpha = cho_solve(self._factor, self._y)

    def __call__(self, points: Sequence[Mapping[str, Value]]) -> tuple[Array, Array]:
        """Return mean and standard deviation of the true value at each point."""
        across = self._kernel(np.array([self._encoded(p) for p in points]), self._x, self._theta)
        height = math.exp(2 * self._theta[-2])
        left = height - np.einsum("ij,ji->i", across, cho_solve(self._factor, across.T))
        mean = self._mean + self._spread * across @ self._alpha
        return mean, self._spread * np.sqrt(np.maximum(left, 0.0))

    def chance(self, one: Mapping[str, Value], other: Mapping[str, Value]) -> float:
        """Return the probability that the true value at one point is above that at the other."""
        both = np.array([self._encoded(p) for p in (one, other)])
        across = self._kernel(both, self._x, self._theta)
        left = self._kernel(both, both, self._theta) - across @ cho_solve(self._factor, across.T)
        gap, turn = across @ self._alpha, np.array([1.0, -1.0])
        return float(ndtr(turn @ gap / math.sqrt(max(turn @ left @ turn, 1e-12))))

    def _loss(self, theta: Array) -> float:
        try:
            factor = cho_factor(self._kernel(self._x, self._x, theta) + self._diagonal(theta))
        except np.linalg.LinAlgError:
            return 1e10
        fit = self._y @ cho_solve(factor, self._y)
        # A weak prior keeps lengths of knobs that nothing depends on from running away.
        prior = float(((theta[:-2] - math.log(0.5)) ** 2).sum()) / 4
        return float(fit / 2 + np.log(np.diag(factor[0])).sum() + prior)

    def _diagonal(self, theta: Array) -> Array:
        return np.diag(self._noise + math.exp(2 * theta[-1]) * 0.01 + 1e-8)

    @staticmethod
    def _kernel(a: Array, b: Array, theta: Array) -> Array:
        gap = (a[:, None] - b[None]) / np.exp(theta[:-2])
        r = np.sqrt(5 * (gap**2).sum(-1))
        return np.asarray(math.exp(2 * theta[-2]) * (1 + r + r**2 / 3) * np.exp(-r))

    def _encoded(self, point: Mapping[str, Value]) -> Array:
        knobs = self.space.knobs().items()
        return np.array([x for name, knob in knobs for x in knob.encoded(point[name])])


def fit(space: Space, trials: Sequence[Trial], objective: Objective) -> Posterior | None:
    """Fit the complete trials of one study; None for too few."""
    value = values_of(trials, objective)
    known = [t for t in trials if t.number in value]
    if len(known) < FEWEST:
        return None
    errors = [float(t.facts.get("error_of_mean", 0.0)) for t in known]
    points = [space.params(t.candidate) for t in known]
    return Posterior(space, points, [value[t.number] for t in known], errors)
