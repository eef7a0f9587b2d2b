"""Merge configs: what is understood, and what is refused with line and remedy."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from merger.errors import SpecError
from merger.names import depth, layer_of, matches, module_of, stacks, with_layer
from merger.operators import OPERATORS
from merger.spec import load_spec, merge_spec, spec_from_mapping
from merger.spec.setting import Rule, Setting
from tests.strategies import value

LINEAR = "merge_method: linear\nmodels:\n- model: a\n  parameters:\n    weight: 1\n"


def read(tmp_path, text):
    """Load a config written to a file."""
    file = tmp_path / "m.yml"
    file.write_text(text)
    return load_spec(file)


def test_the_base_may_stand_in_for_several_experts():
    """An ablation puts the base in the place of each expert that it takes out."""
    listed = [{"model": m, "parameters": {"weight": 1}} for m in ("base", "base", "ded")]
    spec = spec_from_mapping({"merge_method": "ties", "base_model": "base", "models": listed})
    assert [s.model for s in spec.parts[0].sources] == ["base", "base", "ded"]


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("merge_method: linaer\nmodels: []\n", "line 1.*'linaer'", "Did you mean 'linear'"),
        (LINEAR.replace("weight", "wieght"), "line 5.*'wieght'", "Did you mean 'weight'"),
        (LINEAR + "normalise: true\n", "line 6.*'normalise'", "Known: .*parameters"),
        (LINEAR + "modules: {}\n", "line 6.*models and modules stand together", "Keep one"),
        (LINEAR + "normalize: true\n", "line 6.*'normalize'", "belongs under `parameters`"),
        (LINEAR + "parameters:\n  dtype: bf16\n", "line 7.*'dtype'", "at the top"),
        (LINEAR.replace("  p", "  layer_range: [0, 1]\n  p"), "line 4", "a source of a slice"),
        ("merge_method: linear\nmodules:\n  a: {slices: []}\n", "line 3", "at least one"),
        (LINEAR + "dtype: bfloat\n", "line 6.*'bfloat'", "Did you mean 'bfloat16'"),
        (LINEAR + "parameters:\n  normalize: 3\n", "line 7.*normalize is 3", "true or false"),
        (LINEAR.replace("1", "heavy"), "line 5.*weight is 'heavy'", "a number"),
        (LINEAR.replace("1", ".nan"), "line 5.*weight is nan", "a number that is finite"),
        (LINEAR.replace("    weight: 1", "    weight: 1\n    weight: 2"), "line .*twice", "line 6"),
        (LINEAR + "slices: []\n", "line 6.*models and slices stand together", "Keep one"),
        ("merge_method: linear\n", "no models or slices or modules", "Keep one"),
        ("merge_method: [\n", "line", "Mend the YAML"),
        ("merge_method: linear\nmodels:\n- model: a\n", "line 2.*a has no weight", "weight: VALUE"),
        (LINEAR.replace("linear", "ties"), "base_model is missing", "base_model: NAME"),
        (LINEAR.replace("linear", "slerp"), "weight", "Known: .*t"),
        (
            LINEAR + "- model: a\n  parameters: {weight: 2}\n",
            "line 2.*a is named twice",
            "Name each",
        ),
        (LINEAR + "tokenizer_source: c\n", "line 6.*none of the models", "one of a"),
        (LINEAR + "chat_template: chatml\n", "line 6.*no Jinja template", "auto"),
    ],
)
def test_a_wrong_config_is_refused_with_its_line(tmp_path, text, place, remedy):
    """The error names file, line and key, and says what to do."""
    with pytest.raises(SpecError, match=place) as caught:
        read(tmp_path, text)
    assert caught.match(f"(?s){remedy}")
    assert "m.yml" in str(caught.value)


def test_a_global_knob_at_a_model_is_refused():
    """Normalize belongs to the merge, not to one model."""
    models = [{"model": "a", "parameters": {"weight": 1, "normalize": False}}]
    with pytest.raises(SpecError, match="top `parameters`"):
        spec_from_mapping({"merge_method": "linear", "models": models})


def test_keys_without_effect_are_noted():
    """int8_mask changes nothing, so a config that has it works and says so."""
    models = [{"model": "a", "parameters": {"weight": 1}}]
    document = {"merge_method": "linear", "models": models, "parameters": {"int8_mask": True}}
    assert "no effect" in spec_from_mapping(document).notes[0]


def test_numbers_without_a_dot_are_numbers(tmp_path):
    """YAML takes 1e-5 for text; a knob takes it for a number."""
    text = "merge_method: ram\nbase_model: b\nmodels:\n- model: a\nparameters:\n  epsilon: 1e-6\n"
    assert read(tmp_path, text).knobs["epsilon"].at("x", 0) == 1e-6


@settings(max_examples=40)
@given(st.data())
def test_a_spec_survives_its_own_yaml(data):
    """Written out and read again, a spec is equal."""
    op = OPERATORS[data.draw(st.sampled_from(list(OPERATORS)))]
    count = max(2, op.experts[0]) if op.experts[1] != 1 else 1
    drawn = {n: data.draw(value(k, count)) for n, k in op.knobs.items()}
    each = {n: v for n, v in drawn.items() if op.knobs[n].each}
    experts = {f"m{i}": {n: v[i] for n, v in each.items()} for i in range(count)}
    shared = {n: v for n, v in drawn.items() if n not in each}
    spec = merge_spec(op.name, experts, base="b", knobs=shared, dtype="bf16")
    again = spec_from_mapping(spec.to_mapping())
    assert again == spec
    assert again.hash() == spec.hash()


def test_a_mapping_may_hold_what_python_has_beside_yaml():
    """Tuples, paths and numbers of numpy are read as lists, texts and numbers, and written so."""
    own = {"weight": np.float32(0.5), "density": (np.float64(0.25), 1)}
    models = ({"model": Path("a"), "parameters": own},)
    spec = spec_from_mapping({"merge_method": "ties", "base_model": "b", "models": models})
    plain = {"weight": 0.5, "density": [0.25, 1]}
    told = {"merge_method": "ties", "base_model": "b"}
    assert spec == spec_from_mapping(told | {"models": [{"model": "a", "parameters": plain}]})
    assert yaml.safe_load(yaml.safe_dump(spec.to_mapping())) == spec.to_mapping()


def test_modules_survive_their_own_yaml():
    """A module's knobs stand behind those of its slices, and the spec is equal when read again."""
    source = {"model": "a", "layer_range": [0, 2], "parameters": {"weight": 0.5}}
    rule = {"weight": [{"filter": "mlp", "value": 0.1}, {"value": 0.3}]}
    slices = [{"sources": [source, {"model": "b", "layer_range": [1, 3]}]}]
    modules = {
        "text": {"slices": slices, "parameters": rule},
        "default": {"models": [{"model": "a"}]},
    }
    document = {"merge_method": "linear", "modules": modules, "parameters": {"weight": 1}}
    spec = spec_from_mapping(document)
    assert spec_from_mapping(spec.to_mapping()) == spec
    assert (spec.models, list(spec.modules)) == (("a", "b"), ["text", "default"])
    part = spec.modules["text"][0]
    assert part.knobs["weight"].at("x.mlp", 0) == 0.1
    assert spec.modules["default"][0].whole


