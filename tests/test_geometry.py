"""Geometry against plain formulas over whole tensors; lineage told from made-up ancestries."""

import json
from itertools import combinations

import pytest
import torch
from typer.testing import CliRunner

from merger.checkpoint import open_checkpoint
from merger.cli import app
from merger.errors import MismatchError
from merger.experts import resolve
from merger.geometry import labels, lineage, measure
from tests.checkpoints import llama_tensors, write_model


def noise(tensors, size, seed, share=1.0):
    """Return the tensors with noise of this relative size on this share of their entries."""
    g = torch.Generator().manual_seed(seed)
    found = {}
    for name, t in tensors.items():
        step = torch.randn(t.shape, generator=g) * size * t.float().square().mean().sqrt()
        found[name] = (t.float() + step * (torch.rand(t.shape, generator=g) < share)).to(t.dtype)
    return found


def opened(folder, models, **settings):
    """Write and open several models."""
    return {n: open_checkpoint(write_model(folder / n, t, **settings)) for n, t in models.items()}


def flat(tensors):
    """Return all entries of a model as one float64 vector, in a fixed order."""
    return torch.cat([tensors[n].double().view(-1) for n in sorted(tensors)])


def test_figures_are_those_of_the_formulas(tmp_path, monkeypatch):
    """Norms, cosines, conflicts, overlap and cast loss equal their definitions, block by block."""
    monkeypatch.setattr("merger.geometry.streamed.BLOCK", 20)  # many blocks per tensor
    base = llama_tensors()
    models = {"base": base, "a": noise(base, 0.1, 1, 0.6), "b": noise(base, 0.003, 2, 0.5)}
    found = opened(tmp_path, models)
    got = measure(found["base"], {n: found[n] for n in "ab"}).total().figures()
    x, tau = flat(base), {n: flat(models[n]) - flat(base) for n in "ab"}
    for i, n in enumerate("ab"):
        t, moved = tau[n], tau[n] != 0
        cast = flat(models[n]).bfloat16().double() - x.bfloat16().double()
        expected = {
            "norm": t.norm(),
            "relative": t.norm() / x.norm(),
            "changed": moved.double().mean(),
            "bf16_survive": (cast[moved] != 0).double().mean(),
            "bf16_error": (cast - t).norm() / t.norm(),
            "base_cosine": torch.cosine_similarity(x, x + t, 0),
        }
        for key, value in expected.items():
            assert got[key][i] == pytest.approx(float(value), rel=1e-4), key
    both = (tau["a"] != 0) & (tau["b"] != 0)
    either = (tau["a"] != 0) | (tau["b"] != 0)
    pair = got["pairs"]["0,1"]
    assert pair["cosine"] == pytest.approx(
        float(torch.cosine_similarity(*tau.values(), 0)), abs=1e-6
    )
    assert pair["overlap"] == pytest.approx(float(both.sum() / either.sum()))
    against = (tau["a"].sign() != tau["b"].sign())[both].double().mean()
    assert pair["conflict"] == pytest.approx(float(against))


def test_parts_add_up_to_the_whole(tmp_path):
    """Modules and layers each cover every tensor once."""
    base = llama_tensors()
    found = opened(tmp_path, {"base": base, "a": noise(base, 0.1, 1)})
    geometry = measure(found["base"], {"a": found["a"]})
    total = geometry.total()
    for groups in (geometry.by_module(), geometry.by_layer(), geometry.tensors):
        assert sum(s.numel for s in groups.values()) == total.numel == flat(base).numel()
        assert sum(s.dots[0, 0] for s in groups.values()) == pytest.approx(total.dots[0, 0])
    assert list(geometry.by_layer()) == ["embed", "head", "layer 0", "layer 1", "norm"]
    assert set(geometry.by_module()) == {"attn", "embed", "head", "mlp", "norm"}


