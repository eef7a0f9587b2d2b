"""The RL engine: its numbers against the specification, its promises about killed runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pandas import read_parquet
from safetensors.torch import load_file

import evals.task
from merger.engine import merge_to_folder, opened
from merger.errors import OutputError, RecipeError
from merger.spec import spec_from_mapping
from recipes.rl import objectives
from recipes.rl.align import align
from recipes.rl.folder import Workplace
from recipes.rl.packing import pack
from recipes.rl.settings import STAGE_A, STAGE_C, make_settings
from tests import toys

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
SMALL = {"task": "digits", "steps": 2, "prompts_per_step": 4, "group": 4, "lr": 1e-3}
SMALL |= {"temperature": 1.0, "max_new_tokens": 6, "reward": "binary", "save_every": 1}


@pytest.fixture(autouse=True)
def _digits(monkeypatch):
    monkeypatch.setitem(evals.task.TASKS, "digits", toys.DIGITS)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return toys.save_model(tmp_path / "base")


def settings(preset=STAGE_A, **more):
    return make_settings(preset, SMALL | more)


def curve(out: Path) -> list[dict]:
    rows = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def trainer(base: Path, out: Path, chosen, reference: Path | None = None):
    from recipes.rl.engine import make_trainer

    return make_trainer(base, reference or base, chosen, Workplace(out, {}), print)


def batch_of(made, slots):
    """Let a trainer answer and score slots, each `group` times."""
    made.model.train()
    rows = [{"prompt": "", "slot": s} for s in slots for _ in range(made.num_generations)]
    return made._generate_and_score_completions(rows)


def test_the_output_is_a_plain_checkpoint_with_its_story(base, tmp_path):
    """OUT holds float32 weights, the tokenizer's own bytes, a card, the curve and the answers."""
    out = align(base, tmp_path / "out", settings())
    assert {t.dtype for t in load_file(out / "model.safetensors").values()} == {torch.float32}
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (out / name).read_bytes() == (base / name).read_bytes()
    assert [row["step"] for row in curve(out)] == [1, 2]
    card = (out / "README.md").read_text()
    assert "merger align base --task digits --set reward=binary --set steps=2 " in card
    assert len(list((out / "completions").glob("*.parquet"))) == 2
    assert not (tmp_path / "out.partial").exists()


def test_the_weights_have_moved(base, tmp_path):
    """Two steps change the weights; the input folder is left as it was."""
    before = load_file(base / "model.safetensors")
    after = load_file(align(base, tmp_path / "out", settings()) / "model.safetensors")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[k], after[k]) for k in before)
    assert all(torch.equal(v, load_file(base / "model.safetensors")[k]) for k, v in before.items())


def test_a_run_killed_outright_continues_to_the_same_weights(base, tmp_path):
    """Killed by SIGKILL after its third step and started again, it ends bit for bit as another."""
    told = {**SMALL, "task": "arithmetic", "levels": [1], "steps": 5, "max_prompt_tokens": 200}
    code = f"""
import sys; from pathlib import Path; from recipes.rl.align import align
from recipes.rl.settings import STAGE_A, make_settings
align(Path("base"), Path(sys.argv[1]), make_settings(STAGE_A, {told!r}), log=print)
"""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    start = {"cwd": tmp_path, "env": env, "text": True, "stdout": subprocess.PIPE}
    toys.save_model(base, context=1024)
    with subprocess.Popen([sys.executable, "-c", code, "cut"], **start) as running:
        next(line for line in running.stdout if line.startswith("step 3/5"))
        running.kill()
    chosen = make_settings(STAGE_A, told)
    said: list[str] = []
    cut = align(base, tmp_path / "cut", chosen, log=said.append)
    whole = align(base, tmp_path / "whole", chosen)
    assert said[0].startswith("continuing after step ")
    assert curve(cut) == curve(whole)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    for name in sorted(p.name for p in (whole / "completions").iterdir()):
        assert read_parquet(cut / "completions" / name).equals(
            read_parquet(whole / "completions" / name)
        )


