"""Files of strangers run no code, reach no other folder, and steer nothing; secrets stay out."""

import ast
import json
import os
import subprocess
import sys

import pytest
import yaml

from merger.cli.app import main
from tests.blocks import ROOT, run
from tests.hostile import BOMB
from tests.test_layout import PACKAGES

SOURCES = [f for package in PACKAGES for f in sorted((ROOT / package).rglob("*.py"))]
RUNNERS = {"eval", "exec", "__import__"}
READERS = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
UNSAFE = {("torch", "load"), ("yaml", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load")}
UNSAFE |= {("os", "system"), ("os", "popen")}


def faults(text):
    """Yield what a source does that no file of ours may do."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {a.name.split(".")[0] for a in node.names}
            names |= {(getattr(node, "module", None) or "").split(".")[0]}
            yield from sorted(names & READERS)
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in RUNNERS:
            yield called.id
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            yield from {(called.value.id, called.attr)} & UNSAFE
        for word in node.keywords:
            value = isinstance(word.value, ast.Constant) and word.value.value
            if word.arg in ("shell", "trust_remote_code", "allow_pickle") and value:
                yield word.arg


def test_no_source_reads_a_pickle_or_runs_a_text():
    """No pickle, no eval, no unsafe YAML, no shell, no code of a model."""
    found = {str(f.relative_to(ROOT)): list(faults(f.read_text())) for f in SOURCES}
    assert {name: f for name, f in found.items() if f} == {}


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from dill import loads", "torch.load(f)", "yaml.load(t)", "eval(t)",
     "subprocess.run(c, shell=True)", "M.from_pretrained(p, trust_remote_code=True)"],
)  # fmt: skip
def test_the_rule_can_fail(text):
    """Each of what is forbidden is seen."""
    assert list(faults(text))


GUARD = """
import sys
def hook(event, args):
    if event == "pickle.find_class" or event == "os.system":
        raise SystemExit(f"{event} {args}")
sys.addaudithook(hook)
from merger.cli.app import main
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    ["merge --method ties --base base --expert ded=1 --expert ind=1 out",
     "eval ded --tasks ind --levels 1 --n 2 --max-new-tokens 4"],
)  # fmt: skip
def test_no_pickle_is_read_at_work(words, tmp_path):
    """With the interpreter watching for classes looked up by a pickle, commands end as usual."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", GUARD, *words.split()],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def ends_in_two_lines(words, capsys):
    """Run a command that must be refused, and return what it said."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert "error: " in told
    return told


def evil_model(folder):
    """Write a model whose config asks for code of its own, which would leave a file behind."""
    from shutil import copytree

    from merger import resolve

    copytree(resolve("tiny:base").path, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoModelForCausalLM": "evil.Evil"}}
    config["auto_map"]["AutoConfig"] = "evil.Evil"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(folder / 'OWNED')!r}, 'w')\nclass Evil: pass\n")
    return folder


def test_code_of_a_model_is_never_run(tmp_path, monkeypatch, capsys):
    """A config with auto_map is refused by eval, and its file is not imported."""
    monkeypatch.chdir(tmp_path)
    model = evil_model(tmp_path / "evil")
    ends_in_two_lines(["eval", str(model), "--tasks", "ded", "--n", "1"], capsys)
    assert not (model / "OWNED").exists()


def test_code_of_a_model_is_not_handed_on(tmp_path, monkeypatch):
    """A merge copies no Python file of its base."""
    monkeypatch.chdir(tmp_path)
    evil_model(tmp_path / "evil")
    run(["merge", "--method", "linear", "--expert", "evil=1", "out"])
    assert not list((tmp_path / "out").glob("*.py"))


@pytest.mark.parametrize("text", [BOMB, "a: !!python/object/apply:os.system ['touch OWNED']"])
def test_aliases_are_plain_names(text, tmp_path, monkeypatch, capsys):
    """./experts.yaml with a bomb or a tag of Python is refused at once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experts.yaml").write_text(text)
    ends_in_two_lines(["experts"], capsys)
    assert not (tmp_path / "OWNED").exists()


@pytest.mark.parametrize("words", ["merge m.yaml link", "merge m.yaml link --force",
                                   "extract-lora tiny:base tiny:ded link --force"])  # fmt: skip
def test_a_link_is_no_place_to_write(words, tmp_path, monkeypatch, capsys):
    """An OUT that is a symbolic link is refused; what it points to is untouched."""
    monkeypatch.chdir(tmp_path)
    models = [{"model": "tiny:ded", "parameters": {"weight": 1}}]
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"merge_method": "linear", "models": models}))
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "model.safetensors").write_text("mine")
    (tmp_path / "link").symlink_to("precious")
    ends_in_two_lines(words.split(), capsys)
    assert (tmp_path / "precious" / "model.safetensors").read_text() == "mine"


def test_passwords_stay_out_of_run_folders(tmp_path, monkeypatch, capsys):
    """A URL with a password is refused where a run folder would keep it."""
    monkeypatch.chdir(tmp_path)
    url = "postgresql+psycopg://me:s3cret@127.0.0.1:1/x"
    for option in ("--storage", "--store"):
        words = ["search", "--experts", "ded,ind", "--out", "run", option, url]
        assert "s3cret" not in ends_in_two_lines(words, capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_environment_stays_out_of_run_folders(tmp_path, monkeypatch):
    """No file of a search, a recipe or a merge holds a token of the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    search = "search --experts ded,ind --tasks ind --levels 1 --trials 3 --items 2+2 --seed 1"
    run([*search.split(), "--max-new-tokens", "4", "--out", "run", "--save", "best"])
    (tmp_path / "r.yaml").write_text(
        "stages: {scores: {eval: {models: [base], tasks: [ded], n: 2, max_new_tokens: 4}}}"
    )
    run(["run", "r.yaml", "--out", "stages"])
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert len(files) > 10
    assert not [f for f in files if b"s3cret" in f.read_bytes()]


def test_terminals_are_not_steered(tmp_path, monkeypatch, capsys):
    """Escape sequences in the names of a stranger's tensors do not reach the terminal."""
    from tests.checkpoints import config, entry, raw_file

    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(config()))
    header = {"\x1b[2J\x1b]0;owned\x07": entry("F32", [2], 0, 8)}
    (tmp_path / "m" / "model.safetensors").write_bytes(raw_file(header, bytes(8)))
    run(["inspect", "m", "--tensors"])
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
