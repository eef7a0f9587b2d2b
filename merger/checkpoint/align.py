"""Models of different vocabularies brought to one, token by token: `--vocab base` or `union`.

`base` keeps the donor's tokens: rows of other models are found by token, tokens they lack take the
donor's row (no change there), tokens the donor lacks are dropped and named. `union` also keeps
tokens that others added, at new ids; a token of a single model keeps that model's row. Nothing is
cropped by position, and every row that moves is told.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from merger.checkpoint.dtypes import dtype_code, torch_dtype
from merger.checkpoint.fingerprint import digest_all, tensor_digest
from merger.checkpoint.folder import inside, read_json
from merger.checkpoint.header import TensorInfo
from merger.checkpoint.reader import Checkpoint, View
from merger.checkpoint.tied import ends_of
from merger.checkpoint.vocab import Vocabulary, read_vocabulary
from merger.errors import MismatchError, UsageError
from merger.late import Tensor, torch

MODES = ("error", "base", "union")


class Rows(NamedTuple):
    """Where the target's rows lie in one checkpoint: places (rows,) int64, -1 where it has none."""

    checkpoint: Checkpoint
    places: Tensor


class GatheredCheckpoint(View):
    """A checkpoint whose vocabulary rows stand in another order: each row found by its token.

    It is read from the model itself if that knows the token, else from the first fallback that
    does: so a task vector is exactly zero for tokens an expert has never seen. Every other tensor
    is the model's own.
    """

    def __init__(self, own: Checkpoint, maps: Mapping[str, Sequence[Rows]]) -> None:
        self._maps = maps
        super().__init__(own.path, own, {n: self._info(own.tensors[n], maps[n]) for n in maps})

    def _info(self, info: TensorInfo, rows: Sequence[Rows]) -> TensorInfo:
        wide = torch_dtype(info.dtype)
        for one in rows:  # a fallback of a finer format must not be rounded
            wide = torch.promote_types(wide, torch_dtype(one.checkpoint.tensors[info.name].dtype))
        shape = (rows[0].places.numel(), *info.shape[1:])
        return replace(info, dtype=dtype_code(wide), shape=shape)

    def rows(self, name: str, start: int, end: int) -> Tensor:
        """Return rows [start, end) of the tensor as the target orders them."""
        info = self.tensors[name]
        rows = torch.zeros(end - start, info.cols, dtype=torch_dtype(info.dtype))
        missing = torch.ones(end - start, dtype=torch.bool)
        for one in self._maps[name]:
            part = one.places[start:end]
            for to, source, count in _runs(torch.where(missing, part, -1)):
                rows[to : to + count] = one.checkpoint.read(name, source, source + count)
            missing &= part < 0
        return rows

    def source(self, name: str) -> str:
        """Return the digest of the sources and the maps."""
        sources = self._maps[name]
        return digest_all(*((s.checkpoint.digest(name), tensor_digest(s.places)) for s in sources))


def _runs(index: Tensor) -> list[tuple[int, int, int]]:
    """Return (to, source, count) of rows that follow each other in both, without those of -1."""
    kept = (index >= 0).nonzero().view(-1)
    pairs = torch.stack([kept, index[kept]])
    breaks = (pairs.diff() != 1).any(0).nonzero().view(-1) + 1
    runs = [run.T.tolist() for run in pairs.tensor_split(breaks.tolist(), dim=1)]
    return [(*run[0], len(run)) for run in runs if run]


@dataclass
class Aligned:
    """Models of one vocabulary, what was said on the way, and what the output must be told."""

    checkpoints: dict[str, Checkpoint]
    notes: list[str] = field(default_factory=list)
    added: list[dict[str, Any]] = field(default_factory=list)  # entries for tokenizer.json
    rows: int | None = None  # vocab_size of the output, where anything was mapped


