"""The files for verl: the same items, the same reward, the settings in verl's words."""

import importlib.util
import json
from pathlib import Path

import pytest

from evals.task import draw_item, get_task
from merger.errors import OutputError, RecipeError
from recipes.rl import settings as presets
from recipes.rl.export_verl import REWARD, export_verl, launch, rows
from recipes.rl.settings import STAGE_A, make_settings

GOLDEN = Path(__file__).parent / "golden" / "verl.json"
SMALL = {"task": "arithmetic", "levels": [1, 2], "steps": 4, "prompts_per_step": 3, "replay": 0.0}


def settings(preset=STAGE_A, **more):
    return make_settings(preset, SMALL | {"group": 4, "updates": 1} | more)


def test_rows_go_from_easy_to_hard_and_hold_what_verl_reads():
    """Half of the steps are of each level; every row has verl's five columns."""
    table = list(rows(settings()))
    assert [r["extra_info"]["level"] for r in table] == [1] * 6 + [2] * 6
    assert {"data_source", "prompt", "ability", "reward_model", "extra_info"} == table[0].keys()
    assert [m["role"] for m in table[0]["prompt"]] == ["system", "user"]


def test_the_reward_file_scores_as_training_here_does(tmp_path):
    """compute_score draws the item from its address: +3 for the right answer, -1 for another."""
    (tmp_path / "reward.py").write_text(REWARD.format(reward="paper"))
    spec = importlib.util.spec_from_file_location("reward", tmp_path / "reward.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    row = next(rows(settings()))
    address = row["reward_model"]["ground_truth"]
    item = draw_item(get_task("arithmetic"), level=1, split="train", seed=0, index=0)
    right = f"<think>so</think><answer>{item.answer}</answer>"
    assert item.id == address
    assert module.compute_score("", right, address) == 3.0
    assert module.compute_score("", right.removeprefix("<think>"), address) == 3.0
    assert module.compute_score("", "<think></think><answer>x</answer>", address) == -1.0


@pytest.mark.parametrize("preset", ["STAGE_A", "STAGE_C"])
def test_the_files_are_what_they_were(preset):
    """First row, reward file and launch line of both stages equal the committed snapshot.

    verl checks no key, so a misspelt one would train with a default; the words were held against
    the configuration of verl 0.9.1.
    """
    chosen = settings(getattr(presets, preset), task="ded", prompts_per_step=8)
    told = {"launch.sh": launch("org/model", chosen).splitlines()}
    told["reward.py"] = REWARD.format(reward=chosen.reward).splitlines()
    first = next(rows(chosen))
    told["row"] = first | {"prompt": [message["role"] for message in first["prompt"]]}
    assert json.loads(json.dumps(told)) == json.loads(GOLDEN.read_text())[preset]


def test_the_folder_is_written_once(tmp_path):
    """An existing folder is refused, and so is a file of items."""
    out = export_verl("org/model", tmp_path / "out", settings())
    assert {p.name for p in out.iterdir()} == {"train.parquet", "reward.py", "launch.sh"}
    with pytest.raises(OutputError, match="exists"):
        export_verl("org/model", out, settings())
    file = tmp_path / "items.jsonl"
    file.write_text('{"prompt": "1 + 1", "answer": "2"}')
    with pytest.raises(RecipeError, match="file of items"):
        export_verl("org/model", tmp_path / "no", make_settings(STAGE_A, {"task": str(file)}))
