"""Tokenizers are compared by token -> id; those that differ are refused by their first tokens."""

import json

import pytest

from merger.checkpoint.vocab import check_vocabularies, read_vocabulary
from merger.errors import CheckpointError, MismatchError


def fast(folder, vocab, added=(), kind="BPE"):
    """Write a tokenizer.json with this vocabulary and these added tokens."""
    folder.mkdir(exist_ok=True)
    extra = [{"id": i, "content": t} for t, i in dict(added).items()]
    table = {"added_tokens": extra, "model": {"type": kind, "vocab": vocab, "merges": []}}
    (folder / "tokenizer.json").write_text(json.dumps(table))
    return folder


def test_maps_are_read_from_any_kind_of_tokenizer(tmp_path):
    """Fast, unigram, and vocab.json with added_tokens.json give the same map."""
    want = {"a": 0, "b": 1, "<s>": 2}
    assert read_vocabulary(fast(tmp_path / "f", {"a": 0, "b": 1}, {"<s>": 2})).ids == want
    pairs = [["a", -1.0], ["b", -2.0]]
    assert read_vocabulary(fast(tmp_path / "u", pairs, {"<s>": 2}, "Unigram")).ids == want
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "vocab.json").write_text('{"a": 0, "b": 1}')
    (tmp_path / "s" / "added_tokens.json").write_text('{"<s>": 2}')
    assert read_vocabulary(tmp_path / "s").ids == want
    assert read_vocabulary(tmp_path) is None


def test_equal_maps_pass_in_any_order(tmp_path):
    """The order of entries in the file is nothing."""
    one = fast(tmp_path / "a", {"a": 0, "b": 1})
    two = fast(tmp_path / "b", {"b": 1, "a": 0})
    assert check_vocabularies({"one": one, "two": two}) == []


def test_the_first_differing_tokens_are_named(tmp_path):
    """The error names the model, the ids and both tokens."""
    one = fast(tmp_path / "a", {"a": 0, "b": 1, "c": 2})
    two = fast(tmp_path / "b", {"a": 0, "c": 1, "b": 2}, {"<x>": 3})
    with pytest.raises(MismatchError) as caught:
        check_vocabularies({"one": one, "two": two})
    assert 'two against one: 3 and 4 tokens, 3 ids differ (1: "b" / "c"' in caught.value.law
    assert '3: nothing / "<x>"' in caught.value.law


def test_all_models_that_differ_are_named_at_once(tmp_path):
    """One error for all, not one after the other."""
    folders = {n: fast(tmp_path / n, {"a": 0, n: 1}) for n in ("x", "y", "z")}
    with pytest.raises(MismatchError, match=r"y against x.*z against x"):
        check_vocabularies(folders)


def test_models_without_a_tokenizer_are_noted(tmp_path):
    """Missing tokenizers are told and compared with nothing."""
    one = fast(tmp_path / "a", {"a": 0})
    (tmp_path / "b").mkdir()
    assert check_vocabularies({"one": one, "two": tmp_path / "b"}) == [
        "two has no tokenizer: its tokens are not compared"
    ]


def test_binary_models_are_compared_by_bytes(tmp_path):
    """A sentencepiece model is opaque: equal bytes or a mismatch."""
    for name, raw in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.model").write_bytes(raw)
    assert check_vocabularies({n: tmp_path / n for n in "ab"}) == []
    with pytest.raises(MismatchError, match="binary"):
        check_vocabularies({n: tmp_path / n for n in "abc"})


@pytest.mark.parametrize(
    "text", ["[]", '{"model": {"vocab": {"a": "0"}}}', '{"model": 3}', '{"model": {"vocab": [1]}}x']
)
def test_broken_tokenizers_are_told(tmp_path, text):
    """A file that holds no map is a CheckpointError with its path."""
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        read_vocabulary(tmp_path)
