"""A live model as a merge: bit for bit the written one, again and again."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from merger.checkpoint import open_checkpoint
from merger.engine import merge_to_folder, opened
from merger.engine.extract import extract_lora, save_adapter
from merger.errors import MismatchError
from merger.resident import Resident
from merger.spec import merge_spec, spec_from_mapping
from tests.checkpoints import llama_tensors, write_model

WEIGHTS = {"ded": 0.7, "ind": 0.3}


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def family(request, tmp_path, monkeypatch):
    """Write base, ded and ind in one dtype and stand beside them."""
    monkeypatch.chdir(tmp_path)
    base = llama_tensors(0)
    for i, name in enumerate(("base", "ded", "ind")):
        step = llama_tensors(10 + i)
        tensors = {n: (t + 0.05 * i * step[n]).to(request.param) for n, t in base.items()}
        write_model(tmp_path / name, tensors, dtype=str(request.param).split(".")[1])
    return tmp_path


def specs():
    """Return a few merges of the family."""
    trim = {n: {"weight": w, "density": 0.4} for n, w in WEIGHTS.items()}
    return [
        merge_spec("linear", WEIGHTS, base="base"),
        merge_spec("ties", trim, base="base"),
        merge_spec("consensus", trim, base="base", knobs={"consensus": "ram", "scale": 1.3}),
        merge_spec("dare_linear", trim, base="base", knobs={"seed": 3}),
    ]


def resident(folder):
    """Load the base as a live model."""
    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype="auto")
    return Resident(model, ["base", "ded", "ind"])


@pytest.mark.parametrize("index", range(4))
def test_equals_the_written_folder_bit_for_bit(family, index):
    """The live model and the file have one fingerprint, and the file's tensors are in the model."""
    live, spec = resident(family), specs()[index]
    fingerprint = live.apply(spec)
    with opened(spec) as models:
        merge_to_folder(models, family / "out")
    written = open_checkpoint(family / "out")
    assert fingerprint == written.fingerprint() == live.fingerprint()
    state = live.module.state_dict()
    for name, info in written.tensors.items():
        assert torch.equal(state[name], written.read(name).view(info.shape))


@pytest.mark.parametrize("index", range(4))
def test_few_changes_are_held_alone_and_merge_alike(tmp_path, monkeypatch, index):
    """Experts that change an entry in twenty take a fraction of the memory and merge to the bit."""
    monkeypatch.chdir(tmp_path)
    base = {n: t.bfloat16() for n, t in llama_tensors(0).items()}
    for i, name in enumerate(("base", "ded", "ind")):
        step, tensors = llama_tensors(10 + i), {}
        for n, t in base.items():
            few = torch.rand(t.shape, generator=torch.Generator().manual_seed(i)) < 0.05 * i
            tensors[n] = torch.where(few, -t + step[n].bfloat16(), t)
        write_model(tmp_path / name, tensors, dtype="bfloat16")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype="auto")
    lives = [Resident(model, ["base", "ded", "ind"], sparse=s) for s in (False, True)]
    assert len({live.apply(specs()[index]) for live in lives}) == 1
    whole, few = (live._checkpoints["ded"].nbytes for live in lives)
    assert few < whole / 4
    for name in ("ded", "ind"):
        for key in base:
            assert torch.equal(*(live.tensor(name, key) for live in lives))


def test_experts_are_held_by_their_changes_where_memory_is_short(family, monkeypatch):
    """Without a wish the memory there is decides, and a dense change is held whole either way."""
    for free, held in ((0, True), (1 << 60, False)):
        monkeypatch.setattr("merger.resident.free_memory", lambda device, f=free: f)
        live = resident(family)
        assert (live._checkpoints["ded"]._ground is not None) == held
        assert not live._checkpoints["ded"]._places


def test_nothing_builds_up(family):
    """After other merges the first one is the same again: nothing is added to what was there."""
    live = resident(family)
    first = live.apply(specs()[1])
    others = [live.apply(spec) for spec in specs()]
    assert live.apply(specs()[1]) == first
    assert len({first, *others}) == len(specs())


