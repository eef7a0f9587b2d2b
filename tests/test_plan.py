"""Plans: every tensor accounted for, every mismatch told at once."""

import json
from itertools import pairwise

import pytest
import torch

from merger.checkpoint import open_checkpoint
from merger.errors import MismatchError, SpecError
from merger.plan import make_plan, plan_document
from merger.plan.make import stream_keys
from merger.spec import merge_spec, spec_from_mapping
from tests.checkpoints import llama_tensors, write_model


@pytest.fixture
def models(tmp_path):
    """Return a function that writes models and plans a spec over them."""

    def plan(spec, **changed):
        for i, name in enumerate(("base", "ded", "ind")):
            write_model(tmp_path / name, changed.get(name, llama_tensors(i)))
        return make_plan(spec, {m: open_checkpoint(tmp_path / m) for m in spec.models})

    return plan


TA = merge_spec("task_arithmetic", {"ded": 1.0, "ind": 0.5}, base="base")


def test_every_output_is_planned_once(models):
    """The plan covers each tensor of the base once, in the order of its file."""
    plan = models(TA)
    assert [s.name for s in plan.steps] == list(dict.fromkeys(s.name for s in plan.steps))
    assert {s.name for s in plan.steps} == set(llama_tensors())
    assert plan.nbytes == sum(t.nbytes for t in llama_tensors().values())
    assert not plan.dropped


def test_all_mismatches_are_told_at_once(models):
    """A missing tensor, a shape and a dtype that differ are in one error, each with its model."""
    wrong = llama_tensors(1)
    del wrong["model.norm.weight"]
    wrong["lm_head.weight"] = torch.zeros(13, 8)
    wrong["model.layers.0.input_layernorm.weight"] = torch.zeros(8, dtype=torch.int64)
    with pytest.raises(MismatchError) as caught:
        models(TA, ded=wrong)
    law = caught.value.law
    assert "3 tensors" in law
    assert "model.norm.weight is missing in ded" in law
    assert "[13, 8] in ded" in law
    assert "I64 in ded" in law


def test_what_is_left_out_is_named(models):
    """A tensor that only an expert has is dropped, and the plan says so."""
    plan = models(TA, ded=llama_tensors(1) | {"score.weight": torch.zeros(2, 8)})
    assert [(d.model, d.tensor) for d in plan.dropped] == [("ded", "score.weight")]


def test_whole_numbers_are_copied_from_the_base(models):
    """Integer and bool tensors are no weights: the base's are kept, and it is told."""
    extra = {"rope.position_ids": torch.arange(4), "mask": torch.tensor([True, False])}
    everyone = {n: llama_tensors(i) | extra for i, n in enumerate(("base", "ded", "ind"))}
    plan = models(TA, **everyone)
    assert {s.name for s in plan.copied} == set(extra)
    assert all(s.sources[0].model == "base" for s in plan.copied)
    assert any("rope.position_ids (I64) is copied from base" in n for n in plan.notes)


def test_the_head_is_planned_once_where_it_is_tied(tmp_path):
    """A tied model that stores its head twice gives one tensor, and the drop is named."""
    tied = llama_tensors(0)
    tied["lm_head.weight"] = tied["model.embed_tokens.weight"].clone()
    write_model(tmp_path / "tied", tied, tie_word_embeddings=True)
    spec = merge_spec("linear", {"tied": 1.0})
    plan = make_plan(spec, {"tied": open_checkpoint(tmp_path / "tied")})
    assert "lm_head.weight" not in {s.name for s in plan.steps}
    assert [d.tensor for d in plan.dropped] == ["lm_head.weight"]


def test_gradients_follow_the_layers(models):
    """A gradient runs from first to last layer; embeddings and head take its first value."""
    models_ = [{"model": "ded", "parameters": {"weight": [0.0, 1.0]}}]
    base = {"merge_method": "task_arithmetic", "base_model": "base", "models": models_}
    plan = models(spec_from_mapping(base))
    found = {s.name: s.knobs["weight"][0] for s in plan.steps}
    assert found["model.layers.0.mlp.up_proj.weight"] == 0.0
    assert found["model.layers.1.mlp.up_proj.weight"] == 1.0
    assert found["lm_head.weight"] == found["model.norm.weight"] == 0.0


