"""The walk over a plan: the same bytes however it is cut, in its memory, and honest about NaN."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from merger.checkpoint import open_checkpoint
from merger.engine import Budget, DictSink, merge_to_folder, opened, run_plan
from merger.engine.extract import extract_lora, save_adapter
from merger.engine.run import straight_steps
from merger.errors import CheckpointError, MismatchError, OutputError, SpecError, UsageError
from merger.operators import OPERATORS
from merger.spec import merge_spec, spec_from_mapping
from tests.checkpoints import llama_tensors, write_model

ROOT = Path(__file__).parents[1]


@pytest.fixture
def family(tmp_path, monkeypatch):
    """Write base, ded and ind (experts near the base, in bfloat16) and stand beside them."""
    monkeypatch.chdir(tmp_path)
    base = llama_tensors(0)
    for i, name in enumerate(("base", "ded", "ind")):
        step = llama_tensors(10 + i)
        tensors = {n: (t + 0.05 * i * step[n]).bfloat16() for n, t in base.items()}
        write_model(tmp_path / name, tensors, dtype="bfloat16")
    return tmp_path


def made(spec, budget=None, **options):
    """Return a merge's tensors."""
    with opened(spec) as models:
        sink = DictSink(models.plan)
        run_plan(models.plan, models.checkpoints, sink, budget=budget, **options)
    return sink.tensors


def spec_of(name, **rest):
    """Return a spec of an operator over ded and ind with middling knobs."""
    op = OPERATORS[name]
    models = ["ded", "ind"][: op.experts[1] or 2]
    each = {"weight": 0.7, "density": 0.5} | {"scale": 0.9, "epsilon": 0.1, "gamma": 0.05}
    own = {n: v for n, v in each.items() if n in op.knobs and op.knobs[n].each}
    shared = {"t": 0.4} if "t" in op.knobs else {}
    return merge_spec(name, dict.fromkeys(models, own), base="base", knobs=shared, **rest)


@pytest.mark.parametrize("name", list(OPERATORS))
def test_blocks_and_threads_change_no_byte(family, name):
    """One row at a time and not held, or all at once with two threads: the same bytes."""
    whole = made(spec_of(name), threads=2)
    rows = made(spec_of(name), Budget(1 << 16, block=8))
    assert whole.keys() == rows.keys()
    assert all(torch.equal(whole[n], rows[n]) for n in whole)


@pytest.mark.parametrize("name", [n for n in OPERATORS if OPERATORS[n].laws.stored])
def test_what_is_read_as_it_is_stored_changes_no_byte(family, monkeypatch, name):
    """Blocks of bfloat16, cut where they may be, and the same widened by the engine."""
    whole = made(spec_of(name))
    rows = made(spec_of(name), Budget(1 << 16, block=8))
    monkeypatch.setattr("merger.engine.run.stored_in", lambda *_: None)
    widened = made(spec_of(name))
    assert all(torch.equal(whole[n], t) and torch.equal(rows[n], t) for n, t in widened.items())


@pytest.mark.parametrize("name", list(OPERATORS))
def test_long_rows_are_cut_and_change_no_byte(tmp_path, monkeypatch, name):
    """Rows longer than a block are merged in pieces where the operator lets them be cut."""
    monkeypatch.chdir(tmp_path)
    for i, model in enumerate(("base", "ded", "ind")):
        g = torch.Generator().manual_seed(i)
        wide = {"a.weight": torch.randn(2, 150, generator=g), "b": torch.randn(301, generator=g)}
        write_model(tmp_path / model, wide | {"steps": torch.arange(77)})
    whole = made(spec_of(name))
    cut = Budget(1 << 18, block=16)
    assert all(torch.equal(whole[n], t) for n, t in made(spec_of(name), cut).items())
    with opened(spec_of(name)) as models:
        steps = [cut.cut(s) for s in models.plan.merged]
    rowwise = name in ("arcee_fusion", "della", "della_linear")
    assert {s.cols == 1 for s in steps} == {not rowwise}


@pytest.mark.parametrize("name", ["linear", "ties", "dare_ties", "slerp"])
def test_rounding_happens_once(family, name):
    """Merging into bfloat16 is merging into float32 and rounding the result."""
    fine = made(spec_of(name, dtype="float32"))
    coarse = made(spec_of(name, out_dtype="bfloat16", dtype="float32"))
    assert {t.dtype for t in fine.values()} == {torch.float32}
    assert all(torch.equal(fine[n].bfloat16(), coarse[n]) for n in fine)


