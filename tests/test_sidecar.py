"""The files beside the weights: byte for byte, but for the dtype that was written."""

import json

import pytest
from typer.testing import CliRunner

from merger.checkpoint.sidecar import copy_sidecar, dominant, has_template
from merger.cli import app
from merger.errors import CheckpointError, SpecError
from tests.checkpoints import llama_tensors, write_model

# Odd spacing, key order, escapes and no last newline: what a rewrite through json would lose.
CONFIG = (
    b'{\n\t"z": 1,  "torch_dtype" : "float32",\n "text_config": {"dtype":"float32"}, "a":"\\u00e9"}'
)
FILES = {
    "generation_config.json": b'{"max_new_tokens": 7 }',
    "tokenizer.json": b'{"model": {"vocab": {"a": 0}}}',
    "tokenizer_config.json": b'{"chat_template": "x"}',
    "special_tokens_map.json": b"{ }",
    "added_tokens.json": b"{}",
    "chat_template.jinja": b"{{ messages }}\r\n",
    "merges.txt": b"a b\n",
    "vocab.json": b"{}",
    "LICENSE": b"mine",
}


@pytest.fixture
def donor(tmp_path):
    """Return a folder with every kind of file beside the weights."""
    folder = tmp_path / "donor"
    (folder / "additional_chat_templates").mkdir(parents=True)
    for name, raw in FILES.items():
        (folder / name).write_bytes(raw)
    (folder / "additional_chat_templates" / "tool.jinja").write_bytes(b"{{ t }}")
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "modeling_own.py").write_text("print('no')")
    (folder / "README.md").write_text("the donor's own")
    (tmp_path / "out").mkdir()
    return folder


def test_everything_is_copied_byte_for_byte(donor, tmp_path):
    """With the dtype unchanged, config too is the very bytes; weights, card, code stay."""
    done = copy_sidecar(donor, tmp_path / "out", dtype="F32")
    for name, raw in (FILES | {"config.json": CONFIG}).items():
        assert (tmp_path / "out" / name).read_bytes() == raw
    assert (tmp_path / "out/additional_chat_templates/tool.jinja").read_bytes() == b"{{ t }}"
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {*FILES, "config.json", "additional_chat_templates"}
    assert done.left == ["modeling_own.py"]
    assert done.changed == []


def test_only_the_dtype_changes(donor, tmp_path):
    """Another dtype rewrites the value, wherever it stands, and no other byte."""
    done = copy_sidecar(donor, tmp_path / "out", dtype="BF16")
    written = (tmp_path / "out" / "config.json").read_bytes()
    assert written == CONFIG.replace(b'"float32"', b'"bfloat16"')
    assert done.changed == ["dtype: float32 -> bfloat16"]


def test_keys_can_be_set_anew(donor, tmp_path):
    """Changes are told; a change to what already stands leaves the bytes alone."""
    done = copy_sidecar(donor, tmp_path / "out", changes={"z": 1})
    assert (tmp_path / "out" / "config.json").read_bytes() == CONFIG
    done = copy_sidecar(donor, tmp_path / "out", changes={"vocab_size": 5})
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 5
    assert done.changed == ["vocab_size: None -> 5"]


def test_the_tokenizer_may_come_from_another_folder(donor, tmp_path):
    """A named tokenizer donor gives all tokenizer files, and the model donor none of them."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_bytes(b'{"other": 1}')
    copy_sidecar(donor, tmp_path / "out", tokenizer=other)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "generation_config.json", "LICENSE", "tokenizer.json"}
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == b'{"other": 1}'


def test_a_link_out_of_the_donor_is_not_copied(donor, tmp_path):
    """A tokenizer file that is a link to elsewhere would carry a stranger's file into the model."""
    (tmp_path / "secret").write_text("secret")
    (donor / "vocab.json").unlink()
    (donor / "vocab.json").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="leaves its folder"):
        copy_sidecar(donor, tmp_path / "out")


def test_a_broken_config_is_told(donor, tmp_path):
    """A config that is no JSON object is refused by name."""
    (donor / "config.json").write_bytes(b"\xff{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        copy_sidecar(donor, tmp_path / "out")


def test_the_dominant_format_is_that_of_most_bytes():
    """The config states what most weights were written in; whole numbers do not count."""
    assert dominant({"F32": 10, "BF16": 400, "I64": 9000}) == "BF16"
    assert dominant({"I64": 1}) is None


def test_a_template_is_found_in_its_file_or_the_tokenizers(donor, tmp_path):
    """A chat template may be a file of its own or a key of tokenizer_config.json."""
    assert has_template(donor)
    (donor / "chat_template.jinja").unlink()
    assert has_template(donor)
    (donor / "tokenizer_config.json").write_text("{}")
    assert not has_template(donor)


def test_a_template_of_the_spec_is_written(tmp_path):
    """A literal template replaces the donor's; a name of one is refused before any work."""
    write_model(tmp_path / "m", llama_tensors())
    entry = [{"model": str(tmp_path / "m"), "parameters": {"weight": 1.0}}]
    for text in ("{{ messages }}", "chatml"):
        spec = {"merge_method": "linear", "models": entry, "chat_template": text}
        (tmp_path / "c.yml").write_text(json.dumps(spec))
        told = CliRunner().invoke(app, ["merge", str(tmp_path / "c.yml"), str(tmp_path / text[:6])])
        assert isinstance(told.exception, SpecError) == (text == "chatml")
    assert (tmp_path / "{{ mes" / "chat_template.jinja").read_text() == "{{ messages }}"
    assert not (tmp_path / "chatml").exists()
