"""Vocabularies brought to one by token: against rows looked up one by one."""

import json

import pytest
import torch
from typer.testing import CliRunner

from merger.checkpoint import open_checkpoint
from merger.checkpoint.align import _runs, add_tokens, align
from merger.checkpoint.vocab import read_vocabulary
from merger.cli import app
from merger.errors import MismatchError, UsageError
from tests.checkpoints import llama_tensors, write_model

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
BASE = {t: i for i, t in enumerate("abcdefghij")}  # ten tokens, twelve rows: two are padding


def model(folder, vocab, seed, rows=12, added=()):
    """Write a model of this vocabulary, and open it."""
    tensors = llama_tensors(seed)
    g = torch.Generator().manual_seed(seed)
    tensors |= {n: torch.randn(rows, 8, generator=g) for n in (EMBED, HEAD)}
    write_model(folder, tensors)
    extra = [{"id": vocab[t], "content": t, "special": True} for t in added]
    table = {"added_tokens": extra, "model": {"vocab": vocab}}
    (folder / "tokenizer.json").write_text(json.dumps(table))
    return open_checkpoint(folder)


def test_rows_are_found_by_token(tmp_path):
    """A shuffled, longer vocabulary is read in the donor's order; what it lacks is the donor's."""
    other = {t: i for i, t in enumerate("zjihgfedcb")}  # lacks a, has z
    models = {"base": model(tmp_path / "a", BASE, 0), "x": model(tmp_path / "b", other, 1, rows=14)}
    found = align(models, "base", "base")
    for name in (EMBED, HEAD):
        got, own, ground = found.checkpoints["x"], models["x"].read(name), models["base"].read(name)
        want = ground.clone()
        for token, place in BASE.items():
            if token in other:
                want[place] = own[other[token]]
        assert got.tensors[name].shape == (12, 8)
        assert torch.equal(got.read(name), want)
        assert torch.equal(got.read(name, 3, 7), want[3:7])
        assert torch.equal(got.read(name, 9, 50, cols=1), want.view(-1, 1)[9:50])
        assert torch.equal(found.checkpoints["base"].read(name), ground)
    rest = "model.norm.weight"
    assert torch.equal(found.checkpoints["x"].read(rest), models["x"].read(rest))
    text = "\n".join(found.notes)
    assert "1 tokens that base lacks are dropped ('z')" in text
    assert "rows moved" in text


def test_equal_vocabularies_are_left_alone(tmp_path):
    """Nothing is wrapped where nothing differs, nor in the default mode."""
    models = {n: model(tmp_path / n, BASE, i) for i, n in enumerate("ab")}
    assert align(models, "a", "base").checkpoints == models
    models["c"] = model(tmp_path / "c", BASE | {"k": 10}, 3)
    assert align(models, "a", "error").checkpoints == models
    with pytest.raises(UsageError, match="mode"):
        align(models, "a", "crop")


def test_padding_of_another_size_is_the_donors(tmp_path):
    """One vocabulary, other padding: the donor's padding rows stand, no row is cropped unseen."""
    models = {"a": model(tmp_path / "a", BASE, 0, 16), "b": model(tmp_path / "b", BASE, 1, 11)}
    got = align(models, "a", "base").checkpoints["b"].read(EMBED)
    assert torch.equal(got[:10], models["b"].read(EMBED)[:10])
    assert torch.equal(got[10:], models["a"].read(EMBED)[10:])


@pytest.mark.parametrize("rows", [10, 12])
def test_a_union_keeps_added_tokens(tmp_path, rows):
    """Each added token has one new id; a model that lacks it shows the row of its owner."""
    models = {
        "base": model(tmp_path / "a", BASE, 0, rows),
        "x": model(tmp_path / "b", BASE | {"<x>": 10}, 1, 11, ["<x>"]),
        "y": model(tmp_path / "c", BASE | {"<y>": 10, "<x>": 11}, 2, 12, ["<x>", "<y>"]),
    }
    found = align(models, "base", "union")
    assert [(e["content"], e["id"]) for e in found.added] == [("<x>", 10), ("<y>", 11)]
    assert found.rows == 12
    x, y = models["x"].read(EMBED), models["y"].read(EMBED)
    rows_of = {m: found.checkpoints[m].read(EMBED) for m in models}
    assert torch.equal(rows_of["base"][10:12], torch.stack([x[10], y[10]]))
    assert torch.equal(rows_of["x"][10:12], torch.stack([x[10], y[10]]))
    assert torch.equal(rows_of["y"][10:12], torch.stack([y[11], y[10]]))
    assert torch.equal(rows_of["base"][:10], models["base"].read(EMBED)[:10])


