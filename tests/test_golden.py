"""What mergekit itself wrote for its configs, tensor by tensor."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from merger.engine import DictSink, merge_to_folder, opened, run_plan
from merger.spec import load_spec, spec_from_mapping

CONFIGS = (
    *("arcee_fusion", "breadcrumbs", "breadcrumbs_ties", "karcher", "linear"),
    *("linear_filter_gradient", "linear_raw", "model_stock", "multislerp", "multislerp_base"),
    *("nearswap", "nuslerp", "nuslerp_base", "passthrough", "ram", "ramplus_tl", "sce", "slerp"),
    *("task_arithmetic", "task_arithmetic_lambda", "ties_d05", "ties_d1", "ties_neg", "ties_raw"),
)


@pytest.fixture
def peer(shared_data, monkeypatch) -> Path:
    """Stand in the folder that the golden configs' paths are relative to."""
    monkeypatch.chdir(shared_data / "golden" / "mergekit")
    return Path()


def merged(spec):
    """Return the tensors of a merge."""
    with opened(spec) as models:
        sink = DictSink(models.plan)
        run_plan(models.plan, models.checkpoints, sink)
    return sink.tensors


@pytest.mark.parametrize("name", CONFIGS)
def test_agrees_with_mergekit(peer, name):
    """Every golden config gives mergekit's tensors to float32 rtol 1e-5, atol 1e-6."""
    made = merged(load_spec(peer / "configs" / f"{name}.yml"))
    expected = load_file(peer / "expected" / f"{name}.safetensors")
    assert made.keys() == expected.keys()
    for tensor, value in expected.items():
        torch.testing.assert_close(made[tensor], value, rtol=1e-5, atol=1e-6, msg=tensor)


def test_all_configs_are_compared(peer):
    """No golden config is left out."""
    assert sorted(p.stem for p in (peer / "configs").glob("*.yml")) == sorted(CONFIGS)


def test_the_papers_own_merge_file_runs(peer, tmp_path):
    """Linear 1 / 0.2 / 0.1 in float32 is normalised to 0.769 / 0.154 / 0.077 and loads."""
    from transformers import AutoModelForCausalLM

    with opened(load_spec(peer / "configs" / "linear.yml")) as models:
        merge_to_folder(models, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    name = "model.layers.1.mlp.up_proj.weight"
    parts = [m.get_parameter(name) for m in map(_load, (peer / n for n in ("ded", "ind", "abd")))]
    expected = sum(
        p.double() * w for p, w in zip(parts, (1 / 1.3, 0.2 / 1.3, 0.1 / 1.3), strict=True)
    )
    torch.testing.assert_close(model.get_parameter(name).double(), expected, rtol=1e-6, atol=1e-8)


def test_logits_equal_those_of_a_merge_in_memory(peer, tmp_path):
    """The written folder computes what a model filled with the same tensors computes."""
    spec = load_spec(peer / "configs" / "ties_d05.yml")
    with opened(spec) as models:
        merge_to_folder(models, tmp_path / "out")
    model, tokens = _load(tmp_path / "out"), torch.arange(3, 20)[None]
    live = _load(peer / "base")
    live.load_state_dict(merged(spec))
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, live(tokens).logits)


def test_a_slice_of_every_layer_is_the_whole_merge(peer):
    """Slices that lay all layers side by side give the merge without slices."""
    layers = {"layer_range": [0, 3]}
    weights = {"ded": 1.0, "ind": 0.2}
    sources = [{"model": m, **layers, "parameters": {"weight": w}} for m, w in weights.items()]
    flat = [{"model": m, "parameters": {"weight": w}} for m, w in weights.items()]
    sliced = merged(spec_from_mapping({"merge_method": "linear", "slices": [{"sources": sources}]}))
    whole = merged(spec_from_mapping({"merge_method": "linear", "models": flat}))
    assert sliced.keys() == whole.keys()
    assert all(torch.equal(sliced[n], whole[n]) for n in whole)


def _load(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