def test_a_run_killed_when_its_model_was_whole_only_appears(base, tmp_path, monkeypatch):
    """Killed between the model and its name, a run has nothing left to train."""
    with monkeypatch.context() as patch:
        patch.setattr(Workplace, "appear", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            align(base, tmp_path / "out", settings())
    monkeypatch.setattr("recipes.rl.align._door", lambda: 1 / 0)
    out = align(base, tmp_path / "out", settings())
    assert len(curve(out)) == 2
    assert not (out / "done").exists()


def test_a_left_over_of_other_settings_is_refused(base, tmp_path):
    """OUT.partial of another learning rate is neither continued nor overwritten."""
    place = Workplace(tmp_path / "out", {"lr": 1.0})
    place.open([])
    with pytest.raises(OutputError, match=r"differs in .*lr"):
        align(base, tmp_path / "out", settings())


@pytest.mark.parametrize("harm", ["", "half", "tHe whole of it", None])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, harm):
    """A training goes on from the last checkpoint whose files are all as they were."""
    place = Workplace(tmp_path / "out", {})
    for name in ("checkpoint-9", "checkpoint-10"):
        (place.trainer / name).mkdir(parents=True)
        (place.trainer / name / "scheduler.pt").write_text("the whole of it")
        assert place.checkpoint() == (None if name[-1] == "9" else place.trainer / "checkpoint-9")
        place.seal(name)
    last = place.checkpoint() / "scheduler.pt"
    assert last.parent.name == "checkpoint-10"
    last.unlink() if harm is None else last.write_text(harm)
    assert place.checkpoint().name == "checkpoint-9"


def test_an_existing_output_is_refused(base, tmp_path):
    """A folder that is there is never written into."""
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists"):
        align(base, tmp_path / "out", settings())


def test_advantages_are_those_of_the_specification(base, tmp_path):
    """What the trainer puts into a batch is the token-weighted whitening of its rewards."""
    made = trainer(base, tmp_path / "out", settings(reward="paper", max_new_tokens=40))
    batch = batch_of(made, range(4))
    lengths = batch["completion_mask"].sum(1)
    want = objectives.reinforce_pp_advantage(made._seen[:, 0], lengths)
    assert lengths.unique().numel() > 1
    assert torch.equal(batch["advantages"], want)


def test_grpo_compares_within_groups(base, tmp_path):
    """Stage C's advantage is the specification's group advantage."""
    made = trainer(base, tmp_path / "out", settings(STAGE_C, prompts_per_step=8, updates=2))
    batch = batch_of(made, range(8))
    want = objectives.grpo_advantage(made._seen[:, 0], 4)
    assert torch.allclose(batch["advantages"], want, atol=1e-6)


def test_the_loss_is_that_of_the_specification(base, tmp_path):
    """Summed over its micro batches, TRL's loss is policy_loss of the whole batch."""
    other = toys.save_model(tmp_path / "other", seed=1)
    chosen = settings(beta=0.1, entropy=0.0, reward="paper", micro_batch=4)
    made = trainer(base, tmp_path / "out", chosen, reference=other)
    batch = batch_of(made, range(4))
    made.current_gradient_accumulation_steps = 4
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    kept = batch["completion_ids"].shape[1]
    logits = made.model(input_ids=ids, attention_mask=mask).logits[:, -kept - 1 : -1]
    logp = logits.log_softmax(-1).gather(2, batch["completion_ids"].unsqueeze(2)).squeeze(2)
    reference = batch["ref_per_token_logps"]
    mask = batch["completion_mask"]
    want = objectives.policy_loss(
        *(logp, logp.detach(), reference, batch["advantages"], torch.zeros_like(logp), mask),
        beta=0.1,
        bonus=0.0,
    )
    parts = [{k: v[i : i + 4] if v.dim() else v for k, v in batch.items()} for i in (0, 4, 8, 12)]
    for part in parts:
        part["num_items_in_batch"] = batch["num_items_in_batch"]
    got = sum(made._compute_loss(made.model, part) for part in pack(parts, 4))
    assert (logp.detach() - reference).abs().max() > 0.01
    assert got.item() == pytest.approx(want.item(), abs=1e-6)