def test_a_union_of_strangers_is_refused(tmp_path):
    """Tokens of the vocabulary proper cannot be added: merge rules would not know them."""
    models = {"a": model(tmp_path / "a", BASE, 0), "b": model(tmp_path / "b", BASE | {"k": 10}, 1)}
    with pytest.raises(MismatchError, match="vocabulary proper"):
        align(models, "a", "union")


def test_added_tokens_are_written(tmp_path):
    """tokenizer.json and, where it has one, the table of tokenizer_config.json learn them."""
    model(tmp_path / "a", BASE, 0)
    (tmp_path / "a" / "tokenizer_config.json").write_text('{"added_tokens_decoder": {}}')
    add_tokens(tmp_path / "a", [{"id": 10, "content": "<x>", "special": True}])
    table = json.loads((tmp_path / "a" / "tokenizer.json").read_text())
    assert table["added_tokens"] == [{"id": 10, "content": "<x>", "special": True}]
    told = json.loads((tmp_path / "a" / "tokenizer_config.json").read_text())
    assert told["added_tokens_decoder"] == {"10": {"content": "<x>", "special": True}}


def test_the_fingerprint_sees_the_map(tmp_path):
    """Two orders of the same rows are two contents."""
    base = model(tmp_path / "a", BASE, 0)
    other = {t: 9 - i for t, i in BASE.items()}
    found = align({"a": base, "b": model(tmp_path / "b", other, 0)}, "a", "base")
    prints = {c.fingerprint() for c in (base, *found.checkpoints.values())}
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("index", "runs"),
    [
        ([], []),
        ([-1, -1], []),
        ([4, 5, 6], [(0, 4, 3)]),
        ([4, -1, 5, 6, 2], [(0, 4, 1), (2, 5, 2), (4, 2, 1)]),
    ],
)
def test_neighbouring_rows_are_read_together(index, runs):
    """Rows that follow each other on both sides are one read."""
    assert _runs(torch.tensor(index, dtype=torch.int64)) == runs


@pytest.mark.parametrize("mode", ["error", "base", "union"])
def test_the_command_maps_by_token(tmp_path, monkeypatch, mode):
    """`--vocab` decides; the output's config, tokenizer and rows are of one vocabulary."""
    model(tmp_path / "base", BASE, 0, 10)
    model(tmp_path / "x", BASE | {"<x>": 10}, 1, 11, ["<x>"])
    monkeypatch.chdir(tmp_path)
    flags = ["--method", "task_arithmetic", "--base", "base", "--expert", "x=1.0"]
    told = CliRunner().invoke(app, ["merge", *flags, "--vocab", mode, "out"])
    if mode == "error":
        assert isinstance(told.exception, MismatchError)
        assert not (tmp_path / "out").exists()
        return
    assert told.exit_code == 0, told.output
    rows = 11 if mode == "union" else 10
    out = open_checkpoint(tmp_path / "out")
    assert out.tensors[EMBED].rows == out.config["vocab_size"] == rows
    want = open_checkpoint(tmp_path / "x").read(EMBED)[:rows]
    torch.testing.assert_close(out.read(EMBED), want)
    assert len(read_vocabulary(tmp_path / "out").ids) == rows


def test_without_a_base_the_first_model_is_the_donor(tmp_path, monkeypatch):
    """`--vocab base` takes the tokens of the first expert then, and merger.yaml rebuilds that."""
    model(tmp_path / "one", BASE, 0, 10)
    model(tmp_path / "two", BASE | {"<x>": 10}, 1, 11, ["<x>"])
    monkeypatch.chdir(tmp_path)
    flags = ["--method", "linear", "--expert", "one=1", "--expert", "two=1", "--vocab", "base"]
    for words in ([*flags, "out"], ["out/merger.yaml", "again"]):
        told = CliRunner().invoke(app, ["merge", *words])
        assert told.exit_code == 0, told.output
    first, second = (open_checkpoint(tmp_path / name) for name in ("out", "again"))
    assert first.tensors[EMBED].rows == 10
    assert first.fingerprint() == second.fingerprint()