def test_nothing_to_divide_by_is_none(tmp_path):
    """An expert equal to its base has no cosine, no conflict, no cast loss: None, never NaN."""
    found = opened(tmp_path, {"base": llama_tensors(), "a": llama_tensors(), "b": llama_tensors(1)})
    geometry = measure(found["base"], {n: found[n] for n in "ab"})
    figures = geometry.total().figures()
    assert figures["pairs"]["0,1"] == {"cosine": None, "conflict": None, "overlap": 0.0}
    assert figures["bf16_survive"][0] is None
    assert "NaN" not in json.dumps(geometry.to_json())
    assert lineage(geometry)[0].kind == "identical"


@pytest.mark.parametrize("sample", [None, 16_384])
@pytest.mark.parametrize("ground", ["base", "ded", "ind", "abd"])
def test_embedded_siblings_are_no_base(ground, sample):
    """Any embedded expert as base of the two others is told, though training drifts."""
    found = {n: open_checkpoint(resolve(n).path) for n in {ground, "ded", "ind", "abd"}}
    experts = {n: found[n] for n in ("ded", "ind", "abd") if n != ground}
    for pair in combinations(experts, 2):
        two = {n: found[n] for n in pair}
        verdicts = lineage(measure(found[ground], two, base_name=ground, sample=sample))
        expected = "fine" if ground == "base" else "sibling base"
        assert {v.kind for v in verdicts} == {expected}


def test_what_is_related_by_right_is_no_sibling(tmp_path):
    """A merge beside one of its parts, or two trainings alike in some layers alone, are fine."""
    base = noise(llama_tensors(layers=4), 1.0, 8)
    one, two = noise(base, 0.2, 1), noise(base, 0.2, 2)
    joined = {n: one[n] + two[n] - base[n] for n in base}
    near = {n: (one if n.split(".")[2:3] in (["0"], ["1"]) else two)[n] for n in base}
    found = opened(tmp_path, {"base": base, "one": one, "joined": joined, "near": near})
    for other in ("joined", "near"):
        geometry = measure(found["base"], {n: found[n] for n in ("one", other)})
        assert geometry.total().figures()["pairs"]["0,1"]["cosine"] > 0.4
        assert "sibling base" not in {v.kind for v in lineage(geometry)}


@pytest.mark.parametrize("sample", [None, 40])
def test_kin_and_strangers_are_told_apart(tmp_path, sample):
    """Small changes are fine, another seed is foreign; a sample of rows gives the same verdict."""
    base = llama_tensors()
    models = {"base": base, "rl": noise(base, 0.001, 1, 0.2), "sft": noise(base, 0.1, 2)}
    found = opened(tmp_path, models | {"other": llama_tensors(9)})
    experts = {n: c for n, c in found.items() if n != "base"}
    verdicts = {v.expert: v for v in lineage(measure(found["base"], experts, sample=sample))}
    assert {n: v.kind for n, v in verdicts.items()} == {
        "rl": "fine",
        "sft": "fine",
        "other": "foreign",
    }
    assert not verdicts["other"].ok
    assert verdicts["other"].text.startswith("other: foreign to base")


def test_a_wrong_base_shows_in_the_common_direction(tmp_path):
    """Experts of a fine-tune, compared with its ancestor, all point the same way."""
    old = llama_tensors()
    base = noise(old, 0.1, 5)
    found = opened(
        tmp_path, {"old": old, "base": base, "a": noise(base, 0.03, 1), "b": noise(base, 0.03, 2)}
    )
    experts = {n: found[n] for n in "ab"}
    assert {v.kind for v in lineage(measure(found["base"], experts))} == {"fine"}
    assert {v.kind for v in lineage(measure(found["old"], experts))} == {"wrong base"}


def test_a_sibling_as_base_is_told(tmp_path):
    """Another expert in the place of the base: all others share its own way, turned round."""
    base = llama_tensors()
    models = {n: noise(base, 0.2, i) for i, n in enumerate("abc")}
    found = opened(tmp_path, {"base": base} | models)
    for names in ("ab", ("base", "a", "b")):
        verdicts = lineage(measure(found["c"], {n: found[n] for n in names}, base_name="c"))
        assert {v.kind for v in verdicts} == {"sibling base"}
    assert "base lies at its end" in verdicts[0].why


