"""The curriculum: when a level is left, and where the next prompt comes from."""

from recipes.rl.curriculum import Curriculum
from recipes.rl.settings import STAGE_A, make_settings


def make(**knobs):
    settings = {"task": "ded", "steps": 30, "promote_at": 0.8, "window": 3, **knobs}
    return Curriculum((1, 2, 3), make_settings(STAGE_A, settings))


def test_a_level_is_left_when_it_is_learned():
    """Three steps in a row that average the bound end the level; two do not."""
    school = make()
    assert [school.report(share) for share in (1.0, 1.0)] == [False, False]
    assert school.report(0.5)
    assert school.level == 2


def test_a_level_that_is_never_learned_ends_with_its_part_of_the_steps():
    """With 30 steps and nothing learned, levels change after 10 and 20 and the last one stays."""
    school = make()
    assert [n for n in range(1, 31) if school.report(0.0)] == [10, 20]
    assert school.level == 3


def test_what_an_easy_level_saves_goes_to_the_harder_ones():
    """Level 1 learned in 4 steps leaves 13 for each of the other two."""
    school = make()
    changes = [n for n in range(1, 31) if school.report(1.0 if n < 5 and n > 1 else 0.0)]
    assert changes == [4, 17]


def test_a_tenth_of_the_prompts_replay_levels_already_left():
    """At the second level about a tenth of the slots are of the first, always the same ones."""
    school = make(replay=0.1)
    for share in (1.0, 1.0, 1.0):
        school.report(share)
    drawn = [school.level_of(slot) for slot in range(2000)]
    assert set(drawn) == {1, 2}
    assert 150 < drawn.count(1) < 250
    assert drawn == [school.level_of(slot) for slot in range(2000)]


def test_the_first_level_replays_nothing():
    """Before a promotion every prompt is of the first level."""
    assert {make().level_of(slot) for slot in range(100)} == {1}


def test_a_step_without_the_level_is_no_evidence():
    """None spends a step and says nothing about what has been learned."""
    school = make()
    for share in (1.0, None, 1.0):
        assert not school.report(share)
    assert school.report(1.0)