def align(models: Mapping[str, Checkpoint], donor: str, mode: str) -> Aligned:
    """Bring every model to the donor's vocabulary (`base`) or to that of all (`union`).

    Models without a tokenizer, and those that already agree, stay as they are. Raises a
    MismatchError for vocabularies that cannot be mapped: opaque ones, or, for a union, such as
    differ in more than added tokens.
    """
    if mode not in MODES:
        raise UsageError(f"the vocabulary mode is {mode!r}", f"One of {', '.join(MODES)}.")
    maps = {m: v for m, c in models.items() if (v := read_vocabulary(c.folder))}
    result = Aligned(dict(models))
    known = [(v.ids, v.digest, _size(models[m])) for m, v in maps.items()]
    if mode == "error" or donor not in maps or all(one == known[0] for one in known):
        return result
    if opaque := [m for m, v in maps.items() if v.digest]:
        law = f"{', '.join(opaque)}: a binary tokenizer holds no map from tokens to rows"
        raise MismatchError(law, "Save a tokenizer.json with transformers' AutoTokenizer.")
    target = dict(maps[donor].ids)
    size = _size(models[donor])
    if mode == "union":
        result.added = _union(maps, target, donor)
        size = max(size, 1 + max(target.values(), default=0))
    order = [donor, *(m for m in maps if m != donor)]
    result.rows = size
    index = {m: _places(target, size, maps[m], _size(models[m])) for m in order}
    index[donor] = _places(target, size, maps[donor], _size(models[donor]), padded=True)
    for model in order:
        chain = dict.fromkeys([model, *(order if mode == "union" else [donor])])
        sources = {
            name: [Rows(models[m], index[m]) for m in chain if name in models[m].tensors]
            for name in ends_of(models[model])[:2]
            if name
        }
        result.checkpoints[model] = GatheredCheckpoint(models[model], sources)
        result.notes += _told(model, donor, target, maps[model])
    return result


def add_tokens(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Write the added tokens of a union into a folder's tokenizer.json."""
    table = read_json(file := inside(folder, "tokenizer.json"))
    table["added_tokens"] = [*(table.get("added_tokens") or []), *entries]
    file.write_text(json.dumps(table, ensure_ascii=False, indent=2), encoding="utf-8")
    told = folder / "tokenizer_config.json"
    settings = read_json(told) if told.is_file() else {}
    if isinstance(settings.get("added_tokens_decoder"), dict):
        fresh = {str(e["id"]): {k: v for k, v in e.items() if k != "id"} for e in entries}
        settings["added_tokens_decoder"] |= fresh
        told.write_text(json.dumps(settings, ensure_ascii=False, indent=2), encoding="utf-8")


def _size(checkpoint: Checkpoint) -> int:
    embed = ends_of(checkpoint).embed
    return checkpoint.tensors[embed].rows if embed else 0


def _places(
    target: Mapping[str, int], size: int, own: Vocabulary, rows: int, *, padded: bool = False
) -> Tensor:
    """Return, for each row of the target, the row of the same token in a model, else -1.

    `padded` keeps rows of no token in their places: the donor's.
    """
    index = torch.arange(size) if padded else torch.full((size,), -1, dtype=torch.int64)
    index[rows:] = -1
    for token, place in target.items():
        row = own.ids.get(token, -1)
        if place < size:
            index[place] = row if row < rows else -1
    return index


def _union(
    maps: Mapping[str, Vocabulary], target: dict[str, int], donor: str
) -> list[dict[str, Any]]:
    """Give new ids to added tokens the donor lacks; extend `target`, return tokenizer entries."""
    entries = []
    for model, vocabulary in maps.items():
        for token in sorted(vocabulary.ids.keys() - target, key=vocabulary.ids.__getitem__):
            if token not in vocabulary.added:
                law = f"{model} has {token!r} in its vocabulary proper, and {donor} lacks it"
                raise MismatchError(law, "Only added tokens can be united; use --vocab base.")
            target[token] = 1 + max(target.values(), default=-1)
            entries.append(vocabulary.added[token] | {"id": target[token]})
    return entries


def _told(model: str, donor: str, target: Mapping[str, int], own: Vocabulary) -> list[str]:
    notes = []
    moved = sum(1 for t, i in own.ids.items() if t in target and target[t] != i)
    lost = sorted((t for t in own.ids if t not in target), key=own.ids.__getitem__)
    lacking = sum(1 for t in target if t not in own.ids)
    if moved:
        notes.append(f"{model}: {moved} vocabulary rows moved to the ids of {donor}")
    if lacking:
        notes.append(f"{model}: {lacking} tokens it lacks take the row of a model that has them")
    if lost:
        shown = ", ".join(map(repr, lost[:3]))
        notes.append(f"{model}: {len(lost)} tokens that {donor} lacks are dropped ({shown})")
    return notes
