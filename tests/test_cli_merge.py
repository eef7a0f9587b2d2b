"""merger merge, explain, operators as typed: what is written, what is said, how it fails."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from merger.api.merge import size
from merger.cli import app
from merger.errors import MergerError, UsageError
from tests.checkpoints import llama_tensors, write_model


@pytest.fixture
def merger(tmp_path, monkeypatch):
    """Write base, ded and ind, stand beside them, and return the command."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("base", "ded", "ind")):
        write_model(tmp_path / name, llama_tensors(i))

    def run(*words):
        return CliRunner().invoke(app, [str(w) for w in words])

    return run


FLAGS = ("--method", "ties", "--base", "base", "--expert", "ded=1.0", "--expert", "ind=0.2")


def test_config_and_flags_are_one_merge(merger, tmp_path):
    """The same merge from YAML and from flags writes the same weights."""
    models = [
        {"model": n, "parameters": {"weight": w, "density": 0.5}}
        for n, w in (("ded", 1.0), ("ind", 0.2))
    ]
    document = {"merge_method": "ties", "base_model": "base", "models": models}
    (tmp_path / "m.yml").write_text(yaml.safe_dump(document))
    assert merger("merge", "m.yml", "one").exit_code == 0
    assert merger("merge", *FLAGS, "--set", "density=0.5", "two").exit_code == 0
    one, two = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("one", "two"))
    assert one == two
    assert (tmp_path / "one" / "README.md").exists()
    assert (tmp_path / "one" / "merger.yaml").exists()


def test_settings_may_speak_of_one_expert(merger):
    """--set ded.density holds for ded alone."""
    told = merger("explain", *FLAGS, "--set", "ded.density=0.3", "--json")
    assert json.loads(told.stdout)["steps"][0]["knobs"]["density"] == [0.3, 1.0]


def test_explain_shows_every_knob_in_which_tensors_differ(merger, tmp_path):
    """A knob of the whole merge with a filter is a column; one that is the same is in the title."""
    rules = [{"filter": "mlp", "value": 0.25}, {"value": 0.5}]
    document = {"merge_method": "slerp", "base_model": "base", "models": [{"model": "ded"}]}
    (tmp_path / "m.yml").write_text(yaml.safe_dump(document | {"parameters": {"t": rules}}))
    told = merger("explain", "m.yml").stdout.splitlines()
    assert told[0] == "slerp"
    rows = {line.split()[0]: line.split() for line in told if line.strip()}
    assert rows["tensor"][1] == "t"
    assert rows["model.layers.0.mlp.up_proj.weight"][1] == "0.25"
    assert rows["model.layers.0.self_attn.q_proj.weight"][1] == "0.5"
    (tmp_path / "m.yml").write_text(yaml.safe_dump(document | {"parameters": {"t": 0.5}}))
    assert merger("explain", "m.yml").stdout.splitlines()[0] == "slerp, t 0.5"


def test_dtype_is_written_and_stated(merger, tmp_path):
    """--dtype bf16 rounds the weights and restates config.json."""
    assert merger("merge", *FLAGS, "--dtype", "bf16", "out").exit_code == 0
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert {t.dtype for t in written.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_dry_run_writes_nothing(merger, tmp_path):
    """--dry-run prints the plan and leaves the disk alone."""
    before = sorted(tmp_path.rglob("*"))
    told = merger("merge", *FLAGS, "out", "--dry-run")
    assert told.exit_code == 0
    assert "lm_head.weight" in told.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_discard_keeps_nothing(merger, tmp_path):
    """--discard merges every tensor and leaves the disk alone; a bad number is still found."""
    before = sorted(tmp_path.rglob("*"))
    told = merger("merge", *FLAGS, "--discard", "--json")
    assert json.loads(told.stdout)["merged"] == len(llama_tensors())
    assert sorted(tmp_path.rglob("*")) == before
    write_model(tmp_path / "ind", {n: t / 0 for n, t in llama_tensors(2).items()})
    assert "holds" in merger("merge", *FLAGS, "--discard").stderr


def test_json_is_one_document(merger):
    """--json prints one document with what was written, copied and dropped."""
    told = json.loads(merger("merge", *FLAGS, "out", "--json").stdout)
    assert told["merged"] == len(llama_tensors())
    assert told["models"]["ded"] == "ded"


@pytest.mark.parametrize(
    ("words", "law"),
    [
        (("merge", "--method", "tise", "out"), "no operator named 'tise'"),
        (("merge", *FLAGS, "--expert", "dde=1", "out"), "no model named 'dde'"),
        (("merge", *FLAGS, "--expert", "ded=1", "out"), "names ded twice"),
        (("merge", *FLAGS, "--expert", "x=heavy", "out"), "'heavy' is no number"),
        (("merge", *FLAGS, "--set", "dnesity=1", "out"), "no key named 'dnesity'"),
        (("merge", *FLAGS, "--set", "abd.density=1", "out"), "speaks of 'abd'"),
        (("merge", *FLAGS, "--set", "density", "out"), "--set is 'density'"),
        (("merge", *FLAGS, "--set", "density=2", "out"), "density is 2"),
        (("merge", *FLAGS, "--dtype", "bf61", "out"), "no dtype named 'bf61'"),
        (("merge", *FLAGS, "--memory", "some", "out"), "--memory is 'some'"),
        (("merge", *FLAGS, "base"), "base is an input"),
        (("merge", *FLAGS), "OUT"),
        (("merge", "nothing.yml", "out"), "nothing.yml cannot be read"),
        (("explain",), "either a config or --method"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(merger, tmp_path, words, law):
    """Every mistake is a MergerError with law and remedy, and the disk stays as it was."""
    before = sorted(tmp_path.rglob("*"))
    told = merger(*words)
    assert isinstance(told.exception, MergerError)
    assert law in told.exception.law
    assert told.exception.remedy
    assert sorted(tmp_path.rglob("*")) == before


def test_a_stranger_is_warned_of(merger, tmp_path):
    """An expert that is no child of the base is told, and merged all the same."""
    told = merger("merge", *FLAGS, "out")
    assert told.exit_code == 0
    assert "warning: ded" in told.stderr
    child = {n: t + 1e-3 * torch.randn_like(t) for n, t in llama_tensors(0).items()}
    write_model(tmp_path / "ded", child)
    assert "warning: ded" not in merger("merge", *FLAGS, "out", "--force").stderr


def test_operators_are_listed_with_their_knobs(merger):
    """Merger operators names all of them, and one in full."""
    listed = json.loads(merger("operators", "--json").stdout)
    assert {"ties", "linear", "consensus"} <= {o["name"] for o in listed}
    assert "density" in merger("operators", "ties").stdout
    shown = merger("operators").stdout
    assert "weight* 0 to 1.5 (required)" in shown
    assert "https://arxiv.org/abs/2306.01708" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("text", "count"), [("1GB", 10**9), ("512MiB", 512 << 20), ("7", 7), ("1.5kb", 1500)]
)
def test_sizes(text, count):
    """Sizes are read in decimal and binary units."""
    assert size(text, "--memory") == count


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1XB", "0"])
def test_no_sizes(text):
    """What is no size is refused."""
    with pytest.raises(UsageError):
        size(text, "--memory")
