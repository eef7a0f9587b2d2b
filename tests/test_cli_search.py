"""merger search and merger ablate as a user meets them, on a random tiny Llama family."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from evals.suite import parse_levels as levels_of
from merger.errors import UnknownNameError, UsageError
from search.ask import (
    Asked,
    confirm_items,
    items_of,
    options_of,
    seconds_of,
    short_names,
)
from search.candidate import BASE, Candidate
from search.export import merge_config, mergekit_config
from search.live import Models, default_levels
from search.scorers import deal, open_task
from tests.toy_models import toy_model, toy_tokenizer

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("10m", 600), ("1h30m", 5400)])
def test_durations(text, value):
    """Hours, minutes and seconds may stand together."""
    assert seconds_of(text) == value


def test_items_and_levels():
    """Two numbers are search and confirm, three have select between; levels are lists or ranges."""
    assert items_of("100+200") == (100, 100, 200)
    assert items_of("50+20+150") == (50, 20, 150)
    assert levels_of("1-3") == (1, 2, 3)
    assert confirm_items(2, 3) == 655  # 1,963 items at a discordance of 0.1
    assert levels_of("1,4") == (1, 4)


@pytest.mark.parametrize(
    ("read", "text"), [(seconds_of, "ten"), (seconds_of, ""), (items_of, "100"), (items_of, "0+9"),
                       (levels_of, "a-b")],
)  # fmt: skip
def test_texts_that_say_nothing(read, text):
    """What cannot be read is refused, with an example of what can."""
    with pytest.raises(UsageError):
        read(text)


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"experts": None}, UsageError), ({"experts": "a,a"}, UsageError),
     ({"sampler": "gpp"}, UnknownNameError), ({"racing": "fast"}, UnknownNameError),
     ({"tasks": "dud"}, UnknownNameError), ({"guard": "dud"}, UnknownNameError),
     ({"tasks": "ded,deduction"}, UsageError),
     ({"levels": "77"}, UsageError), ({"trials": 0}, UsageError), ({"stage2": -1}, UsageError),
     ({"sampler": "cmaes", "objective": "pareto"}, UsageError),
     ({"racing": "strict", "objective": "weighted:ded=2,ind=1"}, UsageError),
     ({"objective_cmd": "./e.sh {model}", "objective": "pareto"}, UsageError),
     ({"objective_cmd": "./e.sh {model}", "sampler": "gpp"}, UnknownNameError),
     ({"objective": "mode"}, UnknownNameError), ({"prefer": "both"}, UnknownNameError)],
)  # fmt: skip
def test_mistakes_are_found_before_any_work(changes, error):
    """Every wrong option is an error with a remedy, before a model is opened."""
    with pytest.raises(error) as found:
        options_of(Asked(**({"experts": "ded,ind,abd"} | changes)))
    assert found.value.remedy


def test_confirm_items_are_as_many_as_a_difference_needs():
    """--mde sizes the confirm items, those of a command too."""
    asked = {"experts": "ded,ind", "mde": 5.0}
    one = options_of(Asked(**asked, objective_cmd="./e.sh {model}"))
    three = options_of(Asked(**asked))
    assert 3 * three.n_confirm == pytest.approx(one.n_confirm, abs=3)


def test_confirm_items_are_fresh_unless_a_seed_is_given():
    """Two searches see different confirm items; the same --seed repeats a run."""
    fresh = [options_of(Asked(experts="ded,ind")).confirm_seed for _ in range(2)]
    assert fresh[0] != fresh[1]
    assert options_of(Asked(experts="ded,ind", seed=7)).confirm_seed == 7


def test_folders_are_called_by_their_last_part(tmp_path, monkeypatch):
    """A folder stands with its absolute path under a short name; equal last parts keep theirs."""
    for name in ("x/base", "x/ded", "y/ded"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert short_names(["x/base", "x/ded"]) == {n: str(tmp_path / "x" / n) for n in ("base", "ded")}
    assert list(short_names(["x/ded", "y/ded"])) == ["x/ded", "y/ded"]
    assert short_names(["base", "org/model"]) == {"base": "base", "org/model": "org/model"}


def test_configs_say_how_near_mergekit_comes():
    """An average is exact, a scaled sum equal to rounding, a cut one only near."""
    names = {"a": "A", "b": "B"}
    plain, scaled = Candidate.of({"a": 1, "b": 3}), Candidate.of({"a": 1, "b": 3}, scale=1.5)
    assert merge_config(plain, names, "BASE")["merge_method"] == "linear"
    assert mergekit_config(plain, names, "BASE")[1] == "exact"
    config, near = mergekit_config(scaled, names, "BASE")
    assert [m["parameters"]["weight"] for m in config["models"]] == [0.375, 1.125]
    assert near == "equal up to rounding"
    assert "not the same" in mergekit_config(Candidate.of({"a": 1}, density=0.5), names, "BASE")[1]
    assert merge_config(BASE, names, "BASE")["models"][0]["model"] == "BASE"


def merger(*words, cwd):
    """Run the command and return (exit status, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-m", "merger.cli", *map(str, words)],
        cwd=cwd, capture_output=True, text=True, check=False, env=_environment(),
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def _environment():
    import os

    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Return a folder with a random base and three experts a little way from it."""
    root = tmp_path_factory.mktemp("family")
    base = toy_model(context=2048)
    for i, name in enumerate(("base", "ded", "ind", "abd")):
        model = toy_model(context=2048)
        model.load_state_dict(base.state_dict())
        torch.manual_seed(i)
        with torch.no_grad():
            for weight in model.parameters() if i else ():
                weight.add_(torch.randn_like(weight) * 0.02)
        model.generation_config.max_new_tokens = 6
        model.save_pretrained(root / name)
        toy_tokenizer().save_pretrained(root / name)
    return root


@pytest.mark.slow
def test_a_search_from_start_to_model(family):
    """Search, resume, ablate and merge: the verdict stands, and the file is what was scored."""
    words = ["--experts", "ded,ind,abd", "--base", "base", "--levels", "1", "--items", "4+6"]
    code, out, err = merger("search", *words, "--trials", 9, "--out", "r", "--save", "m", "--json",
                            "--seed", 1, cwd=family)  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert found["verdict"] == "not distinguishable"
    assert set(found) >= {"run", "verdict", "winner", "confirm"}
    assert "MDE" in err
    assert "A/A: 0 of" in err
    assert "merger search" not in out
    code, again, err = merger("search", "--resume", "r", "--items", "9+9", "--json", cwd=family)
    assert json.loads(again) == found, err
    assert "not read again: --items" in err
    code, _, err = merger("merge", "r/winner.yaml", "again", cwd=family)
    assert code == 0, err
    assert mark(family / "again") == mark(family / "m") == found["winner"]["fingerprint"]
    assert "drawn after freezing" in (family / "m" / "README.md").read_text()
    sections = "leave_one_out,shapley,scale,geometry,resets,items,method"
    code, out, err = merger("ablate", "r", "--quick", "--sections", sections, cwd=family)
    assert code == 0, err
    assert "Shapley: who gave what" in out
    assert "Best trials" not in out  # not asked for
    assert max(map(len, out.splitlines())) <= 80
    code, _, err = merger("ablate", "r", "--plan", "--sections", sections, "--quick", cwd=family)
    assert "0 merges, 0 answers, 0 readings: about" in err


@pytest.mark.slow
def test_a_config_is_taken_apart_without_a_search(family):
    """A merge config gets a run of its own, asked for twice it costs nothing; a base is needed."""
    text = "merge_method: ties\nbase_model: base\nmodels:\n"
    text += "".join(f"  - {{model: {n}, parameters: {{weight: 1}}}}\n" for n in ("ded", "ind"))
    (family / "ties.yaml").write_text(text + "parameters: {density: 0.5}\n")
    words = ["ablate", "ties.yaml", "--out", "c", "--items", 4, "--levels", "1", "--quick",
             "--sections", "leave_one_out,shapley,simplex"]  # fmt: skip
    code, out, err = merger(*words, "--json", cwd=family)
    assert code == 0, err
    found = json.loads(out)["sections"]
    assert [r["name"] for r in found["shapley"]["tables"][0]["rows"]][:2] == ["ded", "ind"]
    assert found["simplex"]["missing"]
    code, _, err = merger(*words, "--plan", cwd=family)
    assert (code, "0 merges, 0 answers, 0 readings: about" in err) == (0, True), err
    (family / "bare.yaml").write_text(
        text.replace("base_model: base\n", "").replace("ties", "linear")
    )
    code, _, err = merger("ablate", "bare.yaml", "--out", "d", cwd=family)
    assert code == 2
    assert "--base" in err


def mark(folder):
    from merger.checkpoint import open_checkpoint

    return open_checkpoint(folder).fingerprint()


@pytest.mark.slow
def test_a_foreign_expert_is_refused(family):
    """An expert of another base is no expert of this one: exit 2 and the option that insists."""
    torch.manual_seed(9)
    stranger = toy_model(seed=9, context=2048)
    stranger.save_pretrained(family / "stranger")
    toy_tokenizer().save_pretrained(family / "stranger")
    code, _, err = merger("search", "--experts", "ded,stranger", "--base", "base", cwd=family)
    assert code == 2
    assert "--allow-lineage" in err


def questions(path, n):
    """Write a file of n questions."""
    lines = [json.dumps({"prompt": f"Say {i}.", "answer": str(i)}) for i in range(n)]
    path.write_text("\n".join(lines))
    return path


def test_a_file_is_dealt_out_once(tmp_path):
    """Items of a file stand in one pool each, whatever their order in the file."""
    task, items = open_task(str(questions(tmp_path / "q.jsonl", 20)), "exact")
    sizes = {"search": 5, "select": 5, "confirm": 8}
    pools = deal(items, sizes, task.name)
    prompts = {pool: {item.prompt for item in dealt} for pool, dealt in pools.items()}
    assert {pool: len(found) for pool, found in prompts.items()} == sizes
    assert len(set().union(*prompts.values())) == 18
    again = deal(items[::-1], sizes, task.name)
    assert {pool: {item.prompt for item in dealt} for pool, dealt in again.items()} == prompts
    with pytest.raises(UsageError, match="20 items"):
        deal(items, sizes | {"confirm": 11}, task.name)


def test_a_family_is_asked_at_its_levels():
    """Models of one bundled family are asked at the levels it was trained on; others at all."""
    from merger.experts import families

    of_family = options_of(Asked(experts="tiny:ded,tiny:ind", base="tiny:base"))
    trained = {"deduction": "ded", "induction": "ind", "abduction": "abd"}
    levels = families()["tiny"].levels
    assert default_levels(of_family) == {t: tuple(levels[a]) for t, a in trained.items()}
    assert default_levels(options_of(Asked(experts="org/a,tiny:ind", base="tiny:base"))) == {}


@pytest.mark.slow
def test_a_search_on_own_questions_with_two_workers(family):
    """A user's file drives a search whose trials two processes share."""
    file = questions(family / "q.jsonl", 30)
    words = ["--experts", "ded,ind", "--base", "base", "--tasks", file, "--objective", "min"]
    code, out, err = merger("search", *words, "--items", "8+8+8", "--trials", 6, "--workers", 2,
                            "--out", "own", "--json", cwd=family)  # fmt: skip
    assert code == 0, err
    assert [c["n"] for c in json.loads(out)["confirm"]] == [8] * len(json.loads(out)["confirm"])
    assert "joins" in (family / "own" / "worker-1.log").read_text()


def test_a_config_says_how_vocabularies_are_brought_to_one():
    """With --vocab every merge of a run names it; the base alone has nothing to bring."""
    models = Models({"ded": "a/ded"}, "a/base", {}, (), "union")
    told = models.config(Candidate((("ded", 1.0),)), None)
    assert (told["tokenizer_source"], told["base_model"]) == ("union", "a/base")
    assert "tokenizer_source" not in models.config(Candidate(()), None)
