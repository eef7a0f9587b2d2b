"""A LoRA folder read as the model it stands for, against B·A by hand and against PEFT itself."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from merger.checkpoint import open_checkpoint
from merger.cli import app
from merger.errors import CheckpointError, MergerError, MismatchError
from tests.checkpoints import llama_tensors, write_model

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
EMBED = "model.embed_tokens"


def write_adapter(folder, tensors, **settings):
    """Write a PEFT folder by hand."""
    folder.mkdir()
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 6} | settings
    (folder / "adapter_config.json").write_text(json.dumps(told))
    named = {f"base_model.model.{n}": t for n, t in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors")
    return folder


def factors(module, rows, cols, rank=2, seed=0):
    """Draw the two factors of one module."""
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, cols, generator=g), torch.randn(rows, rank, generator=g)
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


@pytest.fixture
def base(tmp_path):
    """Return an open base in bfloat16."""
    return open_checkpoint(write_model(tmp_path / "base", llama_tensors(dtype=torch.bfloat16)))


def test_the_change_is_added_in_float32(base, tmp_path):
    """An adapted tensor is base + alpha/r B A in float32; every other is the base's own."""
    parts = factors(Q, 8, 8) | factors(DOWN, 8, 16, seed=1)
    adapter = open_checkpoint(write_adapter(tmp_path / "a", parts), base)
    a, b = parts[f"{Q}.lora_A.weight"], parts[f"{Q}.lora_B.weight"]
    want = base.read(f"{Q}.weight").float() + 3.0 * (b @ a)
    torch.testing.assert_close(adapter.read(f"{Q}.weight"), want)
    assert adapter.tensors[f"{Q}.weight"].dtype == "F32"
    other = "lm_head.weight"
    assert torch.equal(adapter.read(other), base.read(other))
    assert adapter.tensors.keys() == base.tensors.keys()
    assert adapter.config == base.config


def test_rows_do_not_depend_on_the_cut(tmp_path):
    """Rows read one by one, or in any blocks, are the very rows of one read."""
    tensors = {"m.weight": torch.randn(150, 40, generator=torch.Generator().manual_seed(3))}
    ground = open_checkpoint(write_model(tmp_path / "base", tensors))
    folder = write_adapter(tmp_path / "a", factors("m", 150, 40, rank=7), r=7)
    adapter = open_checkpoint(folder, ground)
    whole = adapter.read("m.weight")
    for step in (1, 7, 64, 100):
        cut = [adapter.read("m.weight", i, min(i + step, 150)) for i in range(0, 150, step)]
        assert torch.equal(torch.cat(cut), whole)
    assert torch.equal(adapter.read("m.weight", 33, 999, cols=1), whole.view(-1, 1)[33:999])


def test_patterns_and_rslora_set_the_scale(base, tmp_path):
    """rank_pattern, alpha_pattern and use_rslora change one module's scale as PEFT does."""
    parts = factors(Q, 8, 8, rank=4) | factors(DOWN, 8, 16)
    settings = {
        "rank_pattern": {"q_proj": 4},
        "alpha_pattern": {r"^model.layers.\d+.self_attn.q_proj": 5},
    }
    folder = write_adapter(tmp_path / "a", parts, use_rslora=True, **settings)
    adapter = open_checkpoint(folder, base)
    for module, scale in ((Q, 5 / 2), (DOWN, 6 / math.sqrt(2))):
        product = parts[f"{module}.lora_B.weight"] @ parts[f"{module}.lora_A.weight"]
        change = adapter.read(f"{module}.weight") - base.read(f"{module}.weight").float()
        torch.testing.assert_close(change, scale * product, atol=1e-5, rtol=1e-4)


def test_embeddings_and_whole_tensors(base, tmp_path):
    """An embedding's factors stand turned; modules_to_save replace the base's tensor."""
    g = torch.Generator().manual_seed(0)
    parts = {
        f"{EMBED}.lora_embedding_A": torch.randn(2, 12, generator=g),
        f"{EMBED}.lora_embedding_B": torch.randn(8, 2, generator=g),
        "lm_head.weight": torch.ones(12, 8),
    }
    adapter = open_checkpoint(write_adapter(tmp_path / "a", parts), base)
    product = (parts[f"{EMBED}.lora_embedding_B"] @ parts[f"{EMBED}.lora_embedding_A"]).T
    change = adapter.read(f"{EMBED}.weight") - base.read(f"{EMBED}.weight").float()
    torch.testing.assert_close(change, 3 * product, atol=1e-5, rtol=1e-4)
    assert torch.equal(adapter.read("lm_head.weight", 2, 4), torch.ones(2, 8))