def test_a_step_of_another_run_is_told(tmp_path):
    """Two steps of one run point one way, a third expert another: only the two are told."""
    base = llama_tensors()
    early = noise(base, 0.05, 1)
    late = {n: t + 0.5 * (t - base[n]) for n, t in noise(early, 0.01, 2).items()}
    found = opened(tmp_path, {"base": base, "early": early, "late": late, "c": noise(base, 0.1, 3)})
    experts = {n: found[n] for n in ("early", "late", "c")}
    verdicts = {v.expert: v for v in lineage(measure(found["base"], experts))}
    assert {n: v.kind for n, v in verdicts.items()} == {
        "early": "same run",
        "late": "same run",
        "c": "fine",
    }
    assert "the run of late" in verdicts["early"].why


def test_golden_siblings_are_no_base(shared_data):
    """With any golden expert as base, the others are told to be its siblings; with base, none."""
    folder = shared_data / "golden" / "mergekit"
    found = {n: open_checkpoint(folder / n) for n in ("base", "ded", "ind", "abd")}
    for ground in found:
        experts = {n: c for n, c in found.items() if n not in (ground, "base")}
        verdicts = lineage(measure(found[ground], experts, base_name=ground))
        expected = "fine" if ground == "base" else "sibling base"
        assert {v.kind for v in verdicts} == {expected}


def test_a_lone_expert_far_away_is_told(tmp_path):
    """One expert alone cannot show a common direction, but its distance can be told."""
    base = llama_tensors()
    found = opened(tmp_path, {"base": base, "a": noise(base, 0.7, 1)})
    (verdict,) = lineage(measure(found["base"], {"a": found["a"]}))
    assert (verdict.kind, verdict.ok) == ("far", False)


def test_what_cannot_be_compared_is_named(tmp_path):
    """Missing, misshapen and whole-number tensors are left out, and each is told."""
    base = llama_tensors() | {"ids": torch.arange(3)}
    other = noise(llama_tensors(), 0.1, 1) | {
        "extra": torch.ones(2),
        "lm_head.weight": torch.ones(3, 8),
    }
    del other["model.norm.weight"]
    found = opened(tmp_path, {"base": base, "a": other})
    geometry = measure(found["base"], {"a": found["a"]})
    text = "\n".join(geometry.notes)
    for name in ("ids", "lm_head.weight", "model.norm.weight", "extra"):
        assert name in text
        assert name not in geometry.tensors


def test_strangers_in_name_are_an_error(tmp_path):
    """Models that share no tensor cannot be compared at all."""
    models = {"base": llama_tensors(), "a": {"x": torch.ones(2)}, "b": llama_tensors(1)}
    found = opened(tmp_path, models)
    with pytest.raises(MismatchError, match="base and a share no tensor"):
        measure(found["base"], {n: found[n] for n in "ab"})


def test_half_formats_are_compared_in_float32(tmp_path):
    """A bf16 expert of an fp32 base is measured, and nothing of it is lost by a bf16 cast."""
    base = {n: t.bfloat16().float() for n, t in llama_tensors().items()}
    expert = {n: t.bfloat16() for n, t in noise(base, 0.1, 1).items()}
    found = opened(tmp_path, {"base": base, "a": expert})
    figures = measure(found["base"], {"a": found["a"]}).total().figures()
    assert figures["bf16_survive"][0] == 1
    assert figures["bf16_error"][0] == 0


