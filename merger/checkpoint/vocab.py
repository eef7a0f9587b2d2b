"""Do the experts speak one language? Tokenizers compared by their maps token -> id.

Row i of an embedding belongs to token i, so two models can be added only where equal ids mean equal
tokens. Maps are read from the tokenizer's own files, as data: no tokenizer is built, no code of a
model is run. Merge rules and templates may differ; those of the donor are written.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from merger.checkpoint.folder import inside, read_json
from merger.errors import CheckpointError, MismatchError

_BINARY = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


class Vocabulary(NamedTuple):
    """A map token -> id, and the entries of added tokens as tokenizer.json has them.

    Instead, where only an opaque binary model is there, its `digest`.
    """

    ids: dict[str, int]
    digest: str = ""
    added: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - never written to


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """Read the map of a model folder; None where it has no tokenizer.

    Raises a CheckpointError for a tokenizer file that does not hold what it should.
    """
    if (folder / "tokenizer.json").exists():
        return _fast(inside(folder, "tokenizer.json"))
    if (folder / "vocab.json").exists():
        ids = _checked(read_json(inside(folder, "vocab.json")), folder / "vocab.json")
        if (folder / "added_tokens.json").exists():
            file = inside(folder, "added_tokens.json")
            ids |= _checked(read_json(file), file)
        return Vocabulary(ids)
    for name in _BINARY:
        if (folder / name).exists():
            digest = hashlib.sha256(inside(folder, name).read_bytes()).hexdigest()
            return Vocabulary({}, digest)
    return None


def difference(base: Vocabulary, other: Vocabulary, limit: int = 3) -> str:
    """Say in words where two maps first differ, by id; an empty text where they do not."""
    if base.digest or other.digest:
        return "" if base.digest == other.digest else "the binary tokenizer models differ"
    if base.ids == other.ids:
        return ""
    ours = {i: t for t, i in base.ids.items()}
    theirs = {i: t for t, i in other.ids.items()}
    ids = sorted(i for i in ours.keys() | theirs.keys() if ours.get(i) != theirs.get(i))
    first = ", ".join(f"{i}: {_show(ours.get(i))} / {_show(theirs.get(i))}" for i in ids[:limit])
    # Two tokens of one id can hide each other, so the map's own size is told as well.
    counts = f"{len(base.ids):,} and {len(other.ids):,} tokens"
    return f"{counts}, {len(ids):,} ids differ ({first or '-'})"


def check_vocabularies(folders: Mapping[str, Path]) -> list[str]:
    """Compare the tokenizers of all models with that of the first; return notes to print.

    Raises one MismatchError that names every model that differs and its first differing tokens.
    """
    maps = {name: read_vocabulary(folder) for name, folder in folders.items()}
    notes = [
        f"{name} has no tokenizer: its tokens are not compared" for name, m in maps.items() if not m
    ]
    known = {name: m for name, m in maps.items() if m}
    if len(known) < 2:
        return notes
    first, *others = known
    told = {name: difference(known[first], known[name]) for name in others}
    if wrong := [f"{name} against {first}: {text}" for name, text in told.items() if text]:
        law = "the tokenizers differ. " + "; ".join(wrong)
        raise MismatchError(law, "Merge models of one tokenizer, or map the rows: --vocab base.")
    return notes


def _fast(file: Path) -> Vocabulary:
    table = read_json(file)
    model = table.get("model")
    vocab: Any = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, list):  # unigram: [[token, score], ...]
        vocab = {v[0]: i for i, v in enumerate(vocab) if isinstance(v, list) and v}
    ids = _checked(vocab, file)
    entries = table.get("added_tokens")
    tokens = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    added = {e["content"]: e for e in tokens if isinstance(e.get("content"), str)}
    return Vocabulary(ids | _checked({t: e.get("id") for t, e in added.items()}, file), "", added)


def _checked(table: object, file: Path) -> dict[str, int]:
    pairs = table.items() if isinstance(table, dict) else [(None, None)]
    if not all(isinstance(token, str) and type(i) is int for token, i in pairs):
        law = f"{file} holds no map from tokens to whole numbers"
        raise CheckpointError(law, "Fetch it again.")
    return dict(pairs)


def _show(token: str | None) -> str:
    return "nothing" if token is None else json.dumps(token, ensure_ascii=False)[:24]
