"""The same stage as files for verl, for clusters beyond what one engine here should drive.

OUT gets train.parquet (verl's columns; prompts as messages), reward.py (a `compute_score` that asks
our verifier and nothing else) and launch.sh (the settings in verl's words, checked against 0.9.1).
Departures from training here, each because verl has no place for it: levels follow each other by
number of prompts instead of by promotion, and the reasoning tag is not pre-filled, so reward.py
takes a leading <think> off before it scores. Nothing of verl is imported.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from merger.errors import OutputError, RecipeError
from recipes.rl.curriculum import Curriculum
from recipes.rl.feed import is_file, open_source
from recipes.rl.settings import Settings

REWARD = '''"""The reward of this export, as verl calls it; needs the package `merger` installed."""

from evals.itemfile import item_at
from evals.task import get_task
from recipes.rl.feed import get_reward

REWARD = get_reward({reward!r})


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    """Score one answer; `ground_truth` is the item's address, from which the item is drawn."""
    item = item_at(ground_truth)
    task = get_task(item.task)
    text = solution_str.strip().removeprefix(task.prefill)
    return REWARD(task.check(text, item), f"{{item.id}}/{{text}}")
'''


def export_verl(model: str, out: Path, settings: Settings) -> Path:
    """Write the files of a run for verl into a new folder.

    `model` is passed on as it is. Raises an OutputError where OUT exists, and a RecipeError for a
    file of items, which verl can read itself.
    """
    if is_file(settings.task):
        raise RecipeError(f"{settings.task} is a file of items", "Give it to verl as it is.")
    if out.exists():
        raise OutputError(f"{out} exists", "Choose another OUT or remove it.")
    try:
        from datasets import Dataset
    except ModuleNotFoundError as missing:
        law = "writing parquet needs the package 'datasets'"
        raise RecipeError(law, "Install it: pip install 'merger[rl]'") from missing
    out.mkdir(parents=True)
    Dataset.from_list(list(rows(settings))).to_parquet(str(out / "train.parquet"))
    (out / "reward.py").write_text(REWARD.format(reward=settings.reward))
    (out / "launch.sh").write_text(launch(model, settings))
    return out


def rows(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield verl's rows, easy to hard, as many as the run has prompts."""
    source = open_source(settings)
    curriculum = Curriculum(settings.levels or source.levels, settings)
    for slot in range(settings.steps * settings.prompts_per_step):
        item = source.draw(curriculum.level_of(slot), slot)
        yield {
            "data_source": f"merger/{item.task}",
            "prompt": source.tasks[item.task].messages(item),
            "ability": item.task,
            "reward_model": {"style": "rule", "ground_truth": item.id},
            "extra_info": {"index": item.id, "split": item.split, "level": item.level},
        }
        if (slot + 1) % settings.prompts_per_step == 0:
            curriculum.report(None)


def launch(model: str, settings: Settings) -> str:
    """Return launch.sh: every setting that has a name in verl."""
    s = settings
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    grpo = s.algorithm == "grpo"
    words = {
        "algorithm.adv_estimator": "grpo" if grpo else "reinforce_plus_plus",
        "algorithm.use_kl_in_reward": False,
        "data.train_files": "$HERE/train.parquet",
        "data.val_files": "$HERE/train.parquet",
        "data.shuffle": False,
        "data.train_batch_size": s.prompts_per_step,
        "data.max_prompt_length": s.max_prompt_tokens,
        "data.max_response_length": s.max_new_tokens,
        "data.filter_overlong_prompts": True,
        "actor_rollout_ref.model.path": model,
        f"{actor}.optim.lr": s.lr,
        f"{actor}.ppo_mini_batch_size": s.prompts_per_step // s.updates,
        f"{actor}.use_kl_loss": True,
        f"{actor}.kl_loss_type": "low_var_kl",
        f"{actor}.kl_loss_coef": s.beta,
        f"{actor}.entropy_coeff": s.entropy,
        f"{actor}.loss_agg_mode": "token-mean",
        f"{actor}.clip_ratio": s.clip,
        f"{rollout}.n": s.group,
        f"{rollout}.temperature": s.temperature,
        "reward.custom_reward_function.path": "$HERE/reward.py",
        "trainer.total_epochs": 1,
        "trainer.save_freq": s.save_every,
    }
    lines = " \\\n  ".join(f'{key}="{value}"' for key, value in words.items())
    head = "#!/bin/sh\n# Add nodes, GPUs and paths of your own: sh launch.sh trainer.nnodes=4 …\n"
    here = 'HERE=$(cd "$(dirname "$0")" && pwd)\n'
    return f'{head}{here}python -m verl.trainer.main_ppo \\\n  {lines} "$@"\n'
