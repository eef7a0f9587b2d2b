"""The pages of docs/ that are followed by hand, and the example configs: all of it runs."""

import json
import re
from shutil import copytree

import pytest
import yaml

from merger.cli.app import main
from merger.spec import load_spec
from tests.blocks import ROOT, blocks, commands, run, smaller, write_file

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
PAGES = sorted(p for p in (ROOT / "docs").glob("*.md") if p.name != "log.md")  # a log is history
SIZES = {"--trials": "5", "--items": "4+4", "--n": "4"}


def follow(page):
    """Run every block of a page here; return how many commands and scripts there were."""
    ran = 0
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, page, "exec"), {})
            ran += 1
        elif not write_file(text):
            for words in commands(text):
                run(
                    [
                        *smaller(words, SIZES),
                        *(["--quick", "--max-evals", "8"] if words[0] == "ablate" else []),
                    ]
                )
                ran += 1
    return ran


@pytest.mark.parametrize("file", EXAMPLES, ids=[f.stem for f in EXAMPLES])
def test_examples_merge(file, tmp_path, monkeypatch):
    """Each example makes a whole model of the embedded family, as deep as its slices say."""
    monkeypatch.chdir(tmp_path)
    run(["merge", str(file), "out"])
    spec = yaml.safe_load(file.read_text())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    ranges = [slice["sources"][0]["layer_range"] for slice in spec.get("slices", [])]
    assert config["num_hidden_layers"] == (sum(end - begin for begin, end in ranges) or 5)
    assert load_spec(str(tmp_path / "out" / "merger.yaml")).method == spec["merge_method"]


def test_a_gradient_runs_over_depth(tmp_path, monkeypatch):
    """The slerp example takes attention from the first model below and from the second above."""
    from safetensors.torch import load_file

    from merger import resolve

    monkeypatch.chdir(tmp_path)
    run(["merge", str(ROOT / "examples" / "gradient-slerp.yaml"), "out", "--dtype", "fp32"])
    made = load_file(tmp_path / "out" / "model.safetensors")
    for model, layer in (("ded", 0), ("ind", 4)):
        name = f"model.layers.{layer}.self_attn.q_proj.weight"
        found = load_file(resolve(f"tiny:{model}").path / "model.safetensors")[name]
        assert made[name].allclose(found, atol=1e-6)


def test_from_mergekit_runs(tmp_path, monkeypatch):
    """Every command of the page on moving from mergekit ends with 0."""
    copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    assert follow("docs/from-mergekit.md") > 5


@pytest.mark.slow
def test_tutorial_runs(tmp_path, monkeypatch, capsys):
    """A reader who types the tutorial gets to its end, the mistake on purpose included."""
    monkeypatch.chdir(tmp_path)
    assert follow("docs/tutorial.md") > 10
    assert "Did you mean 'ties'?" in capsys.readouterr().out
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("page", PAGES, ids=[p.stem for p in PAGES])
def test_what_a_page_names_is_there(page):
    """Tests that hold a promise, files of ours, pages linked: each exists under its name."""
    text = page.read_text(encoding="utf-8")
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("*.py"))
    missing = [t for t in re.findall(r"`(test_\w+)`", text) if f"def {t}(" not in tests]
    files = re.findall(r"\b(?:merger|search|evals|recipes|tests|benchmarks)/[\w/]+\.\w+", text)
    missing += [file for file in files if not (ROOT / file).exists()]
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    missing += [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_a_block_that_fails_is_seen(tmp_path, monkeypatch):
    """The runner of pages can fail."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["merge", "no.yaml", "out"])
    with pytest.raises(AssertionError):
        run(["merge", "no.yaml", "out"])
