"""From a model back to an adapter: exact at full rank, near the best at any other."""

import json

import pytest
import torch
from typer.testing import CliRunner

from merger.checkpoint import open_checkpoint
from merger.cli import app
from merger.engine.extract import extract_lora, low_rank
from merger.errors import MismatchError, UsageError
from merger.experts import resolve
from tests.checkpoints import llama_tensors, write_model


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Write a base and a model with every tensor changed, in bfloat16, and stand beside them."""
    monkeypatch.chdir(tmp_path)
    base = {n: t.bfloat16() for n, t in llama_tensors(0).items()}
    bias = {"model.layers.0.self_attn.q_proj.bias": torch.zeros(8).bfloat16()}
    change = llama_tensors(1)
    model = {n: (t + 0.1 * change[n]).bfloat16() for n, t in base.items()}
    write_model(tmp_path / "base", base | bias)
    write_model(tmp_path / "model", model | {n: t + 1 for n, t in bias.items()})
    return tmp_path


def run(*words):
    told = CliRunner().invoke(app, [str(w) for w in words])
    assert told.exit_code == 0, told.output
    return told


def test_full_rank_gives_the_model_back(pair):
    """Merging an adapter of full rank writes the model's own bytes."""
    told = json.loads(run("extract-lora", "base", "model", "lora", "--rank", 8, "--json").stdout)
    assert told["kept"] == pytest.approx(1, abs=1e-6)
    assert sum("norm" in n or "bias" in n for n in told["whole"]) == len(told["whole"]) == 6
    run("merge", "--method", "linear", "--base", "base", "--expert", "lora=1", "--dtype", "bf16",
        "again")  # fmt: skip
    assert open_checkpoint("again").fingerprint() == open_checkpoint("model").fingerprint()


def test_a_change_of_low_rank_gets_no_more(pair):
    """A model made by an adapter of rank 2 gives an adapter of rank 2."""
    g = torch.Generator().manual_seed(0)
    name, tensors = "model.layers.0.mlp.up_proj", llama_tensors(0)
    write_model(pair / "start", tensors)
    thin = torch.randn(16, 2, generator=g) @ torch.randn(2, 8, generator=g)
    write_model(pair / "end", tensors | {f"{name}.weight": tensors[f"{name}.weight"] + thin})
    made = extract_lora(open_checkpoint("start"), open_checkpoint("end"), 6)
    assert made.ranks == {name: 2}
    assert made.config("start")["rank_pattern"] == {name: 2}


def test_the_factors_are_near_the_best():
    """What rank 8 leaves of a matrix with a slow spectrum is within 1 % of the least possible."""
    g = torch.Generator().manual_seed(1)
    u, v = (torch.linalg.qr(torch.randn(n, 120, generator=g)).Q for n in (300, 120))
    values = 1 / torch.arange(1, 121).float()
    matrix = u * values @ v.T
    left, right = low_rank(matrix, 8)
    assert left.shape == (300, 8)
    assert float((matrix - left @ right).norm()) < 1.01 * float(values[8:].norm())


def test_peft_reads_it(pair):
    """PEFT puts the adapter on the base and merges it into the model's own weights."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    write_model(pair / "start", llama_tensors(0))
    write_model(pair / "end", {n: t * 1.1 for n, t in llama_tensors(0).items()})
    run("extract-lora", "start", "end", "lora", "--rank", 8)
    base = AutoModelForCausalLM.from_pretrained("start")
    merged = peft.PeftModel.from_pretrained(base, "lora").merge_and_unload().state_dict()
    want = AutoModelForCausalLM.from_pretrained("end").state_dict()
    assert merged.keys() == want.keys()
    for name, tensor in want.items():
        torch.testing.assert_close(merged[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_what_an_adapter_cannot_be_is_refused(pair):
    """Other shapes are named; two equal models have nothing to extract."""
    base = open_checkpoint("base")
    with pytest.raises(UsageError, match="does not differ"):
        extract_lora(base, base, 4)
    write_model(pair / "other", {n: t for n, t in llama_tensors(0).items() if "lm_head" not in n})
    with pytest.raises(MismatchError, match=r"lm_head|own"):
        extract_lora(base, open_checkpoint("other"), 4)


def test_an_alias_is_written_as_what_peft_can_find(tmp_path, monkeypatch):
    """The adapter of a base named by an alias names the folder that the alias stands for."""
    monkeypatch.chdir(tmp_path)
    run("extract-lora", "tiny:base", "tiny:ded", "out", "--rank", "2")
    named = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert named["base_model_name_or_path"] == str(resolve("tiny:base").path.absolute())