def surveys(live):
    """Count the surveys kept for knobs: those of a tensor, an operator and what it asked for."""
    return sum(len(key) == 3 for key in live._facts)


def test_surveys_are_kept_while_their_knobs_stay(family):
    """New weights at the same density need no new thresholds; a new density does."""
    live = resident(family)
    live.apply(specs()[1])
    known = surveys(live)
    heavier = {n: {"weight": 2 * w, "density": 0.4} for n, w in WEIGHTS.items()}
    live.apply(merge_spec("ties", heavier, base="base"))
    assert surveys(live) == known
    denser = {n: {"weight": w, "density": 0.6} for n, w in WEIGHTS.items()}
    live.apply(merge_spec("ties", denser, base="base"))
    assert surveys(live) == 2 * known


def test_a_model_that_would_round_is_refused(family):
    """A module narrower than the merge is refused: it could not hold what the file holds."""
    model = AutoModelForCausalLM.from_pretrained(family / "base", dtype=torch.float16)
    live = Resident(model, ["base", "ded", "ind"])
    with pytest.raises(MismatchError, match="dtype"):
        live.apply(merge_spec("linear", WEIGHTS, base="base", dtype="float32"))


@pytest.mark.parametrize("mode", ["base", "union"])
def test_other_vocabularies_are_brought_to_the_bases(tmp_path, monkeypatch, mode):
    """With `vocab`, the live model is the folder that a merge of that mode writes, rows and all."""
    monkeypatch.chdir(tmp_path)
    words = {w: i for i, w in enumerate("abcdefghij")}
    for i, (name, added) in enumerate((("base", "xy"), ("ded", "zwy"), ("ind", "xy"))):
        write_model(tmp_path / name, llama_tensors(i))
        extra = [{"id": 10 + n, "content": t, "special": True} for n, t in enumerate(added[:2])]
        table = {"added_tokens": extra, "model": {"vocab": words}}
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(table))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype="auto")
    told = merge_spec("linear", WEIGHTS, base="base").to_mapping()
    spec = spec_from_mapping(told | {"tokenizer_source": mode})
    live = Resident(model, ["base", "ded", "ind"], vocab=mode)
    fingerprint = live.apply(spec)
    with opened(spec) as models:
        merge_to_folder(models, tmp_path / "out")
    assert open_checkpoint(tmp_path / "out").fingerprint() == fingerprint
    assert model.get_input_embeddings().num_embeddings == (12 if mode == "base" else 14)


def test_an_adapter_is_an_expert_of_the_live_model(family):
    """A LoRA folder among the models is read through the base, the first of them."""
    ends = [open_checkpoint(family / n) for n in ("base", "ded")]
    save_adapter(extract_lora(*ends, 8), family / "lora", "base")
    model = AutoModelForCausalLM.from_pretrained(family / "base", dtype=torch.float32)
    live = Resident(model, ["base", "lora"])
    live.apply(merge_spec("linear", {"lora": 1.0}, base="base", dtype="float32"))
    for name, tensor in live.module.state_dict().items():
        torch.testing.assert_close(tensor, ends[1].read(name).view(tensor.shape).float())


def test_a_change_fades_toward_a_model(family):
    """Factor 0 is the base's own tensor, 1 leaves it, 1.5 goes beyond; a new merge forgets it."""
    live, spec = resident(family), specs()[0]
    mark = live.apply(spec)
    before = {n: t.clone() for n, t in live.module.state_dict().items()}
    base = open_checkpoint(family / "base")
    kept = {"mlp": 0.0, "self_attn": 1.5}

    def factor(name):
        return next((v for part, v in kept.items() if part in name), 1.0)

    assert live.fade("base", factor) == live.fingerprint() != mark
    for name in base.tensors:
        ground = base.read(name).view(before[name].shape)
        moved = ground.float() + factor(name) * (before[name].float() - ground.float())
        made = live.module.state_dict()[name]
        assert torch.equal(made, (before[name] if factor(name) == 1 else moved.to(made.dtype)))
    assert live.apply(spec) == mark
