"""The settings of RL: presets are the papers', options are checked before anything is loaded."""

import json
from importlib.resources import files
from pathlib import Path

import pytest

from merger.errors import RecipeError, UnknownNameError
from recipes.rl.feed import open_source
from recipes.rl.settings import STAGE_A, STAGE_C, as_record, make_settings


def test_stage_a_is_the_papers():
    """32 prompts of 4 answers, lr 5e-7, temperature 0.7, KL 0.001, clip 0.2, entropy 0.001."""
    s = make_settings(STAGE_A, {"task": "deduction"})
    assert (s.prompts_per_step, s.group, s.lr, s.temperature) == (32, 4, 5e-7, 0.7)
    assert (s.beta, s.clip, s.entropy, s.reward) == (1e-3, 0.2, 1e-3, "paper")
    assert s.algorithm == "reinforce++"


def test_stage_c_is_simple_rl_zoos():
    """1,024 prompts of 8 answers in 4 updates, lr 5e-7, KL 1e-4, one point for a right answer."""
    s = make_settings(STAGE_C, {"task": "arithmetic"})
    assert (s.prompts_per_step, s.group, s.updates, s.lr) == (1024, 8, 4, 5e-7)
    assert (s.beta, s.reward, s.algorithm, s.temperature) == (1e-4, "binary", "grpo", 1.0)


def test_yaml_without_a_point_is_a_number_all_the_same():
    """1e-4 is a text to YAML and a learning rate to us; a whole number is a float too."""
    s = make_settings(STAGE_A, {"task": "deduction", "lr": "1e-4", "temperature": 1})
    assert (s.lr, s.temperature) == (1e-4, 1.0)


def test_one_level_may_stand_alone():
    """levels: 2 means levels: [2]."""
    assert make_settings(STAGE_A, {"task": "deduction", "levels": 2}).levels == (2,)


@pytest.mark.parametrize(
    ("options", "law"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"group": 1}, "group is 1"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"replay": 2.0}, "replay is 2"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"algorithm": "ppo"}, "'ppo'"),
        ({"levels": ["one"]}, "levels"),
        ({"micro_batch": 3}, "does not divide the 128"),
        ({"updates": 3}, "128 answers a step do not divide into 3 updates"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(options, law):
    """Each law names the key and the value."""
    with pytest.raises(RecipeError, match=law):
        make_settings(STAGE_A, {"task": "deduction"} | options)


def test_a_misspelt_setting_names_the_one_meant():
    """Keys and rewards are answered with the nearest known name."""
    for options, near in (({"temprature": 1}, "temperature"), ({"reward": "papr"}, "paper")):
        with pytest.raises(UnknownNameError) as caught:
            make_settings(STAGE_A, {"task": "deduction"} | options)
        assert f"Did you mean {near!r}" in caught.value.remedy


def test_a_file_of_items_is_gone_through_once_a_round(tmp_path):
    """Every item of a level comes once before any comes twice, in another order each round."""
    file = tmp_path / "items.jsonl"
    file.write_text("".join(f'{{"prompt": "{i} + 1", "answer": "{i + 1}"}}\n' for i in range(9)))
    source = open_source(make_settings(STAGE_C, {"task": str(file), "check": "number"}))
    (level,) = source.levels
    rounds = [[source.draw(level, 9 * r + i).prompt for i in range(9)] for r in range(2)]
    assert len(set(rounds[0])) == len(set(rounds[1])) == 9
    assert rounds[0] != rounds[1]
    (task,) = source.tasks.values()
    assert task.check("so it is 4", source.draw(level, 0)).format


def test_the_record_holds_the_content_of_a_file(tmp_path):
    """Another file of the same name is another run; the record is plain JSON."""
    file = tmp_path / "items.jsonl"
    marks = []
    for answer in ("2", "3"):
        file.write_text(json.dumps({"prompt": "1 + 1", "answer": answer}))
        record = as_record(make_settings(STAGE_C, {"task": str(file)}))
        marks.append(json.loads(json.dumps(record))["items"])
    assert marks[0] != marks[1]


@pytest.mark.parametrize("path", sorted(Path(str(files("recipes"))).glob("accelerate/*.yaml")))
def test_shipped_launch_configurations_are_accelerates(path):
    """Each is read by accelerate itself, which refuses unknown keys; all shard in bf16."""
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.mixed_precision == "bf16"
    assert str(config.distributed_type).rsplit(".")[-1] in ("FSDP", "DEEPSPEED")


def test_the_engine_is_told_how_vllm_shares_the_gpus(tmp_path):
    """Memory share, parallelism and length reach the arguments of the trainer."""
    pytest.importorskip("trl")
    from recipes.rl.engine import arguments

    told = {"task": "ded", "vllm": True, "vllm_memory": 0.5, "vllm_parallel": 2, "device": "cpu"}
    made = arguments(make_settings(STAGE_A, told), tmp_path)
    assert (made.vllm_mode, made.vllm_gpu_memory_utilization) == ("colocate", 0.5)
    assert (made.vllm_tensor_parallel_size, made.vllm_max_model_length) == (2, 512 + 8192)
    assert not arguments(make_settings(STAGE_A, {"task": "ded"}), tmp_path).use_vllm
