"""merger run, align and domain as a user meets them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from merger.cli import main
from tests import toys

ROOT = Path(__file__).parents[1]
STEP = ["--set", "temperature=1.0", "--max-new-tokens", "6", "--prompts", "4", "--group", "2"]


def command(*words, cwd):
    """Return what starts the command in a folder, as keyword arguments of subprocess."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "merger.cli", *map(str, words)]
    return {"args": line, "cwd": cwd, "env": env, "text": True}


def merger(*words, cwd):
    """Run the command and return (exit status, stdout, stderr)."""
    done = subprocess.run(**command(*words, cwd=cwd), capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Run the command in this process, in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as done:
            main([*map(str, words)])
        return (done.value.code, *capsys.readouterr())

    return run


def test_a_dry_run_shows_stages_and_needs_and_makes_nothing(tmp_path, typed):
    """All stages of the tiny recipe are to do, their bytes are told, and no folder appears."""
    status, out, _ = typed("run", "tiny", "--dry-run", "--json")
    told = json.loads(out)
    stages = told["stages"]
    assert status == 0
    assert [s["kind"] for s in stages[:4]] == ["coldstart", "align", "align", "align"]
    assert {s["state"] for s in stages} == {"to do"}
    scratch = max(s["needs"]["scratch"] for s in stages)
    kept = sum(s["needs"]["disk"] for s in stages)
    assert 0 < scratch < told["disk"] == kept + scratch < told["free"]["disk"]
    assert told["downloads"] == {}
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_names_what_must_be_fetched(typed):
    """Of Hub models that are not here nothing is fetched; an unknown size is said to be unknown."""
    status, _, err = typed("run", "merge-only", "--dry-run")
    assert status == 0
    assert "to download: ded, unknown" in err


def test_a_missing_file_of_items_is_a_warning_dry_and_an_error_otherwise(tmp_path, typed):
    """All else of the 7B recipe can be checked without its data; a run without them cannot be."""
    status, _, err = typed("run", "meta-ability-7b", "--dry-run", "--out", "run")
    assert (status == 0) == ("are to be written" not in err)  # a small disk is told too
    assert "warning: stage 'math' reads data/math.parquet, and no such file is there" in err
    status, _, err = typed("run", "meta-ability-7b", "--out", "run")
    assert status == 2
    assert "'math' reads data/math.parquet" in err.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_the_run(typed, monkeypatch):
    """What is to be written is compared with what is free."""
    monkeypatch.setattr("recipes.needs.free_disk", lambda place: 1000)
    status, _, err = typed("run", "tiny", "--dry-run")
    assert status == 2
    assert "are to be written below runs/tiny, and 1 kB are free" in err


@pytest.mark.parametrize(
    ("words", "law", "remedy"),
    [
        (["run", "tinny"], "no recipe named 'tinny'", "Did you mean 'tiny'?"),
        (["run", "tiny", "--set", "ded.stesp=1"], "'stesp'", "Did you mean 'steps'?"),
        (["align", "x", "--task", "dedd", "--out", "y"], "'dedd'", "Did you mean 'ded'?"),
        (["align", "x", "--task", "ded+abdd", "--out", "y"], "'abdd'", "Did you mean 'abd'?"),
        (["align", "x", "--task", "gym:gdc", "--out", "y"], "'gdc'", "'gcd'"),
        (["domain", "x", "--task", "ded", "--out", "y", "--set", "lr=0"], "lr is 0", "docs/rl.md"),
    ],
)
def test_a_mistake_is_two_lines_and_exit_2(typed, words, law, remedy):
    """The law with the value, then the remedy; no traceback."""
    status, out, err = typed(*words)
    first, second, *rest = err.splitlines()
    assert (status, out, rest) == (2, "", [])
    assert law in first
    assert remedy in second


def test_the_presets_can_be_read_before_anything_is_trained(typed):
    """--dry-run prints the settings with the flags laid over the preset of the command's name."""
    words = ["--task", "ded", "--out", "y", "--dry-run", "--json"]
    _, out, _ = typed("align", "x", *words, "--steps", 7, "--levels", "1-2", "--prompts", 9)
    settings = json.loads(out)
    assert (settings["task"], settings["steps"], settings["levels"]) == ("deduction", 7, [1, 2])
    assert (settings["algorithm"], settings["lr"]) == ("reinforce++", 5e-7)
    assert settings["prompts_per_step"] == 9
    _, out, _ = typed("domain", "x", *words)
    assert json.loads(out)["prompts_per_step"] == 1024
    _, out, _ = typed("domain", "x", *words[:-1])
    assert ["levels", "all"] in map(str.split, out.splitlines())


@pytest.mark.slow
def test_an_interrupted_alignment_continues(tmp_path):
    """Ctrl-C exits with 130 and prints the line that, typed, goes on where it stopped."""
    toys.save_model(tmp_path / "base", context=1024)
    words = ["align", "base", "--task", "arithmetic", "--levels", "1", "--steps", "40", *STEP]
    words += ["--set", "save_every=2", "--out", "done"]
    with subprocess.Popen(**command(*words, cwd=tmp_path), stderr=subprocess.PIPE) as running:
        curve = tmp_path / "done.partial" / "curve.jsonl"
        while not (curve.exists() and curve.read_text().count("\n") >= 5):
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
    assert running.returncode == 130
    assert f"Go on with: merger {' '.join(words)}" in said
    status, _, said = merger(*words, cwd=tmp_path)
    assert status == 0
    assert "continuing after step" in said
    steps = [
        json.loads(row)["step"] for row in (tmp_path / "done/curve.jsonl").read_text().splitlines()
    ]
    assert steps == list(range(1, 41))


@pytest.mark.slow
def test_the_whole_recipe_at_smoke_scale(tmp_path):
    """Every stage of the paper runs, is reported, and is not run again."""
    words = ["run", "tiny", "--set", "scale=smoke", "--json"]
    status, out, said = merger(*words, cwd=tmp_path)
    assert status == 0, said
    stages = json.loads(out)["stages"]
    assert {"base", "ded", "merged", "effects", "arith", "control", "report"} <= stages.keys()
    run = tmp_path / "runs" / "tiny"
    for model in ("base", "ded", "paper", "merged/model", "arith", "control"):
        assert (run / model / "model.safetensors").exists()
    story = (run / "report" / "report.md").read_text()
    assert all(word in story for word in ("## abilities: scores", "| control |", "merged: search"))
    status, _, said = merger("run", run, cwd=tmp_path)
    assert status == 0
    assert said.count("finished before") == len(stages)
