"""Reading: the bytes of the file, by rows, from any layout; foreign formats answered by name."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file

from merger.checkpoint import dtype_code, open_checkpoint
from merger.errors import CheckpointError
from tests.checkpoints import entry, llama_tensors, raw_file, write_model

DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8"]
DTYPES += ["uint8", "uint16", "uint32", "uint64", "bool"]


@pytest.mark.parametrize("name", DTYPES)
def test_every_format_reads_back_bit_for_bit(tmp_path, name):
    """Rows read in any cut equal what the safetensors package wrote."""
    dtype = getattr(torch, name)
    raw = torch.arange(3 * 4 * 5 * 8, dtype=torch.int64).remainder(2 if name == "bool" else 100)
    whole = raw.to(dtype)[:60].view(3, 4, 5)
    save_file({"t": whole, "s": whole[0, 0, 1].clone()}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    info = checkpoint.tensors["t"]
    assert (info.dtype, info.shape, info.rows, info.cols) == (dtype_code(dtype), (3, 4, 5), 12, 5)
    assert torch.equal(checkpoint.read("t"), whole.view(12, 5))
    assert torch.equal(checkpoint.read("t", 3, 7), whole.view(12, 5)[3:7])
    assert torch.equal(checkpoint.read("s"), whole[0, 0, 1].view(1, 1))


def test_a_file_spelled_out_by_hand(tmp_path):
    """A header and four bytes written literally give the number they mean."""
    header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    (tmp_path / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + b"\x80\x3f\x00\xc0"
    )
    read = open_checkpoint(tmp_path).read("a")
    assert torch.equal(read, torch.tensor([[1.0, -2.0]], dtype=torch.bfloat16))


def test_empty_tensors_and_vectors(tmp_path):
    """A vector is one row; a tensor without elements is legal and reads as nothing."""
    header = {"v": entry("F32", [3], 0, 12), "e": entry("F32", [0, 4], 12, 12)}
    header |= {"z": entry("F32", [4, 0], 12, 12)}
    (tmp_path / "model.safetensors").write_bytes(raw_file(header, b"\0" * 12))
    checkpoint = open_checkpoint(tmp_path)
    shapes = {n: tuple(checkpoint.read(n).shape) for n in checkpoint.tensors}
    assert shapes == {"v": (1, 3), "e": (0, 4), "z": (4, 0)}


def test_shards_read_as_one_model(tmp_path):
    """One file, shards with an index, shards without: the same tensors and fingerprint."""
    tensors = llama_tensors(dtype=torch.bfloat16)
    one = open_checkpoint(write_model(tmp_path / "one", tensors))
    many = open_checkpoint(write_model(tmp_path / "many", tensors, shards=3))
    assert {n: i.shape for n, i in many.tensors.items()} == {n: t.shape for n, t in tensors.items()}
    assert one.fingerprint() == many.fingerprint()
    (tmp_path / "many" / "model.safetensors.index.json").unlink()
    assert open_checkpoint(tmp_path / "many").fingerprint() == one.fingerprint()
    assert open_checkpoint(tmp_path / "one" / "model.safetensors").config == one.config


def test_a_fingerprint_sees_one_bit(tmp_path):
    """Content decides: one changed bit changes the fingerprint, and not that of the headers."""
    tensors = llama_tensors()
    one = open_checkpoint(write_model(tmp_path / "a", tensors))
    tensors["model.norm.weight"][3] = tensors["model.norm.weight"][3].nextafter(torch.tensor(9.0))
    two = open_checkpoint(write_model(tmp_path / "b", tensors))
    assert one.fingerprint() != two.fingerprint()
    assert one.header_fingerprint() == two.header_fingerprint()


def test_many_threads_may_read_at_once(tmp_path):
    """Reads from eight threads give the bytes that one thread gets."""
    tensors = llama_tensors(layers=4)
    checkpoint = open_checkpoint(write_model(tmp_path, tensors, shards=3))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(checkpoint.read, list(tensors) * 20))
    for name, got in zip(list(tensors) * 20, read, strict=True):
        assert torch.equal(got.view(-1), tensors[name].view(-1))


def test_a_row_can_be_read_in_pieces(tmp_path):
    """With `cols` the tensor is seen as rows of that length, and any stretch of it is read."""
    checkpoint = open_checkpoint(write_model(tmp_path, tensors := llama_tensors()))
    flat = tensors["lm_head.weight"].view(-1, 1)
    assert torch.equal(checkpoint.read("lm_head.weight", 3, 50, cols=1), flat[3:50])
    assert torch.equal(checkpoint.read("lm_head.weight", 1, cols=4), flat.view(-1, 4)[1:])
    with pytest.raises(ValueError, match="rows 0:97 of 96"):
        checkpoint.read("lm_head.weight", 0, 97, cols=1)


def test_a_file_cut_while_open_is_told(tmp_path):
    """A file that shrinks after it was opened is a CheckpointError that names the tensor."""
    checkpoint = open_checkpoint(write_model(tmp_path, llama_tensors()))
    last = list(checkpoint.tensors)[-1]
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(checkpoint.tensors[last].offset + 1)
    with pytest.raises(CheckpointError, match=last):
        checkpoint.read(last)


def test_links_may_not_leave_the_folder(tmp_path):
    """A shard that is a link to elsewhere is refused; the Hub cache's own links are not."""
    elsewhere = write_model(tmp_path / "elsewhere", llama_tensors())
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").symlink_to(elsewhere / "model.safetensors")
    with pytest.raises(CheckpointError, match="leaves its folder"):
        open_checkpoint(tmp_path / "m")
    repo = tmp_path / "models--org--name"
    snapshot = repo / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    shutil.copytree(elsewhere, repo / "blobs")
    for name in ("model.safetensors", "config.json"):
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    assert open_checkpoint(snapshot).config is not None
    (tmp_path / "alias").symlink_to(snapshot)
    assert open_checkpoint(tmp_path / "alias").tensors


