"""Tied embeddings: one storage, once.

A model whose output head is its input embedding stores one of the two (or, carelessly, a copy of it
under both names). Merging the copies apart, or a tied model with an untied one, gives a file that a
loader reads in one of two ways. So copies are dropped and named, and sources that disagree refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from merger.checkpoint.fingerprint import tensor_digest
from merger.checkpoint.folder import stating
from merger.checkpoint.reader import Checkpoint
from merger.errors import MismatchError

_EMBED: tuple[str, ...] = (
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
)
_EMBED += ("embed_in.weight", "token_embedding.weight")
_TIE = "tie_word_embeddings"
_HEAD = ("lm_head.weight", "embed_out.weight", "output.weight")


class Ends(NamedTuple):
    """The two ends of one model: tensor names (None where not stored) and whether they are one."""

    embed: str | None
    head: str | None
    tied: bool
    copy: bool  # tied, and stored under both names with equal bytes


class Tied(NamedTuple):
    """What holds for all sources: tied or not, and per source the stored copy to leave out."""

    tied: bool
    dropped: dict[str, str]
    notes: list[str]


def ends_of(checkpoint: Checkpoint) -> Ends:
    """Say whether input and output embedding of a model are one, from its config and its names.

    Reads weights only where the config says tied and both are stored. A config that says tied over
    two different tensors is a MismatchError: loaders disagree on what such a file means.
    """
    embed = _find(checkpoint, _EMBED)
    head = _find(checkpoint, _HEAD)
    said = _config_says(checkpoint)
    if head is None or embed is None:
        return Ends(embed, head, tied=said is not False and head is None, copy=False)
    if said is False or not _equal(checkpoint, embed, head):
        if said:
            law = f"{checkpoint.path}: config.json ties {head} to {embed}, but they differ"
            remedy = "Set tie_word_embeddings to false in its config.json, or drop the wrong one."
            raise MismatchError(law, remedy)
        return Ends(embed, head, tied=False, copy=False)
    return Ends(embed, head, tied=bool(said), copy=bool(said))


def agree(sources: Mapping[str, Checkpoint]) -> Tied:
    """Return what the sources of a merge have in common, or raise a MismatchError with a remedy."""
    ends = {name: ends_of(c) for name, c in sources.items()}
    tied = [n for n, e in ends.items() if e.tied and (e.embed or e.head)]
    loose = [n for n, e in ends.items() if not e.tied and e.embed and e.head]
    if tied and loose:
        law = f"{', '.join(tied)} tied, {', '.join(loose)} with {ends[loose[0]].head} of its own"
        raise MismatchError(law, untie_command(str(sources[tied[0]].path)))
    bare = [n for n, e in ends.items() if e.embed and not e.head and not e.tied]
    if bare and loose:
        law = f"{', '.join(bare)} without {ends[loose[0]].head}, which {', '.join(loose)} has"
        remedy = f"Export it with its head; if that is its embedding, let config.json say {_TIE}."
        raise MismatchError(law, remedy)
    dropped = {n: e.head for n, e in ends.items() if e.copy and e.head}
    notes = [
        f"{n}: {h} is a copy of {ends[n].embed} (tied), stored once" for n, h in dropped.items()
    ]
    return Tied(bool(tied), dropped, notes)


def untie_command(model: str) -> str:
    """Return the remedy for a tied model among untied ones: the command that unties it."""
    code = (
        "import torch; from transformers import AutoModelForCausalLM as M; "
        f"m = M.from_pretrained('{model}', dtype='auto'); m.config.tie_word_embeddings = False; "
        "m.lm_head.weight = torch.nn.Parameter(m.lm_head.weight.detach().clone()); "
        f"m.save_pretrained('{model}-untied')"
    )
    return f'Untie the tied one first: python -c "{code}"'


def _find(checkpoint: Checkpoint, endings: tuple[str, ...]) -> str | None:
    for ending in endings:
        for name in checkpoint.tensors:
            if name == ending or name.endswith("." + ending):
                return name
    return None


def _config_says(checkpoint: Checkpoint) -> bool | None:
    said = stating(checkpoint.config, _TIE).get(_TIE)
    return said if isinstance(said, bool) else None


def _equal(checkpoint: Checkpoint, one: str, two: str) -> bool:
    a, b = checkpoint.tensors[one], checkpoint.tensors[two]
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    step = max(1, (8 << 20) // max(1, a.row_bytes))
    for row in range(0, a.rows, step):
        end = min(row + step, a.rows)
        blocks = (checkpoint.read(n, row, end) for n in (one, two))
        if len({tensor_digest(block) for block in blocks}) > 1:
            return False
    return True