def test_the_reference_is_the_frozen_base_whatever_the_policy(base, tmp_path):
    """A policy of a later level is still held to the reference named, not to itself."""
    policy = toys.save_model(tmp_path / "level2", seed=2)
    made = trainer(policy, tmp_path / "out", settings(), reference=base)
    frozen = made.ref_model.get_input_embeddings().weight
    assert torch.equal(frozen, load_file(base / "model.safetensors")["model.embed_tokens.weight"])
    assert not torch.equal(frozen, made.model.get_input_embeddings().weight)


def test_lora_refuses_another_reference(base, tmp_path):
    """With an adapter the base is the reference, so another one cannot be had."""
    other = toys.save_model(tmp_path / "other", seed=1)
    with pytest.raises(RecipeError, match="LoRA"):
        align(base, tmp_path / "out", settings(lora=4), reference=other)


def test_lora_writes_merged_weights_and_an_adapter_that_merges_as_an_expert(base, tmp_path):
    """The base + 1.0 × the adapter's change, by the merge engine, are the weights of the output."""
    out = align(base, tmp_path / "out", settings(lora=4))
    config = {"merge_method": "task_arithmetic", "base_model": str(base), "dtype": "float32"}
    config["models"] = [{"model": str(out / "adapter"), "parameters": {"weight": 1.0}}]
    with opened(spec_from_mapping(config)) as models:
        merge_to_folder(models, tmp_path / "merged")
    before, after, merged = (
        load_file(folder / "model.safetensors") for folder in (base, out, tmp_path / "merged")
    )
    assert before.keys() == after.keys() == merged.keys()
    assert any(not torch.equal(before[k], after[k]) for k in before)
    assert all(torch.allclose(after[k], merged[k], atol=1e-6) for k in after)


def test_two_processes_train_as_one(base, tmp_path, monkeypatch):
    """Two processes give the answers, the batch's advantages and the gradient that one gives."""
    lines = [json.dumps({"prompt": p, "answer": "7"}) for p in ("abc", "bcd", "cde", "def")]
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    told = {"check": "tests.toys:begins_with_digit", "steps": 1, "temperature": 1.0, "group": 6}
    told |= {"prompts_per_step": 4, "max_new_tokens": 6, "device": "cpu"}
    align(base, Path("one"), make_settings(STAGE_A, {"task": "items.jsonl", **told}))
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words += ["-m", "merger.cli", "align", "base", "--task", "items.jsonl", "--out", "two"]
    words += [word for key, value in told.items() for word in ("--set", f"{key}={value}")]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    subprocess.run([sys.executable, *words], env=env, check=True, capture_output=True)
    one, two = (
        read_parquet(Path(out) / "completions" / "completions_00001.parquet")
        for out in ("one", "two")
    )
    assert one["completion"].tolist() == two["completion"].tolist()
    assert one["correct"].nunique() == 2
    assert one["advantage"].tolist() == pytest.approx(two["advantage"].tolist(), abs=1e-6)
    norms = [curve(Path(out))[0]["grad_norm"] for out in ("one", "two")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)  # Adam would hide a gradient's scale


def test_digits_are_learned_in_sixty_steps(tmp_path):
    """A reward for beginning with a digit raises its share from a tenth to most answers."""
    base = toys.save_model(tmp_path / "base", hidden=128, layers=4)
    chosen = settings(steps=60, prompts_per_step=8, save_every=60, max_new_tokens=8)
    rows = curve(align(base, tmp_path / "out", chosen))
    first, last = (sum(r["correct"] for r in part) / 10 for part in (rows[:10], rows[-10:]))
    assert first < 0.3
    assert last > 0.6