def test_a_model_merged_with_itself_is_itself(family):
    """A weighted mean of one model with itself changes no bit, in bfloat16 too."""
    write_model(family / "twin", load_file(family / "ded" / "model.safetensors"))
    mean = made(merge_spec("linear", {"ded": 0.6, "twin": 0.4}))
    kept = load_file(family / "ded" / "model.safetensors")
    assert all(torch.equal(mean[n], kept[n]) for n in kept)


def test_shards_change_no_byte(family):
    """Inputs in one file or in five, outputs in one file or in many: the same tensors."""
    one = made(spec_of("ties"))
    for name in ("base", "ded", "ind"):
        tensors = load_file(family / name / "model.safetensors")
        (family / name / "model.safetensors").unlink()
        write_model(family / name, tensors, shards=5)
    with opened(spec_of("ties")) as models:
        merge_to_folder(models, family / "out", shard_size=1_000)
    assert len(list((family / "out").glob("*.safetensors"))) > 2
    written = open_checkpoint(family / "out")
    assert {n: i.shape for n, i in written.tensors.items()} == {
        n: tuple(t.shape) for n, t in one.items()
    }
    for name, tensor in one.items():
        assert torch.equal(written.read(name).view(tensor.shape), tensor)


def test_hash_seed_changes_no_byte(family):
    """Two processes with other hash seeds write the same file."""
    files = []
    for seed in ("1", "2"):
        out = family / f"out{seed}"
        flags = ["--base", "base", "--expert", "ded=1", "--expert", "ind=0.3"]
        run = [sys.executable, "-m", "merger.cli", "merge", "--method", "dare_ties", *flags]
        run += ["--set", "density=0.5", str(out)]
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        subprocess.run(run, check=True, capture_output=True, env=env, cwd=family)
        files.append((out / "model.safetensors").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_number_is_named(family, value):
    """NaN or infinity in an input is an error with expert, tensor and place; or goes through."""
    tensors = load_file(family / "ind" / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    write_model(family / "ind", tensors)
    told = r"ind: model.layers.1.mlp.up_proj.weight holds \w+ \(row 3, column 5\)"
    with opened(spec_of("linear")) as models, pytest.raises(CheckpointError, match=told):
        merge_to_folder(models, family / "out")
    with opened(spec_of("linear")) as models, pytest.raises(CheckpointError, match=told):
        run_plan(
            models.plan, models.checkpoints, DictSink(models.plan), budget=Budget(1 << 16, block=4)
        )
    assert not list(family.glob("out*"))
    merged = made(spec_of("linear"), allow_nan=True)
    assert int((~merged["model.layers.1.mlp.up_proj.weight"].isfinite()).sum()) == 1


def test_numbers_too_large_for_float16_are_refused(family):
    """An overflow in the written dtype is an error, not an infinity."""
    tensors = load_file(family / "ded" / "model.safetensors")
    write_model(family / "ded", {n: t * 1e6 for n, t in tensors.items()})
    with pytest.raises(MismatchError, match="float16 cannot hold"):
        made(merge_spec("linear", {"ded": 1.0}, dtype="float16"))


def test_an_operators_complaint_names_the_tensor(family):
    """Weights that cancel in one kind of tensor are told with the tensor's name."""
    rule = [{"filter": "q_proj", "value": -1.0}, {"value": 1.0}]
    weights = {"ded": {"weight": rule}, "ind": 1.0}
    with pytest.raises(SpecError, match=r"q_proj.weight: the weights -1, 1 sum to zero"):
        made(merge_spec("linear", weights))


def test_a_budget_that_cannot_hold_is_refused(family):
    """Less memory than the process already holds is an error that says how much is needed."""
    with pytest.raises(UsageError, match=r"is too little.*\n.*at least --memory"):
        made(spec_of("linear"), memory=1_000_000)


def test_a_row_too_long_for_the_budget_is_named_in_the_plan(tmp_path, monkeypatch):
    """An operator of whole rows says which tensor does not fit and what would do, before any work.

    The memory it asks for is enough.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("merger.engine.budget.resident_bytes", lambda: 400_000_000)
    header = json.dumps({"b": {"dtype": "BF16", "shape": [10**8], "data_offsets": [0, 2 * 10**8]}})
    for model in ("base", "ded", "ind"):
        (tmp_path / model).mkdir()
        (tmp_path / model / "config.json").write_text("{}")
        with (tmp_path / model / "model.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header.encode())
            file.truncate(file.tell() + 2 * 10**8)
    with opened(spec_of("della")) as models:
        with pytest.raises(UsageError, match="della needs whole rows, and one of b takes") as told:
            Budget.of(10**9, models.plan)
        asked = float(str(told.value.remedy).split()[-1].removesuffix("GB."))
        assert Budget.of(int(asked * 1e9), models.plan).workers == 1
        assert asked < 30
    with opened(spec_of("ties")) as models:
        assert Budget.of(10**9, models.plan, threads=3).workers == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear", "ties"])
def test_the_memory_budget_is_kept(tmp_path, name):
    """Tensors larger than the budget are merged within it: the kernel's own count of the peak."""
    g = torch.Generator().manual_seed(0)
    for model in ("base", "ded", "ind"):
        tensors = {"model.embed_tokens.weight": torch.randn(60_000, 1000, generator=g).bfloat16()}
        write_model(tmp_path / model, tensors | {"lm_head.weight": torch.zeros(2, 2)})
    code = (
        "import sys; from merger.cli import app; app(sys.argv[1:], standalone_mode=False);"
        "print([l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')][0])"
    )
    flags = ["--base", "base", "--expert", "ded=1", "--expert", "ind=0.3", "--memory", "500MB"]
    flags += ["--set", "density=0.5"] if name == "ties" else []
    run = [sys.executable, "-c", code, "merge", "--method", name, *flags, "out"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    told = subprocess.run(run, check=True, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert int(told.stdout.split()[-1]) * 1024 < 500_000_000


def test_a_killed_merge_goes_on(family):
    """Finished shards of an interrupted run are kept, and the result is the same."""
    with opened(spec_of("ties")) as models:
        merge_to_folder(models, family / "whole", shard_size=1_000)
    count = 0

    def stop(step):
        nonlocal count
        count += 1
        if count == 12:
            raise KeyboardInterrupt

    with opened(spec_of("ties")) as models, pytest.raises(KeyboardInterrupt):
        merge_to_folder(models, family / "out", shard_size=1_000, progress=stop, threads=1)
    assert (family / "out.partial").exists()
    seen = []
    with opened(spec_of("ties")) as models:
        options = {"resume": True, "progress": lambda step: seen.append(step.name)}
        merge_to_folder(models, family / "out", shard_size=1_000, **options)
    assert 0 < len(seen) < len(llama_tensors())
    one, two = (open_checkpoint(family / n).fingerprint() for n in ("whole", "out"))
    assert one == two


def test_another_merge_does_not_go_on(family):
    """What another spec left behind is not resumed."""
    with opened(spec_of("ties")) as models, pytest.raises(KeyboardInterrupt):
        merge_to_folder(models, family / "out", progress=_interrupt)
    with opened(spec_of("linear")) as models, pytest.raises(OutputError, match="another spec"):
        merge_to_folder(models, family / "out", resume=True)


def test_rebuilding_checks_the_inputs(family):
    """merger.yaml rebuilds the model, and refuses once an input has changed."""
    from merger.spec import load_spec

    with opened(spec_of("ties")) as models:
        merge_to_folder(models, family / "out")
    with opened(load_spec(family / "out" / "merger.yaml")) as models:
        merge_to_folder(models, family / "again")
    same = [(family / n / "model.safetensors").read_bytes() for n in ("out", "again")]
    assert same[0] == same[1]
    write_model(family / "ind", {n: t.bfloat16() for n, t in llama_tensors(99).items()})
    with (
        opened(load_spec(family / "out" / "merger.yaml")) as models,
        pytest.raises(MismatchError, match="changed"),
    ):
        merge_to_folder(models, family / "third")


def test_stacked_layers_load(family):
    """A folder made of slices loads in transformers with its new number of layers."""
    from transformers import AutoModelForCausalLM

    ranges = (("ded", [0, 2]), ("ind", [0, 2]))
    part = [{"sources": [{"model": m, "layer_range": r}]} for m, r in ranges]
    spec = spec_from_mapping({"merge_method": "passthrough", "slices": part})
    with opened(spec) as models:
        merge_to_folder(models, family / "out")
    model = AutoModelForCausalLM.from_pretrained(family / "out")
    assert model.config.num_hidden_layers == 4


def _interrupt(step):
    raise KeyboardInterrupt


def test_without_a_limit_a_process_that_holds_much_can_merge(family, monkeypatch):
    """A limit bounds the whole process; without one a merge in a long run has half a gigabyte."""
    monkeypatch.setattr("merger.engine.budget.resident_bytes", lambda: 5_000_000_000)
    with opened(spec_of("linear")) as models:
        assert Budget.of(None, models.plan).working > 300_000_000
        with pytest.raises(UsageError, match="are taken before"):
            Budget.of(1_000_000_000, models.plan)


@pytest.mark.parametrize("what", ["fails", "ends"])
def test_a_read_error_ends_the_merge(family, monkeypatch, what):
    """A disk that fails, or a file cut short, while a merge runs is told by name; nothing stays."""
    real, calls = os.preadv, []

    def preadv(fd, buffers, offset):
        calls.append(offset)
        if len(calls) < 20:
            return real(fd, buffers, offset)
        if what == "fails":
            raise OSError(errno.EIO, "Input/output error")
        return 0

    said = {"fails": "cannot be read: Input/output error", "ends": r"ends at byte [\d,]+, inside"}
    with opened(spec_of("ties")) as models:
        monkeypatch.setattr(os, "preadv", preadv)
        with pytest.raises(CheckpointError, match=said[what]):
            merge_to_folder(models, family / "out")
    assert not list(family.glob("out*"))


LINES = [name for name in OPERATORS if OPERATORS[name].line]


def written(spec, out, **options):
    """Return the bytes of a merge's weights."""
    with opened(spec) as models:
        merge_to_folder(models, out, **options)
    return (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float16"])
@pytest.mark.parametrize("name", LINES)
def test_bytes_and_tensors_make_one_file(family, name, dtype, monkeypatch):
    """From bytes to bytes, where that suits, is what the walk over tensors writes."""
    for model in ("base", "ded", "ind"):
        tensors = load_file(family / model / "model.safetensors")
        tensors["steps"] = torch.arange(7)
        tensors["model.norm.weight"] = tensors["model.norm.weight"].to(getattr(torch, dtype))
        write_model(family / model, tensors, dtype="bfloat16")
    spec = spec_of(name, dtype=dtype)
    straight = written(spec, family / "straight")
    monkeypatch.setattr("merger.engine.straight.ITEMSIZE", {})  # not to be taken by mistake
    monkeypatch.setattr("merger.native.LIBRARY", None)
    monkeypatch.setattr("merger.engine.run.Straight.suits", lambda *_: False)
    assert written(spec, family / "walked") == straight


def test_a_weighted_sum_of_folders_needs_no_torch(family):
    """It is done while torch would still be loading; and so is whatever makes plans alone."""
    code = "import sys; from merger.cli import main; sys.argv[1:] = {}\ntry: main()\nfinally: "
    code += "print([name for name in ('torch', 'numpy') if name in sys.modules])"
    config = {"merge_method": "linear", "dtype": "bfloat16", "models": []}
    for model in ("ded", "ind"):
        config["models"].append({"model": model, "parameters": {"weight": 1.0}})
    (family / "linear.yaml").write_text(json.dumps(config))
    merge, explain = ["merge", "linear.yaml", "out"], ["explain", "linear.yaml"]
    flags = ["--method", "task_arithmetic", "--base", "base", "--expert", "ded=1"]
    diff = ["diff", "base", "ded", "ind"]
    both = ["merge", *flags, "sum"], diff  # lineage is worked out by numpy
    for words in (merge, explain, ["operators"], *both):
        command = [sys.executable, "-c", code.format(words)]
        told = subprocess.run(command, cwd=family, capture_output=True, text=True, check=True)
        assert told.stdout.endswith("['numpy']\n" if words in both else "[]\n"), words


def test_torch_is_counted_where_it_is_still_to_be_loaded(family, monkeypatch):
    """An adapter needs it, whatever the operator: explain and budget know before it is there."""
    monkeypatch.setattr("merger.engine.budget.sys", SimpleNamespace(modules={}))
    extracted = extract_lora(open_checkpoint(family / "base"), open_checkpoint(family / "ded"), 2)
    save_adapter(extracted, family / "adapter", "base")
    for expert, straight in (("ded", True), ("adapter", False)):
        spec = merge_spec("task_arithmetic", {expert: {"weight": 1.0}}, base="base")
        with opened(spec) as models:
            found = straight_steps(models.plan, models.checkpoints, "cpu")
            assert (len(found) == len(models.plan.steps)) is straight
            peaks = [Budget.of(None, models.plan, straight=s).peak(models.plan) for s in (1, 0)]
            assert peaks[1] - peaks[0] > 150_000_000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bytes_that_are_no_numbers_are_named(family, value):
    """The loop over bytes says which expert, tensor and place, as the walk does; or lets it be."""
    tensors = load_file(family / "ind" / "model.safetensors")
    tensors["model.norm.weight"][3] = value
    write_model(family / "ind", tensors, dtype="bfloat16")
    with pytest.raises(CheckpointError, match=r"ind: model\.norm\.weight holds .*column 3"):
        written(spec_of("linear"), family / "out")
    assert not (family / "out").exists()
    assert written(spec_of("linear"), family / "out", allow_nan=True)
