"""The default protocol on simulated worlds: truly better than luck, cheaper, and honest."""

import numpy as np
import pytest

from tests.simulated import argmax, searched

BUDGET, WORLDS = 8000, 30


@pytest.mark.slow
def test_the_default_beats_random_search_and_argmax():
    """Half the true regret or less for the same answers, and a reported score without optimism."""
    ours, theirs, optimism, flattered, spared = [], [], [], [], []
    for seed in range(WORLDS):
        world, chosen, reported, saved = searched(seed, BUDGET)
        _, lucky, claimed = argmax(seed, BUDGET)
        best = world.best()
        spared.append(saved)
        ours.append(best - world.truth(chosen))
        theirs.append(best - world.truth(lucky))
        optimism.append(reported - world.truth(chosen))
        flattered.append(claimed - world.truth(lucky))
    assert 2 * np.mean(ours) <= np.mean(theirs)
    error = np.std(optimism) / np.sqrt(WORLDS)
    assert -3 * error <= np.mean(optimism) <= error
    assert np.mean(flattered) > 0.02
    assert np.mean(spared) > 0.3
