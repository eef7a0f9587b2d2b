"""Packing: the same rows in other batches, with the padding gone."""

import torch

from recipes.rl.packing import pack

PROMPTS, ANSWERS = [3, 1, 2, 4], [1, 5, 2, 3]


def batch():
    """Four rows, numbered by their reward: prompts padded left, answers right."""
    p, t = max(PROMPTS), max(ANSWERS)
    return {
        "prompt_ids": torch.tensor([[0] * (p - n) + [9] * n for n in PROMPTS]),
        "prompt_mask": torch.tensor([[0] * (p - n) + [1] * n for n in PROMPTS]),
        "completion_ids": torch.tensor([[8] * n + [0] * (t - n) for n in ANSWERS]),
        "completion_mask": torch.tensor([[1] * n + [0] * (t - n) for n in ANSWERS]),
        "advantages": torch.arange(4.0),
        "old_per_token_logps": torch.arange(4.0).unsqueeze(1).expand(4, t),
        "num_items_in_batch": torch.tensor(11),
    }


def halves():
    whole = batch()
    return [{k: v[i : i + 2] if v.dim() else v for k, v in whole.items()} for i in (0, 2)]


def test_rows_are_kept_and_sorted_by_their_prompts():
    """Each row comes out once, the two of the shortest prompts in the first batch."""
    packed = pack(halves(), 2)
    assert [b["advantages"].tolist() for b in packed] == [[1.0, 2.0], [0.0, 3.0]]


def test_answers_to_one_prompt_are_side_by_side():
    """Of two prompts asked in turn, each batch holds one, its shorter answers first."""
    whole = batch()
    whole["prompt_ids"] = torch.tensor([[7, 7], [6, 6], [7, 7], [6, 6]])
    whole["prompt_mask"] = torch.ones(4, 2, dtype=torch.long)
    parts = [{k: v[i : i + 2] if v.dim() else v for k, v in whole.items()} for i in (0, 2)]
    assert [b["advantages"].tolist() for b in pack(parts, 2)] == [[3.0, 1.0], [0.0, 2.0]]


def test_columns_of_pure_padding_are_gone():
    """Every remaining first prompt column and last answer column holds a token."""
    for part in pack(halves(), 2):
        assert part["prompt_mask"][:, 0].any()
        assert part["completion_mask"][:, -1].any()
        assert part["old_per_token_logps"].shape == part["completion_ids"].shape


def test_no_token_is_lost():
    """The tokens of prompts and answers are those that went in; numbers of a step stay."""
    packed = pack(halves(), 2)
    assert sum(int(b["prompt_mask"].sum()) for b in packed) == sum(PROMPTS)
    assert sum(int((b["completion_ids"] == 8).sum()) for b in packed) == sum(ANSWERS)
    assert all(int(b["num_items_in_batch"]) == 11 for b in packed)


def test_updates_do_not_mix():
    """With one micro batch per update, rows stay in the update they were in."""
    packed = pack(halves(), 1)
    assert [sorted(b["advantages"].tolist()) for b in packed] == [[0.0, 1.0], [2.0, 3.0]]
