"""The runner: checks before work, skips what is finished, continues what was killed."""

from pathlib import Path

import pytest

from merger.errors import MergerError, RecipeError, SpecError, UnknownNameError
from merger.screen import Screen
from recipes.job import KINDS, Job
from recipes.recipe import Recipe, Stage, bundled, load_recipe
from recipes.runner import Runner
from recipes.series import Series
from tests import toys


class Remembering(Screen):
    """Remembers what was said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def made(monkeypatch, tmp_path):
    """A kind of stage that copies a model and counts how often it was run."""
    ran = []

    def copy(*, model: str, seed: int, steps: int = 1, lr: float = 0.1) -> Job:
        def run(here):
            ran.append(here.name)
            toys.save_model(here.out, seed=seed + steps)
            return {"steps": steps}

        return Job((model,), {"steps": steps, "lr": lr, "seed": seed}, run, model=".")

    monkeypatch.setitem(KINDS, "copy", copy)
    toys.save_model(tmp_path / "start")
    return ran


def recipe(tmp_path, **stages) -> Recipe:
    listed = tuple(
        Stage(n, *next(iter(body.items()))) if isinstance(body, dict) else body
        for n, body in stages.items()
    )
    return Recipe("test", listed, experts={"start": str(tmp_path / "start")})


def runner(tmp_path, **stages) -> Runner:
    return Runner(recipe(tmp_path, **stages), tmp_path / "run", Remembering())


ONE = {"copy": {"model": "start"}}
TWO = {"copy": {"model": "one", "steps": 2}}


def test_stages_run_in_order_and_leave_facts(tmp_path, made):
    """Each stage makes its folder; a later one starts from an earlier one's model."""
    facts = runner(tmp_path, one=ONE, two=TWO).go()
    assert made == ["one", "two"]
    assert facts == {"one": {"steps": 1}, "two": {"steps": 2}}
    assert (tmp_path / "run" / "two" / "model.safetensors").exists()
    assert (tmp_path / "run" / "recipe.yaml").exists()


def test_a_finished_run_does_nothing_again(tmp_path, made):
    """The same recipe in the same folder finds all its stages finished."""
    runner(tmp_path, one=ONE, two=TWO).go()
    again = runner(tmp_path, one=ONE, two=TWO)
    assert [line.state for line in again.plan()] == ["finished", "finished"]
    again.go()
    assert made == ["one", "two"]
    assert again.screen.lines == ["one: finished before", "two: finished before"]


def test_a_changed_option_runs_the_stage_and_what_depends_on_it(tmp_path, made):
    """Another `steps` of the first stage changes its weights, so the second runs too."""
    runner(tmp_path, one=ONE, two=TWO).go()
    changed = {"copy": {"model": "start", "steps": 5}}
    runner(tmp_path, one=changed, two=TWO).go()
    assert made == ["one", "two", "one", "two"]
    assert (tmp_path / "run" / "one.old1" / "model.safetensors").exists()


def test_a_changed_input_runs_the_stage_again(tmp_path, made):
    """The key holds the content of the models, not their names."""
    runner(tmp_path, one=ONE).go()
    toys.save_model(tmp_path / "start", seed=7)
    runner(tmp_path, one=ONE).go()
    assert made == ["one", "one"]


def test_another_default_is_another_stage(tmp_path, made):
    """The key holds options with their defaults: writing a default out changes nothing."""
    runner(tmp_path, one=ONE).go()
    runner(tmp_path, one={"copy": {"model": "start", "steps": 1}}).go()
    assert made == ["one"]


def test_only_runs_one_stage_and_needs_what_it_starts_from(tmp_path, made):
    """--only two is refused before one is finished, and runs alone afterwards."""
    with pytest.raises(RecipeError, match="'one' is not finished"):
        runner(tmp_path, one=ONE, two=TWO).go(only="two")
    runner(tmp_path, one=ONE, two=TWO).go(only="one")
    runner(tmp_path, one=ONE, two=TWO).go(only="two")
    assert made == ["one", "two"]
    with pytest.raises(UnknownNameError, match="three"):
        runner(tmp_path, one=ONE).go(only="three")


