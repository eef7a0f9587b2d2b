"""Tied embeddings: one storage, once.

A model whose output head is its input embedding stores one of the two (or, carelessly, a copy of it
under both names). Merging the copies apart, or a tied model with an untied one, gives a file that a
loader reads in one of two ways. So copies are dropped and named, and sources that disagree refused.
"""

from collections.abc import Mapping
from typing import NamedTuple

from merger.checkpoint.folder import stating
from merger.checkpoint.reader import Checkpoint
from merger.errors import MismatchError

_EMBED = (
    *("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "tok_embeddings.weight"),
    *("embed_in.weight", "token_embedding.weight"),
)
_HEAD = ("lm_head.weight", "embed_out.weight", "output.weight")
_TIE = "tie_word_embeddings"


class Ends(NamedTuple):
    """The two ends of one model: tensor names (None where not stored) and whether they are one."""

    embed: str | None
    head: str | None
    tied: bool
    copy: bool  # tied, and stored under both names with equal bytes


def ends_of(checkpoint: Checkpoint) -> Ends:
    """Say whether input and output embedding of a model are one, from its config and its names.

    Reads weights only where the config says tied and both are stored. A config that says tied over
    two different tensors is a MismatchError: loaders disagree on what such a file means.
    """
    embed = _find(checkpoint, _EMBED)
    head = _find(checkpoint, _HEAD)
    said = stating(checkpoint.config, _TIE).get(_TIE)
    said = said if isinstance(said, bool) else None
    if head is None or embed is None:
        return Ends(embed, head, tied=said is not False and head is None, copy=False)
    if said and _content(checkpoint, embed) != _content(checkpoint, head):
        law = f"{checkpoint.path}: config.json ties {head} to {embed}, but they differ"
        remedy = f"Set {_TIE} to false in its config.json, or drop the wrong one."
        raise MismatchError(law, remedy)
    return Ends(embed, head, tied=bool(said), copy=bool(said))


def agree(sources: Mapping[str, Checkpoint]) -> dict[str, str]:
    """Return, per source of a merge, the stored copy of a tied embedding that is to be left out.

    Raises a MismatchError with a remedy for sources that disagree on what is tied.
    """
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
    return {n: e.head for n, e in ends.items() if e.copy and e.head}


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
    fitting = (n for e in endings for n in checkpoint.tensors if f".{n}".endswith(f".{e}"))
    return next(fitting, None)


def _content(checkpoint: Checkpoint, name: str) -> tuple[object, ...]:
    info = checkpoint.tensors[name]
    return info.dtype, info.shape, checkpoint.digest(name)