def test_auto_keeps_the_template_and_says_so():
    """`chat_template: auto` is what happens without the key."""
    document = {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1}}]}
    spec = spec_from_mapping(document | {"chat_template": "auto"})
    assert spec == spec_from_mapping(document)
    assert "kept" in spec.notes[0]


def test_rules_are_tried_in_order_and_gradients_are_linear():
    """The first filter that takes a tensor wins; between its values a gradient is a line."""
    models = [
        {
            "model": "a",
            "parameters": {"weight": [{"filter": "mlp", "value": [0, 1, 0]}, {"value": 7}]},
        }
    ]
    weight = (
        spec_from_mapping({"merge_method": "linear", "models": models}).experts[0].knobs["weight"]
    )
    assert [weight.at("x.mlp.up", t) for t in (0, 0.25, 0.5, 1)] == [0, 0.5, 1, 0]
    assert weight.at("x.attn.q", 0.5) == 7


def test_a_gradient_reaches_both_ends():
    """At depth 0 and 1 a gradient is its first and last value exactly."""
    setting = Setting((Rule((0.1, 0.5, 0.9)),))
    assert (setting.at("x", 0.0), setting.at("x", 1.0)) == (0.1, 0.9)


def test_names_tell_layers_and_modules():
    """A layer is the first whole number between dots; what stands before it is the stack."""
    name = "model.layers.3.mlp.experts.7.up_proj.weight"
    assert layer_of(name) == ("model.layers", 3)
    assert with_layer(name, 11) == "model.layers.11.mlp.experts.7.up_proj.weight"
    assert layer_of("lm_head.weight") is None
    counts = stacks([name, "visual.blocks.1.attn.qkv.weight"])
    assert counts == {"model.layers": 4, "visual.blocks": 2}
    assert depth(name, counts) == 1.0
    assert depth("model.norm.weight", counts) == 0.0
    assert module_of("model.layers.0.self_attn.q_norm.weight") == "norm"
    assert module_of(name) == "mlp"
    assert matches("*", name)
    assert not matches("self_attn", name)
