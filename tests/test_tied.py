"""Tied embeddings: one storage, once; copies dropped by name; disagreement refused."""

import pytest
import torch

from merger.checkpoint import open_checkpoint
from merger.checkpoint.tied import agree, ends_of
from merger.errors import MismatchError
from tests.checkpoints import llama_tensors, write_model

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def model(folder, kind):
    """Write a model that is untied, tied, tied with a copy, or says tied over two tensors."""
    tensors = llama_tensors()
    if kind == "tied":
        del tensors[HEAD]
    elif kind == "copy":
        tensors[HEAD] = tensors[EMBED].clone()
    write_model(folder, tensors, tie_word_embeddings=kind != "untied")
    return open_checkpoint(folder)


@pytest.mark.parametrize(
    ("kind", "tied", "copy"),
    [("untied", False, False), ("tied", True, False), ("copy", True, True)],
)
def test_what_config_and_file_say_together(tmp_path, kind, tied, copy):
    """The config's word, the names stored and equal bytes make one fact."""
    ends = ends_of(model(tmp_path, kind))
    assert (ends.embed, ends.head) == (EMBED, None if kind == "tied" else HEAD)
    assert (ends.tied, ends.copy) == (tied, copy)


def test_a_config_that_ties_two_tensors_is_refused(tmp_path):
    """Loaders disagree on such a file, so we ask."""
    with pytest.raises(MismatchError, match="but they differ") as caught:
        ends_of(model(tmp_path, "lie"))
    assert "tie_word_embeddings" in caught.value.remedy


def test_copies_are_dropped_and_named(tmp_path):
    """Among tied sources a stored copy of the head is named, to be left out."""
    tied = agree({k: model(tmp_path / k, k) for k in ("tied", "copy")})
    assert tied == {"copy": HEAD}


def test_untied_sources_are_left_alone(tmp_path):
    """Nothing is dropped where every model has a head of its own."""
    assert agree({k: model(tmp_path / k, "untied") for k in "ab"}) == {}


def test_sources_that_disagree_are_refused(tmp_path):
    """Tied with untied is an error whose remedy is the command that unties."""
    with pytest.raises(MismatchError, match="tied tied, loose with lm_head") as caught:
        agree({"tied": model(tmp_path / "a", "tied"), "loose": model(tmp_path / "b", "untied")})
    assert "save_pretrained" in caught.value.remedy


def test_a_head_that_one_lacks_is_refused(tmp_path):
    """An untied model without a head beside one with a head is told, whichever comes first."""
    write_model(tmp_path / "a", {EMBED: torch.ones(4, 2)}, tie_word_embeddings=False)
    models = {"bare": open_checkpoint(tmp_path / "a"), "whole": model(tmp_path / "b", "untied")}
    for names in (("bare", "whole"), ("whole", "bare")):
        with pytest.raises(MismatchError, match=r"bare without .*, which whole has"):
            agree({n: models[n] for n in names})


def test_equal_tensors_of_an_untied_model_stay_two(tmp_path):
    """Where the config says untied, equal bytes are a coincidence of the start, not a tie."""
    tensors = llama_tensors()
    tensors[HEAD] = tensors[EMBED].clone()
    ends = ends_of(open_checkpoint(write_model(tmp_path, tensors)))
    assert not ends.tied


def test_the_text_config_of_a_vision_model_counts(tmp_path):
    """The key may stand in text_config; names may have any prefix."""
    tensors = {f"language.{n}": t for n, t in llama_tensors().items() if n != HEAD}
    settings = {"tie_word_embeddings": None, "text_config": {"tie_word_embeddings": True}}
    checkpoint = open_checkpoint(write_model(tmp_path, tensors, **settings))
    assert ends_of(checkpoint) == (f"language.{EMBED}", None, True, False)


def test_other_dtypes_are_no_copy(tmp_path):
    """A head of another format than the embedding is another tensor."""
    tensors = llama_tensors()
    tensors[HEAD] = tensors[EMBED].to(torch.float16)
    write_model(tmp_path, tensors, tie_word_embeddings=True)
    with pytest.raises(MismatchError):
        ends_of(open_checkpoint(tmp_path))
