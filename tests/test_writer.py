"""Writing: bit for bit, whole or not at all, resumed where killed, refused where it must be."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from merger.checkpoint import Writer, dtype_code, open_checkpoint
from merger.errors import OutputError
from tests.checkpoints import llama_tensors


def plan(tensors):
    """Return what a plan says of these tensors."""
    return [(n, dtype_code(t.dtype), tuple(t.shape)) for n, t in tensors.items()]


def rows(tensor):
    """Return the tensor as rows of its last axis."""
    return tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() > 1 else tensor.reshape(1, -1)


def fill(writer, tensors, step=3):
    """Write every unfinished tensor in blocks of a few rows."""
    for name, tensor in tensors.items():
        if name not in writer.finished:
            for i in range(0, rows(tensor).shape[0], step):
                writer.write(name, i, rows(tensor)[i : i + step])


def save(out, tensors, shard_size=10**9, **options):
    """Write a whole model."""
    with Writer(out, plan(tensors), shard_size, **options) as writer:
        fill(writer, tensors)
        writer.commit()


def read(folder):
    """Read a folder by the safetensors package."""
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


@pytest.mark.parametrize("shard_size", [1, 300, 2000, 10**9])
def test_what_is_written_reads_back(tmp_path, shard_size):
    """For any shard size the safetensors package reads the very tensors, and we their names."""
    tensors = llama_tensors(dtype=torch.bfloat16) | {
        "ids": torch.arange(5),
        "on": torch.ones(3) > 0,
    }
    tensors |= {"none": torch.empty(0, 4), "one": torch.tensor(2.5).double()}
    save(tmp_path / "out", tensors, shard_size)
    found = read(tmp_path / "out")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[n], t) and found[n].dtype == t.dtype for n, t in tensors.items())
    assert open_checkpoint(tmp_path / "out").tensors.keys() == tensors.keys()
    assert not (tmp_path / "out.partial").exists()


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12), limit=st.integers(1, 200))
def test_shards_cover_the_plan(sizes, limit):
    """Every tensor is in one shard, in order, and no shard of several tensors passes the limit."""
    from merger.checkpoint.layout import layout

    shards = layout([(f"t{i}", "F32", (n,)) for i, n in enumerate(sizes)], limit, Path("x"))
    assert [i.name for s in shards for i in s.tensors] == [f"t{i}" for i in range(len(sizes))]
    for shard in shards:
        data = sum(i.nbytes for i in shard.tensors)
        assert data <= limit or sum(1 for i in shard.tensors if i.nbytes) == 1


def test_names_index_and_metadata(tmp_path):
    """Shards are named as transformers expects; the index holds total_size and every tensor."""
    save(tmp_path / "out", tensors := llama_tensors(), 2000)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    n = len(names) - 1
    assert names[:-1] == [f"model-{i:05}-of-{n:05}.safetensors" for i in range(1, n + 1)]
    index = json.loads((tmp_path / "out" / names[-1]).read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    assert index["weight_map"].keys() == tensors.keys()
    header = (tmp_path / "out" / names[0]).read_bytes()[8:60]
    assert header.startswith(b'{"__metadata__":{"format":"pt"}')


def test_the_bytes_do_not_depend_on_order_or_blocks(tmp_path):
    """Rows written backwards, one by one, give the same file."""
    tensors = llama_tensors()
    save(tmp_path / "a", tensors)
    with Writer(tmp_path / "b", plan(tensors)) as writer:
        for name in reversed(tensors):
            for i in reversed(range(rows(tensors[name]).shape[0])):
                writer.write(name, i, rows(tensors[name])[i : i + 1])
        writer.commit()
    files = [tmp_path / f / "model.safetensors" for f in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_nothing_stands_under_the_name_before_commit(tmp_path):
    """Until commit there is no OUT; an error leaves neither OUT nor OUT.partial nor new parents."""
    tensors, out = llama_tensors(), tmp_path / "new" / "deep" / "out"

    def fail():
        with Writer(out, plan(tensors)) as writer:
            fill(writer, tensors)
            raise RuntimeError(out.exists())

    with pytest.raises(RuntimeError, match="False"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_model_is_kept_without_force(tmp_path):
    """OUT that exists is refused; with force it is replaced, and a failed try leaves it alone."""
    out = tmp_path / "out"
    save(out, old := llama_tensors(1))
    with pytest.raises(OutputError, match="exists"):
        save(out, llama_tensors(2))
    with pytest.raises(RuntimeError), Writer(out, plan(old), force=True):
        raise RuntimeError
    assert torch.equal(read(out)["lm_head.weight"], old["lm_head.weight"])
    save(out, new := llama_tensors(2), 2000, force=True)
    assert torch.equal(read(out)["lm_head.weight"], new["lm_head.weight"])
    assert not (out / "model.safetensors").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def killed_while_replacing(out, tensors, monkeypatch):
    """Replace the model in OUT, and stop after it was moved aside."""
    real = Path.rename

    def rename(path, target):
        if path.name.endswith(".partial"):
            raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Path, "rename", rename)
        save(out, tensors, 2000, force=True, spec_hash="a")
    assert not out.exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_killed_while_it_replaced_a_model_is_completed(tmp_path, monkeypatch, resume):
    """Between the two renames nothing is lost: the next run puts OUT back, says so, and ends it."""
    out, old, new = tmp_path / "out", llama_tensors(1), llama_tensors(2)
    save(out, old)
    killed_while_replacing(out, new, monkeypatch)
    with pytest.raises(OutputError, match="exists"):
        save(out, new, 2000, spec_hash="a")
    assert torch.equal(read(out)["lm_head.weight"], old["lm_head.weight"])
    killed_while_replacing(out, new, monkeypatch)
    with Writer(out, plan(new), 2000, force=True, resume=resume, spec_hash="a") as writer:
        assert "killed while it replaced" in writer.notes[0]
        assert writer.finished == (new.keys() if resume else set())
        fill(writer, new)
        writer.commit()
    assert torch.equal(read(out)["lm_head.weight"], new["lm_head.weight"])
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert not any(p.name.startswith(".") for p in out.iterdir())


def test_what_was_moved_aside_is_never_written_over(tmp_path):
    """A folder under the name that OUT would be moved to is refused before any work, and kept."""
    save(tmp_path / "out", llama_tensors())
    save(tmp_path / "out.replaced", llama_tensors())
    with pytest.raises(OutputError, match=r"out\.replaced is in the way"):
        save(tmp_path / "out", llama_tensors(), force=True)
    assert {p.name for p in tmp_path.iterdir()} == {"out", "out.replaced"}


def test_force_knows_a_folder_of_templates(tmp_path):
    """The one folder that belongs to a model does not keep it from being replaced."""
    save(tmp_path / "out", llama_tensors(1))
    (tmp_path / "out" / "additional_chat_templates").mkdir()
    save(tmp_path / "out", llama_tensors(2), force=True)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("what", ["folder", "notes", "file", "link"])
def test_force_replaces_only_a_model(tmp_path, what):
    """A folder of other things, a file or a link is never replaced, not even with force."""
    out = tmp_path / "out"
    if what == "folder":
        save(out, llama_tensors())
        (out / "photos").mkdir()
    elif what == "notes":
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    elif what == "file":
        out.write_text("mine")
    else:
        (tmp_path / "home").mkdir()
        out.symlink_to(tmp_path / "home")
    with pytest.raises(OutputError):
        save(out, llama_tensors(), force=True)
    assert out.exists()


def test_a_full_disk_is_told_before_the_work(tmp_path, monkeypatch):
    """A disk with too little room for the shards is found before any is computed."""

    def fallocate(fd, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    with pytest.raises(OutputError, match=r"No space left on device \([\d,]+ bytes free\)"):
        Writer(tmp_path / "out", plan(llama_tensors()))
    assert list(tmp_path.iterdir()) == []


def test_what_the_disk_refuses_behind_the_work_is_told(tmp_path, monkeypatch):
    """An error of the very last write, which runs beside the work, ends it; it is not lost."""
    real, tensors = os.pwrite, llama_tensors()
    end = Writer(tmp_path / "a", plan(tensors)).shards[0].size

    def pwrite(fd, data, offset):
        if offset + len(data) == end:
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OutputError, match="Input/output error"):
        save(tmp_path / "out", tensors)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("start", [0, 1, 3 * 4096 - 2])
@pytest.mark.parametrize("refused", [False, True])
def test_whole_pages_pass_the_cache_by_and_the_rest_does_not(tmp_path, monkeypatch, start, refused):
    """Wherever a large tensor starts, and where no file can be written directly, it is whole."""
    real = os.open

    def open_(path, flags, *mode):
        if refused and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", open_)
    tensors = {"a": torch.zeros(start, dtype=torch.uint8)}
    tensors["b"] = torch.randint(0, 255, (1001, 3001), dtype=torch.uint8)
    with Writer(tmp_path / "out", plan(tensors)) as writer:
        fill(writer, tensors, 500)
        writer.commit()
    assert all(torch.equal(read(tmp_path / "out")[n], t) for n, t in tensors.items())


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch):
    """ENOSPC in the middle is an OutputError, and the disk is left as it was."""
    real, calls = os.pwrite, []

    def pwrite(fd, data, offset):
        calls.append(offset)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OutputError, match="No space left"):
        save(tmp_path / "out", llama_tensors())
    assert list(tmp_path.iterdir()) == []


def test_short_writes_are_continued(tmp_path, monkeypatch):
    """A kernel that takes a few bytes at a time still gets them all."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:7], offset))
    save(tmp_path / "out", tensors := llama_tensors())
    assert torch.equal(read(tmp_path / "out")["lm_head.weight"], tensors["lm_head.weight"])


