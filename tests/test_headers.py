"""Headers and indexes that lie are refused before a byte of weights, each by a MergerError."""

import json
import os
import random

import pytest

from merger.checkpoint import open_checkpoint
from merger.errors import CheckpointError, MergerError
from tests.checkpoints import entry, llama_tensors, raw_file, write_index, write_model

F = "F32"
LIES = {
    "empty": (b"", "at least 8"),
    "short": (b"\x01\x02", "at least 8"),
    "header_past_end": (raw_file({}, length=999), "truncated"),
    "giant_header": (raw_file({}, length=1 << 60), "limit is"),
    "no_json": (raw_file(b"{nope"), "JSON"),
    "no_object": (raw_file(b"[1]"), "begin with"),
    "not_utf8": (raw_file(b'{"\xff": 1}'), "JSON"),
    "deep": (raw_file('{"a":' + "[" * 200_000), "JSON"),
    "huge_number": (raw_file('{"a": ' + "9" * 10_000 + "}"), "JSON"),
    "twice": (raw_file(b'{"a": 1, "a": 2}'), "stands twice"),
    "extra_key": (raw_file({"a": entry(F, [1], 0, 4) | {"x": 1}}, b"0" * 4), "something else"),
    "no_dict": (raw_file({"a": 3}), "something else"),
    "negative_shape": (raw_file({"a": entry(F, [-1], 0, 4)}, b"0" * 4), "shape"),
    "bool_shape": (raw_file({"a": entry(F, [True], 0, 4)}, b"0" * 4), "shape"),
    "float_offset": (raw_file({"a": entry(F, [1], 0.0, 4)}, b"0" * 4), "data_offsets"),
    "size_lie": (raw_file({"a": entry(F, [2], 0, 4)}, b"0" * 4), "needs 8"),
    "overflow": (raw_file({"a": entry(F, [2**62, 4], 0, 0)}), "needs"),
    "unknown_dtype": (raw_file({"a": entry("F31", [1], 0, 4)}, b"0" * 4), "unknown dtype 'F31'"),
    "fp8": (raw_file({"a": entry("F8_E4M3", [4], 0, 4)}, b"0" * 4), "F8_E4M3"),
    "list_dtype": (raw_file({"a": entry(["F32"], [1], 0, 4)}, b"0" * 4), "unknown dtype"),
    "overlap": (
        raw_file({"a": entry(F, [1], 0, 4), "b": entry(F, [1], 2, 6)}, b"0" * 6),
        "overlap",
    ),
    "hole": (raw_file({"a": entry(F, [1], 0, 4), "b": entry(F, [1], 8, 12)}, b"0" * 12), "hole"),
    "late_start": (raw_file({"a": entry(F, [1], 4, 8)}, b"0" * 8), "hole"),
    "trailing": (raw_file({"a": entry(F, [1], 0, 4)}, b"0" * 9), "tensors end at"),
    "no_text": (
        raw_file(b'{"\\ud800": {"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'),
        "no text",
    ),
    "no_tensor": (raw_file({"__metadata__": {"a": "b"}}), "no tensor"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(tmp_path, lie):
    """Every way a header can be wrong is a CheckpointError that names the file and the wrong."""
    raw, said = LIES[lie]
    (tmp_path / "model.safetensors").write_bytes(raw)
    with pytest.raises(CheckpointError, match=said) as caught:
        open_checkpoint(tmp_path)
    assert str(tmp_path) in caught.value.law
    assert caught.value.remedy


def test_a_truncated_file_is_told_with_both_sizes(tmp_path):
    """A file cut short is named, with the bytes expected, the bytes found and the tensor cut."""
    file = write_model(tmp_path, llama_tensors()) / "model.safetensors"
    whole = file.stat().st_size
    os.truncate(file, whole - 10)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(tmp_path)
    assert f"{whole:,} bytes expected, {whole - 10:,} found" in caught.value.law
    assert "model.safetensors" in caught.value.law


NAMES = ["../a.safetensors", "/etc/a.safetensors", "a/../../b.safetensors", "..\\a.safetensors", ""]
NAMES += [
    "\ud800.safetensors",
    "a\0.safetensors",
    "config.json",
    7,
    None,
    ["a"],
    "C:/a.safetensors",
    "x" * 5000,
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_an_index_names_only_files_of_its_folder(tmp_path, name):
    """No absolute path, no climbing, nothing that is not the name of a safetensors file."""
    write_model(tmp_path, llama_tensors(), shards=2)
    write_index(tmp_path, {"a": name})
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("table", [{}, [], None, "x"], ids=repr)
def test_an_index_without_a_map_is_refused(tmp_path, table):
    """An empty or shapeless weight_map is told as such."""
    write_model(tmp_path, llama_tensors(), shards=2)
    write_index(tmp_path, table)
    with pytest.raises(CheckpointError, match="weight_map"):
        open_checkpoint(tmp_path)


def test_every_missing_shard_is_named(tmp_path):
    """A folder that lacks shards says which."""
    write_model(tmp_path, llama_tensors(), shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00003"):
        open_checkpoint(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00003"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("change", ["moved", "absent", "unnamed"])
def test_an_index_must_agree_with_its_shards(tmp_path, change):
    """A tensor placed in the wrong shard, in none, or left out of the index is refused by name."""
    write_model(tmp_path, llama_tensors(), shards=2)
    file = tmp_path / "model.safetensors.index.json"
    table = json.loads(file.read_text())["weight_map"]
    name = next(iter(table))
    if change == "moved":
        table[name] = next(f for f in table.values() if f != table[name])
    elif change == "absent":
        table["ghost"] = table[name]
    else:
        del table[name]
    write_index(tmp_path, table)
    with pytest.raises(CheckpointError, match="ghost" if change == "absent" else name):
        open_checkpoint(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    """One name in two files is two truths."""
    write_model(tmp_path, llama_tensors(), shards=2)
    one, two = sorted(tmp_path.glob("*.safetensors"))
    two.write_bytes(one.read_bytes())
    with pytest.raises(CheckpointError, match="stands in"):
        open_checkpoint(tmp_path)


def _mutate(raw: bytes, rng: random.Random) -> bytes:
    """Change a few bytes, cut, repeat, or swap a number of the header for an evil one."""
    text = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        where = rng.randrange(len(text) or 1)
        kind = rng.randrange(6)
        if kind == 0 and text:
            text[where] = rng.randrange(256)
        elif kind == 1:
            del text[where : where + rng.randint(1, 9)]
        elif kind == 2:
            text[where:where] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 9)))
        elif kind == 3:
            text[where:where] = text[where : where + rng.randint(1, 40)]
        else:
            evil = [
                b"-1",
                b"9" * 30,
                b"1e400",
                b"null",
                b"true",
                b'"x"',
                b"[]",
                b"{}",
                b"NaN",
                b'"',
            ]
            text[where : where + rng.randint(0, 3)] = rng.choice(evil)
    return bytes(text)


def _overwrite(file, raw):
    # Truncating to nothing first makes some file systems sync: ten times slower.
    with file.open("r+b") as handle:
        handle.write(raw)
        handle.truncate()


def fuzz(folder, rounds: int, seed: int) -> tuple[int, int]:
    """Open mutated headers and indexes; return how many opened and how many were refused."""
    rng = random.Random(seed)
    write_model(
        folder, {n: t for n, t in llama_tensors(layers=1).items() if "attn" not in n}, shards=2
    )
    files = [*sorted(folder.glob("*.safetensors")), folder / "model.safetensors.index.json"]
    whole = {file: file.read_bytes() for file in files}
    opened = refused = 0
    for _ in range(rounds):
        file = rng.choice(files)
        raw = whole[file]
        cut = len(raw) if file.suffix == ".json" else 8 + int.from_bytes(raw[:8], "little")
        header = _mutate(raw[:cut], rng)
        if file.suffix != ".json" and rng.random() < 0.7:  # keep the length honest: deeper lies
            header = len(header[8:]).to_bytes(8, "little") + header[8:]
        _overwrite(file, header + raw[cut:])
        try:
            checkpoint = open_checkpoint(folder)
            for name in checkpoint.tensors:
                checkpoint.read(name)
            checkpoint.fingerprint().encode()
            checkpoint.close()
            opened += 1
        except MergerError:
            refused += 1
        _overwrite(file, raw)
    return opened, refused


def test_mutated_headers_never_crash(tmp_path):
    """Two thousand random lies: each opens and reads whole, or is a MergerError."""
    opened, refused = fuzz(tmp_path, 2000, seed=1)
    assert opened + refused == 2000
    assert refused > 1000


@pytest.mark.slow
def test_mutated_headers_never_crash_deep(tmp_path):
    """A hundred thousand random lies, another seed."""
    opened, refused = fuzz(tmp_path, 100_000, seed=2)
    assert opened + refused == 100_000