def test_the_commands_print_tables_and_json(tmp_path):
    """`diff`, `inspect` and `experts` stay within 80 columns; --json is one document."""
    base = llama_tensors()
    opened(tmp_path, {"base": base, "a": noise(base, 0.1, 1), "b": noise(base, 0.1, 2)})
    paths = [str(tmp_path / n) for n in ("base", "a", "b")]
    for command in (["diff", *paths], ["inspect", paths[0], "--tensors"], ["experts"]):
        shown = CliRunner().invoke(app, command)
        assert shown.exit_code == 0, shown.output
        assert max(map(len, shown.stdout.splitlines())) <= 80
        told = CliRunner().invoke(app, [*command, "--json"])
        assert isinstance(json.loads(told.stdout), dict)
    document = json.loads(CliRunner().invoke(app, ["diff", *paths, "--json"]).stdout)
    assert [v["kind"] for v in document["lineage"]] == ["fine", "fine"]
    assert document["experts"] == paths[1:]


def test_experts_of_one_folder_name_have_a_row_each(tmp_path):
    """`diff` of runs that lie in folders of one name shows each, under what tells it apart."""
    base = llama_tensors()
    for i, run in enumerate(("base", "one", "two")):
        write_model(tmp_path / run / "model", noise(base, 0.1, i) if i else base)
    paths = [str(tmp_path / run / "model") for run in ("base", "one", "two")]
    shown = CliRunner().invoke(app, ["diff", *paths]).stdout
    for row in (" all     one/model ", "         two/model ", " all     one/model · two/model "):
        assert row in shown


def test_labels_are_as_short_as_tells_them_apart():
    """The last part of a path, or more of it; what is one path stays one label."""
    assert labels(["x/a", "y/b/"]) == ["a", "b"]
    assert labels(["x/a", "y/a"]) == ["x/a", "y/a"]
    assert labels(["a", "a/", "x/a"]) == ["a", "a", "x/a"]


def test_the_golden_sparse_expert_is_seen_as_sparse(shared_data):
    """The golden expert that RL made sparse differs from the base in 30 percent of its entries."""
    folder = shared_data / "golden" / "mergekit"
    found = {n: open_checkpoint(folder / n) for n in ("base", "ded", "abd")}
    geometry = measure(found["base"], {n: found[n] for n in ("ded", "abd")})
    assert geometry.total().figures()["changed"][1] == pytest.approx(0.3, abs=0.01)
    assert all(v.ok for v in lineage(geometry))


def test_pairs_are_symmetric(tmp_path):
    """Sums of a pair do not depend on which expert is named first."""
    base = llama_tensors()
    found = opened(
        tmp_path, {"base": base, **{n: noise(base, 0.1, i) for i, n in enumerate("abc")}}
    )
    sums = measure(found["base"], {n: found[n] for n in "abc"}).total()
    for i, j in combinations(range(3), 2):
        assert sums.dots[i, j] == pytest.approx(sums.dots[j, i])
        assert sums.both[i, j] == sums.both[j, i]


def test_a_merge_warns_of_a_stranger(tmp_path, monkeypatch):
    """A foreign expert is merged as asked, with a warning; kin is merged without one."""
    base = llama_tensors()
    opened(tmp_path, {"base": base, "kin": noise(base, 0.01, 1), "other": llama_tensors(9)})
    monkeypatch.chdir(tmp_path)
    flags = ["merge", "--method", "task_arithmetic", "--base", "base", "--json"]
    for expert, doubts in (("kin", 0), ("other", 1)):
        told = CliRunner().invoke(app, [*flags, "--expert", f"{expert}=1.0", f"out-{expert}"])
        assert told.exit_code == 0, told.output
        assert len(json.loads(told.stdout)["lineage"]) == doubts
        assert ("warning: other: foreign" in told.stderr) == bool(doubts)


def test_values_that_are_no_numbers_are_told(tmp_path):
    """A NaN in an expert is a verdict, not a figure."""
    base, broken = llama_tensors(), llama_tensors()
    broken["lm_head.weight"][0, 0] = float("nan")
    found = opened(tmp_path, {"base": base, "a": broken})
    geometry = measure(found["base"], {"a": found["a"]})
    (verdict,) = lineage(geometry)
    assert (verdict.ok, "not finite" in verdict.why) == (False, True)
    assert json.loads(json.dumps(geometry.to_json(), allow_nan=False))["total"]["norm"] == [None]
