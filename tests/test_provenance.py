"""merger.yaml rebuilds what it describes; the card tells people the same."""

import pytest
import torch
import yaml

from merger.checkpoint import open_checkpoint
from merger.errors import MismatchError
from merger.experts import resolve
from merger.provenance import (
    Input,
    check_inputs,
    fill_selection,
    write_provenance,
)
from merger.spec import merge_spec, spec_from_mapping
from tests.checkpoints import llama_tensors, write_model


@pytest.fixture
def merged(tmp_path):
    """Return a folder with provenance of a merge of a folder and an alias, and its inputs."""
    opened = {
        "base": open_checkpoint(write_model(tmp_path / "base", llama_tensors())),
        "ded": open_checkpoint(resolve("tiny:ded").path),
    }
    here = str(tmp_path / "base")
    spec = merge_spec("task_arithmetic", {"tiny:ded": 0.5}, base=here, dtype="float32")
    inputs = [
        Input(here, opened["base"]),
        Input("tiny:ded", opened["ded"], "tiny:ded: family tiny"),
    ]
    out = tmp_path / "out.partial"
    out.mkdir()
    notes = ["lm_head.weight: a copy, dropped"]
    write_provenance(out, spec.to_mapping(), inputs, notes)
    return out, {here: opened["base"], "tiny:ded": opened["ded"]}


def test_merger_yaml_is_a_spec(merged):
    """Read back, it is the merge that was made, with places that hold from anywhere."""
    out, inputs = merged
    document = yaml.safe_load((out / "merger.yaml").read_text())
    spec = spec_from_mapping(document)
    assert (spec.method, spec.base) == ("task_arithmetic", str(inputs[spec.base].path))
    assert spec.models == ("tiny:ded", spec.base)
    facts = document["provenance"]
    assert facts["inputs"]["tiny:ded"]["fingerprint"] == inputs["tiny:ded"].fingerprint()
    assert facts["versions"].keys() >= {"merger", "torch"}


def test_relative_folders_become_absolute(tmp_path, monkeypatch):
    """A spec typed in one folder rebuilds from another."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "a", llama_tensors())
    one = Input("a", open_checkpoint("a"))
    assert one.place == str(tmp_path / "a")
    assert Input("./a", open_checkpoint("./a")).place == str(tmp_path / "a")


def test_an_alias_is_recorded_as_what_holds_elsewhere(tmp_path):
    """One of ./experts.yaml as its folder, a bundled one with its family."""
    mine = open_checkpoint(write_model(tmp_path / "a", llama_tensors()))
    assert Input("logic", mine).place == str(tmp_path / "a")
    assert Input("ded", open_checkpoint(resolve("ded").path)).place == "tiny:ded"


def test_a_hub_snapshot_is_named_by_id_and_revision(tmp_path):
    """What came from the Hub cache is recorded as the Hub knows it."""
    folder = tmp_path / "models--org--name" / "snapshots" / "0123abc"
    checkpoint = open_checkpoint(write_model(folder, llama_tensors()))
    assert Input("org/name", checkpoint).place == "org/name@0123abc"


def test_changed_inputs_are_refused(merged, tmp_path):
    """A rebuild compares the content of the inputs with what was recorded."""
    out, inputs = merged
    facts = yaml.safe_load((out / "merger.yaml").read_text())["provenance"]
    check_inputs(facts, inputs)
    changed = open_checkpoint(write_model(tmp_path / "x", {"t": torch.ones(2)}))
    with pytest.raises(MismatchError, match="tiny:ded"):
        check_inputs(facts, inputs | {"tiny:ded": changed})


def test_the_card_opens_with_front_matter(merged):
    """The card is YAML front matter that the Hub reads, then the same facts for people."""
    text = (merged[0] / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    table = yaml.safe_load(front)
    assert table["base_model"] == ["base", "tiny:ded"]
    assert {"merge", "task_arithmetic"} <= set(table["tags"])
    assert table["library_name"] == "transformers"
    assert body.strip().startswith("# out\n")
    for part in ("| base | base |", "weight: 0.5", "a copy, dropped", "given by hand"):
        assert part in body
    assert str(merged[0].parent) not in text


def test_a_card_of_many_drops_is_short_and_names_no_folder(merged, tmp_path):
    """Stacks drop hundreds of tensors: the card shows some, merger.yaml all; no folder is named."""
    out, inputs = merged
    drops = [f"dropped {n} of {tmp_path / 'base'}: outside the slices" for n in range(300)]
    spec = {"merge_method": "linear", "base_model": str(tmp_path / "base")}
    write_provenance(out, spec, [Input(n, c) for n, c in inputs.items()], drops)
    text = (out / "README.md").read_text()
    assert "dropped 0 of base: outside" in text
    assert "- 280 more in merger.yaml" in text
    assert str(tmp_path) not in text
    assert len(yaml.safe_load((out / "merger.yaml").read_text())["provenance"]["notes"]) == 300


def test_a_search_fills_in_what_was_selected_on(merged):
    """The selection replaces the sentence, twice if need be, and stands in merger.yaml too."""
    out, _ = merged
    fill_selection(out, {"tasks": "ded", "items": 7})
    fill_selection(out, {"tasks": "ded, ind", "items": 100})
    text = (out / "README.md").read_text()
    assert "- tasks: ded, ind" in text
    assert "given by hand" not in text
    assert "- items: 7" not in text
    assert "a copy, dropped" in text
    facts = yaml.safe_load((out / "merger.yaml").read_text())["provenance"]
    assert facts["selected_on"] == {"tasks": "ded, ind", "items": 100}
