"""Recipes: what YAML they are, what settings change, and how a mistake is answered."""

from pathlib import Path

import pytest

from merger.errors import RecipeError, SpecError, UnknownNameError, UsageError
from recipes.recipe import bundled, load_recipe

TEXT = """
description: a test
seed: 3
stages:
  ded: {align: {model: base, task: deduction, steps: 120}}
  ind: {align: {model: base, task: induction, steps: 120}}
  scores: {eval: {models: [ded, ind], tasks: [ded]}}
scales:
  smoke: {align.steps: 2, scores.n: 5}
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "two.yaml").write_text(TEXT)
    return str(tmp_path / "two.yaml")


def options(recipe, name):
    return next(dict(s.options) for s in recipe.stages if s.name == name)


def test_a_recipe_is_its_stages_in_order(path):
    """Name, seed and stages are read as written."""
    recipe = load_recipe(path)
    assert (recipe.name, recipe.seed) == ("two", 3)
    assert [(s.name, s.kind) for s in recipe.stages] == [
        ("ded", "align"),
        ("ind", "align"),
        ("scores", "eval"),
    ]


def test_a_setting_of_a_stage_changes_that_stage(path):
    """ded.steps speaks of one stage; its value is read as YAML."""
    recipe = load_recipe(path, ["ded.steps=7"])
    assert (options(recipe, "ded")["steps"], options(recipe, "ind")["steps"]) == (7, 120)


def test_a_setting_of_a_kind_changes_all_its_stages(path):
    """align.steps speaks of both alignments; a later setting wins over it."""
    recipe = load_recipe(path, ["align.steps=7", "ind.steps=9"])
    assert (options(recipe, "ded")["steps"], options(recipe, "ind")["steps"]) == (7, 9)


def test_a_scale_is_a_bundle_of_settings_that_others_win_over(path):
    """scale=smoke applies its bundle first, wherever it stands among the settings."""
    recipe = load_recipe(path, ["ded.steps=4", "scale=smoke"])
    assert options(recipe, "ded")["steps"] == 4
    assert options(recipe, "ind")["steps"] == 2
    assert options(recipe, "scores")["n"] == 5


def test_a_setting_may_go_deep(path):
    """A dotted path reaches into nested options, making what is not there."""
    recipe = load_recipe(path, ["ded.a.b=[1, 2]"])
    assert options(recipe, "ded")["a"] == {"b": [1, 2]}


def test_a_recipe_survives_its_own_yaml(path, tmp_path):
    """What a run keeps as recipe.yaml loads as the same recipe, settings applied."""
    recipe = load_recipe(path, ["scale=smoke", "seed=9"])
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    assert load_recipe(str(folder)) == recipe


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("stages: {}", "no mapping of names"),
        ("seed: 1", "has no stages"),
        ("seed: x\nstages: {a: {eval: {}}}", "not a whole number"),
        ("stages: {a: {eval: {}, merge: {}}}", "not one kind"),
        ("stages: {a/b: {eval: {}}}", "is not made of"),
        ("stages: {a: {eval: [1]}}", "options are no mapping"),
        ("stages: [", "r.yaml, line 1: "),
    ],
)
def test_a_broken_recipe_is_told_what_is_wrong(tmp_path, text, law):
    """Each way to break the schema has a sentence of its own."""
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises((RecipeError, SpecError), match=law):
        load_recipe(str(tmp_path / "r.yaml"))


@pytest.mark.parametrize(
    ("settings", "near"),
    [(["alig.steps=1"], "align"), (["scale=smok"], "smoke"), (["sed=1"], "seed")],
)
def test_a_misspelt_setting_names_the_one_meant(path, settings, near):
    """Unknown stages, kinds and scales are answered with the nearest known name."""
    with pytest.raises(UnknownNameError) as caught:
        load_recipe(path, settings)
    assert f"Did you mean {near!r}" in caught.value.remedy


def test_an_unknown_key_names_the_one_meant(tmp_path):
    """Top-level keys are strict."""
    (tmp_path / "r.yaml").write_text("stage: {}\nstages: {a: {eval: {}}}")
    with pytest.raises(UnknownNameError, match="'stage'"):
        load_recipe(str(tmp_path / "r.yaml"))


def test_a_setting_needs_a_value(path):
    """KEY without = is refused, and so is a stage without an option."""
    with pytest.raises(UsageError, match="--set is 'seed'"):
        load_recipe(path, ["seed"])
    with pytest.raises(RecipeError, match="no setting"):
        load_recipe(path, ["ded=1"])


def test_bundled_recipes_go_by_name():
    """The shipped recipes are found without a path; a typo is answered."""
    names = {"tiny", "tiny-tables", "merge-only", "search", "meta-ability-7b", "meta-ability-32b"}
    assert names <= bundled().keys()
    with pytest.raises(UnknownNameError, match="tiyn"):
        load_recipe("tiyn")
