"""The default protocol on simulated worlds: truly better than luck, cheaper, and honest."""

import numpy as np
import pytest

from tests.simulated import argmax, luck, searched

BUDGET, WORLDS = 8000, 30


@pytest.mark.slow
def test_the_default_beats_random_search_and_argmax():
    """Half the true regret or less for the same answers, and a reported score without optimism.

    What the confirm items of a world give to a recipe chosen on nothing is taken off its scores.
    """
    ours, theirs, optimism, flattered, spared = [], [], [], [], []
    for seed in range(WORLDS):
        world, chosen, reported, saved = searched(seed, BUDGET)
        _, lucky, claimed = argmax(seed, BUDGET)
        best = world.best()
        spared.append(saved)
        ours.append(best - world.truth(chosen))
        theirs.append(best - world.truth(lucky))
        optimism.append(reported - world.truth(chosen) - luck(world))
        flattered.append(claimed - world.truth(lucky))
    assert 2 * np.mean(ours) <= np.mean(theirs)
    assert abs(np.mean(optimism)) <= np.std(optimism) / np.sqrt(WORLDS)
    assert np.mean(flattered) > 0.02
    assert np.mean(spared) > 0.35
