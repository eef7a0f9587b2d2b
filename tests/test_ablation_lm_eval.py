"""Ablations from files to report, of a config and of a search, on a local task of lm-eval."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import merger
from merger.screen import Screen
from search.ablation_run import ablate
from search.asked import Wanted
from tests.toys import save_model

TASK = "lm_eval:toy_choice@acc"
SECTIONS = "scoreboard,leave_one_out,shapley,who_solves,method"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Write a task of 60 documents with three choices, and work beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    rows = [
        {"question": f"{i} + 1 =", "options": [str(i + 1), str(i), "no"], "gold": i % 3}
        for i in range(60)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "toy_choice",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "data.jsonl")}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "question",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "yaml").mkdir()
    (tmp_path / "yaml" / "toy.yaml").write_text(yaml.safe_dump(task))
    return tmp_path


def config(here, experts):
    """Write a base, experts that are the base with noise, and a config that averages them."""
    base = load_file(save_model(here / "base", layers=1) / "model.safetensors")
    names = [f"e{i}" for i in range(experts)]
    for seed, name in enumerate(names):
        save_model(here / name, layers=1)
        noise = torch.Generator().manual_seed(seed)
        noisy = {n: t + 0.02 * torch.randn(t.shape, generator=noise) for n, t in base.items()}
        save_file(noisy, here / name / "model.safetensors", metadata={"format": "pt"})
    models = [{"model": n, "parameters": {"weight": 1 + i}} for i, n in enumerate(names)]
    spec = {"merge_method": "linear", "base_model": "base", "models": models, "dtype": "float32"}
    (here / "merge.yaml").write_text(yaml.safe_dump(spec))
    return here / "merge.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("experts", [2, 8])
def test_a_config_is_taken_apart_on_a_task_of_lm_eval(here, experts, monkeypatch):
    """Every number has its n and interval; what a plan announces is paid, and never again."""
    import lm_eval

    run, documents, place = lm_eval.evaluate, [], config(here, experts)
    monkeypatch.setattr(
        lm_eval, "evaluate", lambda **k: documents.extend(*k["samples"].values()) or run(**k)
    )
    wanted = Wanted(sections=SECTIONS, quick=True, tasks=TASK, include_path="yaml", items=20,
                    out=here / "run")  # fmt: skip
    plan = ablate(place, Wanted(**vars(wanted) | {"plan": True}), Screen())["plan"]
    announced, before = sum(p["answers"] for p in plan.values()), len(documents)
    report = ablate(place, wanted, Screen())
    paid = len(documents) - before
    assert 0 < paid <= announced  # two merges may turn out to have the same weights
    sections = report["sections"]
    board, against = (t["rows"] for t in sections["scoreboard"]["tables"])
    assert {row["n"] for row in board} == {20}
    assert any(row["value"] > 0 for row in board)
    missed = sections["leave_one_out"]["tables"][0]["rows"]
    for row in (*against, *missed):
        assert row["n"] == 20
        assert row["ci95"][0] <= row["difference"] <= row["ci95"][1]
        assert row["p"] <= row["p_holm"] <= 1
    assert sum(row["name"].endswith("to base") for row in missed) == experts
    *shares, total = sections["shapley"]["tables"][0]["rows"]
    assert len(shares) == experts
    assert sum(row["value"] for row in shares) == pytest.approx(total["value"])
    assert all(row["ci95"][0] <= row["value"] <= row["ci95"][1] for row in shares)
    assert sum(row["items"] for row in sections["who_solves"]["tables"][0]["rows"]) == 20
    looks = sections["method"]["tables"][1]["rows"]
    assert sum(row["answers"] for row in looks) == paid
    monkeypatch.setattr(lm_eval, "evaluate", lambda **k: pytest.fail("paid twice"))
    monkeypatch.setattr("search.live.LiveMerge.apply", lambda *a: pytest.fail("merged again"))
    again = ablate(place, wanted, Screen())
    assert again["sections"] == sections


@pytest.mark.slow
def test_a_search_on_a_task_of_lm_eval_is_taken_apart(here, monkeypatch):
    """Every section is made, or says what it lacks; what the search has paid for is free."""
    import lm_eval

    config(here, 3)
    run = here / "searched"
    asked = {"base": "base", "tasks": TASK, "include_path": "yaml", "items": "10+20", "seed": 0}
    asked |= {"racing": "none", "sampler": "random", "allow_lineage": True}
    merger.search("e0,e1,e2", run, trials=9, warm="none", **asked)
    plan = ablate(run, Wanted(quick=True, plan=True), Screen())["plan"]
    assert plan["shapley_uniform"]["answers"] == 0 < plan["operators"]["answers"]
    sections = ablate(run, Wanted(quick=True), Screen())["sections"]
    missing = {name for name, found in sections.items() if found.get("missing")}
    assert missing == {"oracle", "robustness", "domain"}
    rows = [row for s in sections.values() for t in s["tables"] for row in t["rows"]]
    tested = [row for row in rows if "p_holm" in row and "verdict" in row]
    assert len(tested) > 40
    assert all(row["ci95"][0] <= row["difference"] <= row["ci95"][1] for row in tested)
    monkeypatch.setattr(lm_eval, "evaluate", lambda **k: pytest.fail("paid twice"))
    ablate(run, Wanted(quick=True), Screen())