def test_more_shards_than_open_files(tmp_path):
    """Where the soft limit on open files is low, it is raised rather than met."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, hard))
    try:
        save(tmp_path / "out", tensors := llama_tensors(layers=3), 1)
        assert open_checkpoint(tmp_path / "out").tensors.keys() == tensors.keys()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_row_can_be_written_in_pieces(tmp_path):
    """Blocks (n, 1) hold entries, in any order; the tensor is whole when all are there."""
    whole = torch.arange(12.0).view(2, 6)
    with Writer(tmp_path / "out", [("t", "F32", (2, 6))]) as writer:
        for start, end in ((5, 12), (0, 2), (2, 5)):
            writer.write("t", start, whole.view(-1, 1)[start:end])
        writer.commit()
    assert torch.equal(open_checkpoint(tmp_path / "out").read("t"), whole)


@given(cuts=st.sets(st.integers(1, 23)), data=st.data())
def test_rows_are_written_once(tmp_path_factory, cuts, data):
    """In any order, a range that meets one written before raises; all others end in the tensor."""
    whole, ends = torch.arange(24.0).view(24, 1), [0, *sorted(cuts), 24]
    spans = data.draw(st.permutations(list(itertools.pairwise(ends))))
    again = data.draw(st.sampled_from(spans))
    out = tmp_path_factory.mktemp("once") / "out"
    with Writer(out, [("t", "F32", (4, 6)), ("u", "F32", (1,))]) as writer:
        for start, end in spans:
            writer.write("t", start, whole[start:end])
        with pytest.raises(ValueError, match="written twice"):
            writer.write("t", again[0], whole[again[0] : again[1]])
        writer.write("u", 0, torch.ones(1, 1))
        writer.commit()
    assert torch.equal(open_checkpoint(out).read("t"), whole.view(4, 6))


def test_wrong_blocks_are_bugs(tmp_path):
    """Another dtype, another width, rows outside, and a commit too early raise."""
    with Writer(tmp_path / "out", [("t", "F32", (4, 3))]) as writer:
        for start, block in [
            (0, torch.ones(4, 3).half()),
            (0, torch.ones(4, 2)),
            (3, torch.ones(2, 3)),
        ]:
            with pytest.raises(ValueError, match="does not fit"):
                writer.write("t", start, block)
        writer.write("t", 0, torch.ones(2, 3))
        with pytest.raises(ValueError, match="missing"):
            writer.commit()
    with pytest.raises(OutputError, match="planned twice"):
        Writer(tmp_path / "b", [("t", "F32", (1,)), ("t", "F32", (1,))])
    with pytest.raises(OutputError, match="no tensor"):
        Writer(tmp_path / "b", [])


def interrupted(out, tensors, first, **options):
    """Write the first tensors, then stop as Ctrl-C does."""
    with suppress(KeyboardInterrupt), Writer(out, plan(tensors), 2000, **options) as writer:
        fill(writer, {n: tensors[n] for n in list(tensors)[:first]})
        raise KeyboardInterrupt


def test_finished_shards_are_kept_over_an_interruption(tmp_path):
    """Resumed, the finished tensors need not be written; the result is that of one run."""
    tensors, out = llama_tensors(layers=3), tmp_path / "out"
    interrupted(out, tensors, 18, spec_hash="a")
    stamps = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("out.partial/.done-*")}
    assert len(stamps) >= 2
    with Writer(out, plan(tensors), 2000, resume=True, spec_hash="a") as writer:
        assert 0 < len(writer.finished) < len(tensors)
        fill(writer, tensors)
        writer.commit()
    save(tmp_path / "once", tensors, 2000)
    for file in (tmp_path / "once").iterdir():
        assert file.read_bytes() == (out / file.name).read_bytes()
    assert {p.name for p in out.iterdir()} == {p.name for p in (tmp_path / "once").iterdir()}


def test_another_spec_does_not_resume(tmp_path):
    """A different spec or layout, or no journal, refuses; without resume the rest is named."""
    tensors, out = llama_tensors(), tmp_path / "out"
    interrupted(out, tensors, 12, spec_hash="a")
    with pytest.raises(OutputError, match="another spec"):
        Writer(out, plan(tensors), 2000, resume=True, spec_hash="b")
    with pytest.raises(OutputError, match="another spec"):
        Writer(out, plan(tensors), 3000, resume=True, spec_hash="a")
    with pytest.raises(OutputError, match="unfinished run"):
        Writer(out, plan(tensors), 2000, spec_hash="a")
    assert any(tmp_path.glob("out.partial/.done-*"))
    (tmp_path / "out.partial" / ".merger-journal").unlink()
    with pytest.raises(OutputError, match="journal"):
        Writer(out, plan(tensors), 2000, resume=True, spec_hash="a")
    save(out, tensors, force=True)


@pytest.mark.parametrize("journal", [False, True])
def test_a_run_killed_before_its_journal_is_begun_anew(tmp_path, journal):
    """--resume goes on where nothing but the folder, or an empty journal, was made."""
    (tmp_path / "out.partial").mkdir()
    if journal:
        (tmp_path / "out.partial" / ".merger-journal").touch()
    tensors = llama_tensors()
    with Writer(tmp_path / "out", plan(tensors), 2000, resume=True) as writer:
        assert not writer.resumed
        fill(writer, tensors)
        writer.commit()
    assert {p.name for p in tmp_path.iterdir()} == {"out"}


def test_a_failed_resume_keeps_what_was_finished(tmp_path):
    """An error after a resume removes the unfinished shards only."""
    tensors, out = llama_tensors(layers=3), tmp_path / "out"
    interrupted(out, tensors, 18)
    done = {p.name for p in tmp_path.glob("out.partial/.done-*")}
    with pytest.raises(RuntimeError), Writer(out, plan(tensors), 2000, resume=True):
        raise RuntimeError
    assert {p.name for p in tmp_path.glob("out.partial/.done-*")} == done
    assert len(list(tmp_path.glob("out.partial/model-*"))) == len(done)


@pytest.mark.parametrize("touch", [lambda f: os.truncate(f, 100),
                                   lambda f: f.write_bytes(bytes(f.stat().st_size))])  # fmt: skip
def test_a_marked_shard_that_was_touched_is_made_again(tmp_path, touch):
    """A marker counts only beside a file of the planned size that nobody has written to since."""
    tensors, out = llama_tensors(layers=3), tmp_path / "out"
    interrupted(out, tensors, 18)
    marker = sorted(tmp_path.glob("out.partial/.done-*"))[0]
    touch(marker.with_name(marker.name.removeprefix(".done-")))
    with Writer(out, plan(tensors), 2000, resume=True) as writer:
        assert next(iter(tensors)) not in writer.finished


@pytest.mark.slow
@pytest.mark.parametrize("after", [2, 7, 13])
def test_a_killed_process_resumes(tmp_path, after):
    """SIGKILL at any point: no OUT, and a resumed run gives the bytes of an undisturbed one."""
    code = (
        "import os, signal, sys; from pathlib import Path; from tests.test_writer import *\n"
        "tensors = llama_tensors(layers=3); w = Writer(Path(sys.argv[1]), plan(tensors), 2000)\n"
        "for n in list(tensors)[:int(sys.argv[2])]: fill(w, {n: tensors[n]})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", code, str(out), str(after)]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], check=False)
    assert run.returncode == -signal.SIGKILL
    assert not out.exists()
    tensors = llama_tensors(layers=3)
    save(out, tensors, 2000, resume=True)
    save(tmp_path / "once", tensors, 2000)
    assert all(f.read_bytes() == (out / f.name).read_bytes() for f in (tmp_path / "once").iterdir())


def test_two_writers_of_one_folder_refuse_each_other(tmp_path):
    """While one process writes, neither --resume nor --force lets another in; then it may."""
    tensors, out = llama_tensors(), tmp_path / "out"
    with Writer(out, plan(tensors), spec_hash="a") as first:
        for how in ({}, {"resume": True}, {"force": True}):
            with pytest.raises(OutputError, match="written by another process"):
                Writer(out, plan(tensors), spec_hash="a", **how)
        fill(first, tensors)
        first.commit()
    save(out, tensors, force=True)