def test_the_fingerprint_sees_base_factors_and_scale(base, tmp_path):
    """Any of the three changes the fingerprint; reading twice does not."""
    parts = factors(Q, 8, 8)
    prints = [base.fingerprint()]
    for i, (tensors, alpha) in enumerate([(parts, 6), (factors(Q, 8, 8, seed=1), 6), (parts, 7)]):
        folder = write_adapter(tmp_path / f"a{i}", tensors, lora_alpha=alpha)
        prints.append(open_checkpoint(folder, base).fingerprint())
        assert open_checkpoint(folder, base).fingerprint() == prints[-1]
    assert len(set(prints)) == 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"peft_type": None}, "NONE"),
        ({"lora_bias": True}, "biases"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
        ({"r": 3}, "rank 2 in the file, 3"),
        ({"lora_alpha": "x"}, "alpha x"),
        ({"rank_pattern": {"(a+)+q_proj": 2}}, "too costly"),
    ],
)
def test_other_adapters_are_refused_by_name(base, tmp_path, settings, said):
    """What is not plain LoRA is told, with a remedy."""
    folder = write_adapter(tmp_path / "a", factors(Q, 8, 8), **settings)
    with pytest.raises(MergerError, match=said.replace("(", r"\(")) as caught:
        open_checkpoint(folder, base)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "tensors",
    [
        factors("model.layers.7.self_attn.q_proj", 8, 8),
        factors(Q, 8, 9),
        {f"{Q}.lora_A.weight": torch.ones(2, 8)},
        {"lm_head.weight": torch.ones(3, 8)},
        {f"{Q}.lora_magnitude_vector": torch.ones(8)},
    ],
)
def test_an_adapter_of_another_base_is_refused(base, tmp_path, tensors):
    """Factors that fit no matrix of the base name the module."""
    with pytest.raises(MismatchError, match="does not fit the base"):
        open_checkpoint(write_adapter(tmp_path / "a", tensors), base)


def test_an_adapter_needs_its_base(tmp_path):
    """Alone it is no model; the error names the base it was trained on."""
    folder = write_adapter(tmp_path / "a", factors(Q, 8, 8), base_model_name_or_path="org/base")
    with pytest.raises(CheckpointError, match="org/base"):
        open_checkpoint(folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    base = open_checkpoint(write_model(tmp_path / "base", llama_tensors()))
    with pytest.raises(CheckpointError, match="pickled"):
        open_checkpoint(folder, base)


def test_an_adapter_is_merged_like_an_expert(base, tmp_path, monkeypatch):
    """The command takes an adapter's folder where it takes a model's; no merged copy is made."""
    parts = factors(Q, 8, 8)
    write_adapter(tmp_path / "lora", parts)
    monkeypatch.chdir(tmp_path)
    flags = ["--method", "task_arithmetic", "--base", "base", "--expert", "lora=0.5"]
    told = CliRunner().invoke(app, ["merge", *flags, "--dtype", "fp32", "out"])
    assert told.exit_code == 0, told.output
    got = open_checkpoint(tmp_path / "out").read(f"{Q}.weight")
    product = 3.0 * parts[f"{Q}.lora_B.weight"] @ parts[f"{Q}.lora_A.weight"]
    torch.testing.assert_close(got, base.read(f"{Q}.weight").float() + 0.5 * product)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_peft_merges_to_the_same_model(tmp_path):
    """PEFT's own merge_and_unload of a saved adapter equals what we read."""
    peft = pytest.importorskip("peft")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 12}
    model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, **sizes))
    model.save_pretrained(tmp_path / "base")
    settings = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=["q_proj", "down_proj", "embed_tokens"],
        modules_to_save=["lm_head"],
        rank_pattern={"layers.1.mlp.down_proj": 2},
        alpha_pattern={"q_proj": 9},
        use_rslora=True,
        init_lora_weights=False,
    )
    adapted = peft.get_peft_model(model, settings)
    adapted.save_pretrained(tmp_path / "adapter")
    merged = adapted.merge_and_unload().state_dict()
    base = open_checkpoint(tmp_path / "base")
    found = open_checkpoint(tmp_path / "adapter", base)
    assert found.tensors.keys() == merged.keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(found.read(name).view(tensor.shape), tensor)


def test_a_lone_adapter_can_be_inspected(base, tmp_path):
    """`inspect` shows an adapter's own tensors and settings, without its base."""
    folder = write_adapter(tmp_path / "a", factors(Q, 8, 8), base_model_name_or_path="org/base")
    told = json.loads(CliRunner().invoke(app, ["inspect", str(folder), "--json"]).stdout)
    assert (told["tensors"], told["r"], told["base_model_name_or_path"]) == (2, 2, "org/base")
    assert told["per_layer"] == {"layer 0": 32}
