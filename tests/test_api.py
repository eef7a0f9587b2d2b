"""`import merger`: light, lazy, documented, and the same as the commands."""

import inspect
import json
import subprocess
import sys
import time

import pytest

import merger
from tests.blocks import ROOT, run
from tests.checkpoints import llama_tensors, write_model

SPEC = {"merge_method": "ties", "base_model": "base", "dtype": "float32"}
SPEC["models"] = [{"model": n, "parameters": {"weight": 1.0, "density": 0.5}} for n in ("a", "b")]


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Write base, a and b, and stand beside them."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("base", "a", "b")):
        write_model(tmp_path / name, llama_tensors(i))
    return tmp_path


def test_import_costs_nothing():
    """`import merger` takes under 0.2 s of processor time and loads no heavy package."""
    code = (
        "import sys, time; begin = time.process_time(); import merger; "
        "print(time.process_time() - begin, [m for m in ('torch', 'numpy', 'yaml', 'rich') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, _, loaded = done.stdout.strip().partition(" ")
    assert loaded == "[]"
    assert float(seconds) < 0.2


@pytest.mark.parametrize("name", merger.__all__)
def test_each_name_is_there_and_says_what_it_is(name):
    """Every stable name loads, and has a docstring; functions are typed throughout."""
    found = getattr(merger, name)
    assert inspect.getdoc(found)
    if inspect.isfunction(found):
        hints = inspect.signature(found)
        assert hints.return_annotation is not inspect.Signature.empty
        assert all(p.annotation is not p.empty for p in hints.parameters.values())
        assert "Raises" in found.__doc__ or name in ("explain", "resolve")


def test_a_name_that_is_not_there():
    """A wrong name is an AttributeError, as for any module; a submodule is no function."""
    with pytest.raises(AttributeError, match="mergo"):
        merger.mergo  # noqa: B018
    assert merger.operators.OPERATORS["ties"].name == "ties"
    assert merger.tasks.get_task("ded").name == "deduction"
    assert set(dir(merger)) == set(merger.__all__)


def test_a_merge_is_the_command_s(models):
    """A mapping gives the bytes that the same YAML gives to `merger merge`."""
    merged = merger.merge(SPEC, "out")
    (models / "m.yaml").write_text(json.dumps(SPEC))
    run(["merge", "m.yaml", "typed"])
    one, two = (models / n / "model.safetensors" for n in ("out", "typed"))
    assert one.read_bytes() == two.read_bytes()
    assert merged.out.name == "out"
    plan = merger.explain("m.yaml")
    assert (type(merged), type(plan)) == (merger.Merged, merger.Plan)
    with_numbers = merger.open_checkpoint(merged.out)
    assert {s.name for s in plan.steps} == set(with_numbers.tensors)
    with_numbers.close()


def test_mistakes_are_merger_errors(models):
    """What a command says in two lines is an exception with `law` and `remedy`."""
    with pytest.raises(merger.MergerError) as found:
        merger.merge(SPEC | {"merge_method": "tise"}, "out")
    assert "tise" in found.value.law
    assert "ties" in found.value.remedy
    with pytest.raises(merger.MergerError, match="no option named 'trails'"):
        merger.search("a,b", "run", trails=3)


@pytest.mark.parametrize(
    ("call", "law"),
    [
        (lambda: merger.evaluate("base", "ded", n=-1), "n is -1"),
        (lambda: merger.evaluate("base", "ded", samples=0), "samples is 0"),
        (lambda: merger.evaluate("base", "ded", temperature=-0.5), "temperature is -0.5"),
        (lambda: merger.evaluate([], "ded"), "no model is named"),
        (lambda: merger.merge(SPEC, "out", threads=0), "threads is 0"),
        (lambda: merger.resolve(""), "no model named ''"),
    ],
)
def test_calls_refuse_what_the_command_refuses(models, call, law):
    """A number below its least value, or a name of nothing, is said before any work."""
    with pytest.raises(merger.MergerError, match=law):
        call()
    assert not (models / "out").exists()


def test_evaluate_returns_rows(tmp_path, monkeypatch):
    """`evaluate` gives each model with its scores in [0, 1], and prints nothing."""
    monkeypatch.chdir(tmp_path)
    base, ded = merger.evaluate(["base", "ded"], "ded", n=2, levels="1", max_new_tokens=4)
    assert type(base) is merger.Evaluated
    assert 0 <= base.document()["tasks"]["deduction"]["mean"] <= 1
    (pair,) = ded.against(base)
    assert (pair["a"], pair["b"], pair["n"]) == ("base", "ded", 2)


@pytest.mark.slow
def test_search_and_ablate(tmp_path, monkeypatch, capsys):
    """A search by call leaves what the command leaves, returns it, and prints nothing."""
    monkeypatch.chdir(tmp_path)
    sizes = {"trials": 3, "items": "2+2", "tasks": "ind", "levels": "1", "max_new_tokens": 4}
    found = merger.search(["ded", "ind"], "run", seed=1, **sizes)
    assert type(found) is merger.Found
    assert found.confirmed["verdict"]
    assert (tmp_path / "run" / "winner.yaml").is_file()
    begin = time.monotonic()
    again = merger.search(out="run", resume=True)
    assert again.confirmed == found.confirmed
    assert time.monotonic() - begin < 60
    assert "sections" in merger.ablate("run", quick=True, sections="shapley")
    assert capsys.readouterr().out == ""