def test_two_models_in_one_folder_are_told(tmp_path):
    """A single file beside the shards of another model is ambiguous, hence refused."""
    write_model(tmp_path, llama_tensors(), shards=2)
    save_file(llama_tensors(1), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="two models"):
        open_checkpoint(tmp_path)


FOREIGN = {
    "pytorch_model.bin": ("pickle", "from_pretrained"),
    "model_world_size_2_rank_0.pt": ("verl/FSDP", "verl.model_merger merge --backend fsdp"),
    "actor/model_world_size_2_rank_0.pt": ("verl/FSDP", "actor"),
    "zero_to_fp32.py": ("DeepSpeed", "--safe_serialization"),
    "mp_rank_00_model_states.pt": ("DeepSpeed", "/zero_to_fp32.py"),
    "__0_0.distcp": ("sharded", "accelerate merge-weights"),
    "checkpoint-100/model.safetensors": ("folders that do", "checkpoint-100"),
    "model-q4.gguf": ("GGUF", "gguf_file"),
    "flax_model.msgpack": ("flax_model", "as safetensors"),
    "notes.txt": ("no model", "config.json"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_formats_are_answered_with_the_command(tmp_path, name):
    """What a trainer left is recognised by its names, and the remedy is the exact command."""
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"\x80")
    law, remedy = FOREIGN[name]
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(tmp_path)
    assert law in caught.value.law
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("method", ["fp8", "bitsandbytes", "gptq"])
def test_quantised_models_are_refused_by_name(tmp_path, method):
    """A config that says quantised is enough: such weights cannot be added."""
    write_model(tmp_path, llama_tensors(), quantization_config={"quant_method": method})
    with pytest.raises(CheckpointError, match=method) as caught:
        open_checkpoint(tmp_path)
    assert "dequantize" in caught.value.remedy


def test_a_broken_config_is_told(tmp_path):
    """config.json must be a JSON object."""
    write_model(tmp_path, llama_tensors())
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_checkpoint(tmp_path)


def test_a_missing_folder_is_told(tmp_path):
    """A path that is not there says so."""
    with pytest.raises(CheckpointError, match="does not exist"):
        open_checkpoint(tmp_path / "nowhere")