def test_a_tensor_without_a_value_is_an_error(models):
    """Filters that leave a tensor out of a required knob are told with the tensor."""
    rule = [{"filter": "mlp", "value": 1.0}]
    listed = [{"model": "ded", "parameters": {"weight": rule}}]
    spec = spec_from_mapping(
        {"merge_method": "task_arithmetic", "base_model": "base", "models": listed}
    )
    with pytest.raises(MismatchError, match=r"lm_head.weight is taken by no filter of weight"):
        models(spec)


def test_slices_stack_layers(models):
    """Layers of slices are numbered through, and config learns how many there are."""
    part = [
        {"sources": [{"model": m, "layer_range": r}]} for m, r in (("ded", [0, 2]), ("ind", [1, 2]))
    ]
    plan = models(spec_from_mapping({"merge_method": "passthrough", "slices": part}))
    ups = {s.name: s.sources[0] for s in plan.steps if "up_proj" in s.name}
    assert [(s.model, s.tensor.split(".")[2]) for s in ups.values()] == [
        ("ded", "0"), ("ded", "1"), ("ind", "1"),
    ]  # fmt: skip
    assert list(ups) == [f"model.layers.{i}.mlp.up_proj.weight" for i in range(3)]
    assert plan.config_changes == {"num_hidden_layers": 3}
    source = {s.name: s.sources[0].model for s in plan.steps}
    assert (source["model.embed_tokens.weight"], source["lm_head.weight"]) == ("ded", "ind")
    assert any(d.tensor.startswith("model.layers.0.") and d.model == "ind" for d in plan.dropped)


def test_kinds_of_layers_follow_the_slices(tmp_path):
    """A config that lists the kind of each layer lists those of the layers laid."""
    kinds = {"layer_types": ["full", "sliding"]}
    write_model(tmp_path / "ded", llama_tensors(1), **kinds)
    part = [{"sources": [{"model": "ded", "layer_range": r}]} for r in ([0, 2], [1, 2])]
    spec = spec_from_mapping({"merge_method": "passthrough", "slices": part})
    plan = make_plan(spec, {"ded": open_checkpoint(tmp_path / "ded")})
    assert plan.config_changes["layer_types"] == ["full", "sliding", "sliding"]


def test_configs_that_disagree_are_told(tmp_path):
    """Equal shapes hide another rope_theta: a model made for another config is told."""
    rope = {"rope_parameters": {"rope_theta": 10_000.0, "rope_type": "default"}}
    far = {
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
        "transformers_version": "4",
    }
    settings = {"base": rope, "ded": rope | {"use_cache": False}, "ind": far}
    found = {}
    for name, own in settings.items():
        folder = write_model(tmp_path / name, llama_tensors())
        told = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(told | own))
        found[name] = open_checkpoint(folder)
    (note,) = make_plan(TA, found).notes
    assert note.startswith("ind: made for another config than base's")
    assert "(rope_theta: 1000000.0 against 10000.0)" in note


def test_layers_that_are_not_there_are_refused(tmp_path):
    """A range beyond the last layer would give a config of layers without tensors."""
    checkpoint = open_checkpoint(write_model(tmp_path / "ded", llama_tensors()))
    part = [{"sources": [{"model": "ded", "layer_range": [0, 5]}]}]
    spec = spec_from_mapping({"merge_method": "passthrough", "slices": part})
    law = r"layer_range \[0, 5\] of ded, whose model.layers has 2\n.*from 0 to 2"
    with pytest.raises(SpecError, match=law):
        make_plan(spec, {"ded": checkpoint})


HYBRID = {
    **{f"model.text.layers.{i}.attn.weight": torch.ones(2, 2) for i in range(3)},
    **{f"model.visual.blocks.{i}.qkv.weight": torch.ones(2, 2) for i in range(2)},
    "model.text.embed_tokens.weight": torch.ones(4, 2),
    "model.visual.patch.weight": torch.ones(2, 2),
    "model.visual.norm.weight": torch.ones(2),
    "model.text.norm.weight": torch.ones(2),
    "lm_head.weight": torch.ones(4, 2),
}


