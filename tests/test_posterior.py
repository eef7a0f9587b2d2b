"""The surface over trials: it finds a known hill, knows noise, and looks beyond what was tried."""

import numpy as np
import pytest

from search.confirm import peak
from search.objective import parse
from search.posterior import Posterior, fit
from search.space import Space
from search.starts import fill

SPACE = Space(("ded", "ind", "abd"))


def hill(point):
    return 0.6 - (point["ded:rest"] - 0.7) ** 2 - 0.2 * (point["scale"] - 1.5) ** 2


@pytest.fixture(scope="module")
def surface():
    """Return a surface over 40 noisy values of a hill."""
    rng, points = np.random.default_rng(0), fill(SPACE, 40, 1)
    values = [hill(p) + 0.02 * rng.standard_normal() for p in points]
    return Posterior(SPACE, points, values, [0.02] * len(points))


def test_the_surface_is_nearer_the_truth_than_the_scores(surface):
    """At new points the mean is right to within the noise, and most lie within two errors."""
    fresh = fill(SPACE, 64, 9)
    mean, spread = surface(fresh)
    gap = mean - np.array([hill(p) for p in fresh])
    assert np.sqrt((gap**2).mean()) < 0.06
    assert (np.abs(gap) < 2.5 * spread + 0.02).mean() > 0.85


def test_the_peak_is_found(surface):
    """The highest point of the surface lies at the hill's top, though nobody tried it."""
    candidate, height = peak(SPACE, surface)
    point = SPACE.params(candidate)
    assert abs(point["ded:rest"] - 0.7) < 0.2
    assert height > 0.5


def test_the_chance_of_being_better_is_as_often_true(surface):
    """Of pairs of new points, the one called likelier is the higher about as often as called."""
    ones, others = fill(SPACE, 64, 9), fill(SPACE, 64, 10)
    said = np.array([surface.chance(a, b) for a, b in zip(ones, others, strict=True)])
    true = np.array([hill(a) > hill(b) for a, b in zip(ones, others, strict=True)])
    assert abs(np.where(said > 0.5, true, ~true).mean() - np.maximum(said, 1 - said).mean()) < 0.1
    assert surface.chance(ones[0], others[0]) == pytest.approx(
        1 - surface.chance(others[0], ones[0])
    )


def test_few_trials_give_no_surface():
    """Below eight trials nothing is fitted."""
    assert fit(SPACE, [], parse("mean", ["a"])) is None
