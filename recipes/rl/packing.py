"""Less padding and less reading: the answers to one prompt go through the model side by side.

An aligned model mixes five-token answers with two-hundred-token ones, and each prompt is asked many
times. The policy loss is a mean over all tokens of an update, so how its answers are dealt into
micro batches does not change its gradient. (The entropy bonus is a mean per micro batch, as it was
in the paper's code.)
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor

from recipes.packed import Text, hidden, lay

Batch = dict[str, Any]
_ROOM = 320  # tokens of a prompt and the answers in its row: attention grows with the square


def pack(batches: Sequence[Batch], per_update: int) -> list[Batch]:
    """Deal the rows of each update's micro batches anew, prompt by prompt, and cut the padding.

    Args:
        batches: micro batches of a step, in order, equal in rows and columns; each has
            `prompt_ids` and `prompt_mask` (n, p), padded on the left, `completion_ids` and
            `completion_mask` (n, t), padded on the right, and more of shape (n,), (n, t) or ().
        per_update: micro batches per update of the policy.

    Returns:
        As many batches with as many rows each, short prompts first, of each the short answers
        first; columns of pure padding are gone.
    """
    packed: list[Batch] = []
    for start in range(0, len(batches), per_update):
        group = batches[start : start + per_update]
        whole = {key: _joined([batch[key] for batch in group]) for key in group[0]}
        prompts, lengths = whole["prompt_ids"].tolist(), whole["completion_mask"].sum(1).tolist()
        sizes = whole["prompt_mask"].sum(1).tolist()
        order = sorted(range(len(sizes)), key=lambda i: (sizes[i], prompts[i], lengths[i]))
        for rows in torch.tensor(order).split(len(group[0]["prompt_ids"])):
            packed.append(_cut(whole, rows, max(sizes[i] for i in rows)))
    return packed


def _cut(whole: Batch, rows: Tensor, longest: int) -> Batch:
    """Take a batch's rows, and of the texts the columns that any of them fills."""
    kept = max(1, int(whole["completion_mask"][rows].sum(1).max()))

    def part(key: str, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.dim():
            return value
        if value.dim() == 1:
            return value[rows]
        return value[rows, -longest:] if key.startswith("prompt_") else value[rows, :kept]

    return {key: part(key, value) for key, value in whole.items()}


def _joined(values: Sequence[Any]) -> Any:
    """Concatenate what has rows; a number that stands for the whole step is the same in each."""
    first = values[0]
    return torch.cat(list(values)) if isinstance(first, Tensor) and first.dim() else first


def answer_logps(
    net: Any, ids: Tensor, mask: Tensor, kept: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return log-probability and entropy of each answer's tokens, (n, kept), 0 where none is.

    Args:
        net: a model that `recipes.packed` supports.
        ids: (n, columns): prompts, padded on the left, then answers, padded on the right.
        mask: (n, columns), 1 where there is a token.
        kept: columns of the answers.
        temperature: what the logits are divided by.
    """
    at = ids.shape[1] - kept
    filled = mask.bool()
    prompts, answers = (
        [row[keep].tolist() for row, keep in zip(ids[:, part], filled[:, part], strict=True)]
        for part in (slice(at), slice(at, None))
    )
    texts, where = _rows(prompts, answers)
    run, sources = lay(texts), []
    for prompt, answer, (row, offset) in zip(prompts, answers, where, strict=True):
        first = run.starts[row]  # the prompt's last place says the answer's first token
        said = range(first + offset, first + offset + len(answer) - 1)
        sources += [first + len(prompt) - 1, *said][: len(answer)]
    filled = filled[:, at:]
    logits = F.linear(hidden(net, run)[torch.tensor(sources)], net.lm_head.weight) / temperature
    logp = logits.log_softmax(-1)
    empty = logp.new_zeros(len(ids), kept)
    chosen = empty.masked_scatter(filled, logp.gather(1, ids[:, at:][filled][:, None]))
    return chosen, empty.masked_scatter(filled, -(logp.exp() * logp).sum(-1))


def _rows(
    prompts: Sequence[list[int]], answers: Sequence[list[int]]
) -> tuple[list[Text], list[tuple[int, int]]]:
    """Put answers behind their prompt while there is room; say row and offset of each answer."""
    texts: list[Text] = []
    where: list[tuple[int, int]] = []
    open_row: dict[tuple[int, ...], int] = {}
    for prompt, answer in zip(prompts, answers, strict=True):
        row = open_row.get(tuple(prompt))
        if row is None or len(texts[row].tokens) + len(answer) > _ROOM:
            row = open_row[tuple(prompt)] = len(texts)
            texts.append(Text([*prompt], [*range(len(prompt))], [0] * len(prompt)))
        text = texts[row]
        where.append((row, len(text.tokens)))
        part = text.parts[-1] + 1
        text.tokens.extend(answer)
        text.places.extend(range(len(prompt), len(prompt) + len(answer)))
        text.parts.extend([part] * len(answer))
    return texts, where