def hybrid(tmp_path, document):
    """Plan a spec over models of two stacks whose config speaks of layers in a part."""
    for name in ("ded", "ind"):
        folder = write_model(tmp_path / name, HYBRID)
        told = json.loads((folder / "config.json").read_text())
        del told["num_hidden_layers"]
        (folder / "config.json").write_text(
            json.dumps(told | {"text_config": {"num_hidden_layers": 3}})
        )
    spec = spec_from_mapping({"merge_method": "passthrough"} | document)
    return make_plan(spec, {m: open_checkpoint(tmp_path / m) for m in spec.models})


def test_slices_leave_the_other_stack_whole(tmp_path):
    """A vision tower and what stands beside it come from the first slice; config is told inside."""
    part = [
        {"sources": [{"model": m, "layer_range": r}]} for m, r in (("ded", [0, 2]), ("ind", [0, 3]))
    ]
    plan = hybrid(tmp_path, {"slices": part})
    source = {s.name: s.sources[0].model for s in plan.steps}
    assert {m for n, m in source.items() if ".visual." in n or "embed" in n} == {"ded"}
    assert (source["model.text.norm.weight"], source["lm_head.weight"]) == ("ind", "ind")
    assert plan.config_changes == {"num_hidden_layers": 5}
    assert sum(plan.fates.values()) == 2 * len(HYBRID)


def test_modules_are_merged_each_by_its_own_models(tmp_path):
    """A module takes the tensors of its name, `default` the rest; none may be left out."""
    text = {"models": [{"model": "ded"}], "parameters": {"scale": 2}}
    plan = hybrid(tmp_path, {"modules": {"text": text, "default": {"models": [{"model": "ind"}]}}})
    found = {s.name: (s.sources[0].model, s.knobs["scale"]) for s in plan.steps}
    assert found.keys() == HYBRID.keys()
    for name, made in found.items():
        assert made == (("ded", (2.0,)) if ".text." in name else ("ind", (1.0,)))
    with pytest.raises(SpecError, match="in no module"):
        hybrid(tmp_path, {"modules": {"text": text}})
    with pytest.raises(SpecError, match="no tensor in ded"):
        hybrid(tmp_path, {"modules": {"txet": text, "default": text}})
    laid = [{"sources": [{"model": "ded", "layer_range": [0, 1]}]}]
    with pytest.raises(SpecError, match=r"model.visual.blocks would have 1 layers"):
        hybrid(tmp_path, {"modules": {"visual": {"slices": laid}, "default": text}})


def test_every_input_has_one_fate(models):
    """Merged, copied, dropped or not asked for: the counts add up to all tensors that came in."""
    extra = {"ids": torch.arange(4)}
    everyone = {n: llama_tensors(i) | extra for i, n in enumerate(("base", "ded", "ind"))}
    everyone["ind"]["score.weight"] = torch.ones(2)
    count = len(llama_tensors())
    plan = models(merge_spec("linear", {"ded": 1.0, "ind": 0.5}, base="base"), **everyone)
    assert plan.fates == {"merged": 2 * count, "copied": 3, "dropped": 1, "not asked for": count}


def test_streams_belong_to_names_not_to_places():
    """An expert keeps its draws wherever its folder lies; equal names are told apart."""
    here, there = stream_keys(["ded", "x/ind"], "t"), stream_keys(["/abs/ded", "ind"], "t")
    assert here == there
    same = stream_keys(["a/ckpt", "b/ckpt"], "t")
    assert len({*same, *here, *stream_keys(["ded", "ind"], "u")}) == 6


def test_a_plan_is_plain_data(models):
    """The document of `--json` holds every step with its resolved knobs."""
    document = json.loads(json.dumps(plan_document(models(TA))))
    assert document["merged"] == len(document["steps"])
    assert document["steps"][0]["knobs"]["weight"] == [1.0, 0.5]
    assert all(a["tensor"] != b["tensor"] for a, b in pairwise(document["steps"]))