def test_what_a_killed_stage_left_is_kept_for_the_same_stage(tmp_path, made, monkeypatch):
    """A stage that died finds its partial folder again; one of other settings does not."""

    def dies(*, model: str, seed: int, steps: int = 1) -> Job:
        def run(here):
            here.partial.mkdir(exist_ok=True)
            (here.partial / f"{len(list(here.partial.iterdir()))}").touch()
            raise KeyboardInterrupt

        return Job((model,), {"steps": steps}, run, model=".")

    monkeypatch.setitem(KINDS, "dies", dies)
    for steps, want in ((1, 1), (1, 2), (2, 1)):
        with pytest.raises(KeyboardInterrupt):
            runner(tmp_path, one={"dies": {"model": "start", "steps": steps}}).go()
        assert len(list((tmp_path / "run" / "one.partial").iterdir())) == want


@pytest.mark.parametrize(
    ("stages", "law"),
    [
        ({"one": {"copy": {"model": "start", "stepps": 1}}}, "no option of copy.*'stepps'"),
        ({"one": {"copy": {}}}, "needs model"),
        ({"one": {"copy": {"model": "start", "steps": "many"}}}, "steps is 'many'"),
        ({"one": {"copyy": {}}}, "no kind of stage named 'copyy'"),
        ({"one": {"copy": {"model": "nowhere"}}}, "no model named 'nowhere'"),
        ({"one": {"copy": {"model": "two"}}, "two": ONE}, "does not come before"),
        ({"one": {"report": {}}, "two": {"copy": {"model": "one"}}}, "makes no model"),
        ({"one": {"align": {"model": "start", "task": "dedd"}}}, "dedd"),
        ({"one": {"align": {"model": "start", "task": "ded", "lr": 0}}}, "lr is 0"),
        ({"one": {"align": {"model": "start", "task": "ded", "levels": [99]}}}, "no level 99"),
        ({"one": {"align": {"model": "start", "task": "ded", "reward": "binry"}}}, "binry"),
        ({"one": {"merge": {"merge_method": "linaer"}}}, "linaer"),
        ({"one": {"search": {"experts": ["start"], "tasks": ["ded"], "items": "9"}}}, "items"),
        ({"one": {"eval": {"models": ["start"], "tasks": ["dedd"]}}}, "dedd"),
        ({"one": {"ablate": {"of": "two"}}}, "uses 'two'"),
        ({"one": {"coldstart": {"widht": 9}}}, "widht"),
    ],
)
def test_everything_is_checked_before_anything_runs(tmp_path, made, stages, law):
    """Each mistake is found with nothing made and nothing run, not even the run folder."""
    with pytest.raises(MergerError, match=law):
        runner(tmp_path, zero=ONE, **stages).go()
    assert made == []
    assert not (tmp_path / "run").exists()


def test_a_merge_stage_reads_stage_names_as_models(tmp_path, made):
    """Names in the config are the stages', even where a folder of that name stands here."""
    config = {"merge_method": "linear", "models": [{"model": "one"}, {"model": "start"}]}
    config["models"] = [m | {"parameters": {"weight": 1.0}} for m in config["models"]]
    runner(tmp_path, one=ONE, merged={"merge": config}).go()
    assert (tmp_path / "run" / "merged" / "model.safetensors").exists()
    with pytest.raises(SpecError):
        runner(tmp_path, merged={"merge": {**config, "parameters": {"t": 1}}}).go()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if "tables" in n else ()) for n in bundled()]
)
def test_a_shipped_recipe_is_valid(name, tmp_path, monkeypatch):
    """Every bundled recipe passes all checks (Stage C's data, which is not ours, aside)."""
    if name == "tiny-tables":  # it asks tasks of the extra gym, whose import takes seconds
        pytest.importorskip("reasoning_gym")
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "data").mkdir()
    rows = pytest.importorskip("pyarrow").table({"question": ["1 + 1"], "answer": ["2"]})
    parquet.write_table(rows, tmp_path / "data" / "math.parquet")
    monkeypatch.chdir(tmp_path)
    loaded = load_recipe(name)
    assert (Series if loaded.seeds else Runner)(loaded, Path("run"), Remembering()).plan()
