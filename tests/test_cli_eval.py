"""`merger eval` and `merger compare` as users type them."""

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from evals.ledger import Cell, Ledger, Row
from merger.cli import app
from merger.cli.app import main, pausing
from merger.errors import EvalError, UnknownNameError, UsageError
from tests.toy_folder import toy_folders  # noqa: F401  a fixture

FEW = ["--n", "6", "--levels", "1", "--max-new-tokens", "12", "--threads", "1"]


def run(*words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json_has_the_promised_shape(toy_folders, here):  # noqa: F811
    """Each model has its fingerprint, and each task n, mean, interval, truncated, no_answer."""
    one, two = toy_folders
    result = run("eval", one, two, "--tasks", "arith,ind", *FEW, "--json")
    document = json.loads(result.stdout)
    assert [m["model"] for m in document["models"]] == [str(one), str(two)]
    first, second = document["models"]
    assert first["fingerprint"] != second["fingerprint"]
    assert set(first["tasks"]) == {"arithmetic", "induction"}
    facts = first["tasks"]["arithmetic"]
    assert {"n", "mean", "ci95", "truncated", "no_answer"} <= set(facts)
    assert facts["n"] == 6
    assert facts["ci95"][0] <= facts["mean"] <= facts["ci95"][1]
    pair = document["pairs"][0]
    assert (pair["a"], pair["b"], pair["n"]) == (str(one), str(two), 6)


def test_the_second_run_is_free(toy_folders, here, monkeypatch):  # noqa: F811
    """What the ledger holds is not generated again, and the tables are the same."""
    words = ("eval", *toy_folders, "--tasks", "arith", *FEW)
    first = run(*words)
    monkeypatch.setattr("evals.generate.Answerer.run", lambda *a: pytest.fail("paid twice"))
    assert run(*words).stdout == first.stdout
    assert "cut   unread" in first.stdout
    assert "against one" in first.stdout


def test_what_is_in_the_ledger_is_shown_without_torch(here, monkeypatch):
    """A model that was asked before is not loaded again, nor is any model library."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    words = ["eval", "tiny:ded", "--tasks", "arith", *FEW]
    first = run(*words)
    code = (
        "import sys\nfrom merger.cli import app\n"
        f"app({words!r}, standalone_mode=False)\n"
        "print([m for m in ('torch', 'transformers', 'scipy.stats') if m in sys.modules])"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout == first.stdout + "[]\n"


def test_an_interrupted_run_says_how_to_go_on(toy_folders, here, monkeypatch):  # noqa: F811
    """Ctrl-C keeps what was answered; the same command pays for the rest only."""
    from evals.generate import Answerer

    words, run_all, asked = ("eval", toy_folders[0], "--tasks", "arith", *FEW), Answerer.run, []

    def killed(self, requests, settings):
        yield from run_all(self, requests[:3], settings)
        raise KeyboardInterrupt

    def counted(self, requests, settings):
        asked.extend(requests)
        return run_all(self, requests, settings)

    monkeypatch.setattr(Answerer, "run", killed)
    result = CliRunner().invoke(app, [str(w) for w in words])
    assert result.exit_code == 130
    assert "the same command continues" in result.stderr
    monkeypatch.setattr(Answerer, "run", counted)
    run(*words)
    assert len(asked) == 3


def test_an_interrupt_in_disguise_pauses_too(monkeypatch, capsys):
    """Python 3.11 makes a RuntimeError of Ctrl-C while an import defines a class with fields."""

    class Field:
        def __set_name__(self, owner, name):
            raise KeyboardInterrupt

    def command(words, **how):
        with pausing("merger again"):
            type("Record", (), {"field": Field()})

    module = sys.modules["merger.cli.app"]
    monkeypatch.setattr(module, "app", command)
    with pytest.raises(SystemExit) as ended:
        main(["eval"])
    assert ended.value.code == 130
    assert "paused" in capsys.readouterr().err
    monkeypatch.setattr(module, "app", lambda words, **how: {}["a bug"])
    with pytest.raises(KeyError):
        main(["eval"])


def test_the_end_of_a_file_is_no_pause(monkeypatch):
    """Typer takes it for Ctrl-D; of a file that ends too early it is a mistake like others."""
    broken = typer.Typer()

    @broken.command()
    def command():
        raise EOFError

    monkeypatch.setattr(sys.modules["merger.cli.app"], "app", broken)
    with pytest.raises(typer.Abort) as raised:
        main([])
    assert isinstance(raised.value.__cause__, EOFError)


def test_sampled_scores_are_labelled(toy_folders, here):  # noqa: F811
    """A mean over k answers an item is avg@k, in the tables and in JSON."""
    drawn = ("--samples", "3", "--temperature", "1")
    words = ("eval", *toy_folders, "--tasks", "arith", *FEW, *drawn)
    document = json.loads(run(*words, "--json").stdout)
    told = [model["tasks"]["arithmetic"]["measure"] for model in document["models"]]
    assert [*told, document["pairs"][0]["measure"]] == ["avg@3"] * 3
    for shown in (run(*words), run("compare", *toy_folders)):
        assert shown.stdout.count("arithmetic avg@3 ") == 3


def test_own_items_are_scored_by_the_check_asked_for(toy_folders, here):  # noqa: F811
    """A file of items is a task; another check scores the same answers anew."""
    (here / "my.jsonl").write_text('{"prompt": "2 + 2", "answer": "4"}\n')
    (here / "mine.py").write_text("def always(text, item):\n    return item['answer'] == '4'\n")
    means = []
    for check in ("number", "mine:always"):
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(here))
            result = run(
                "eval", toy_folders[0], "--tasks", "my.jsonl", "--check", check, *FEW, "--json"
            )
        means.append(json.loads(result.stdout)["models"][0]["tasks"]["my"]["mean"])
    assert means == [0.0, 1.0]


def test_a_command_scores_without_a_live_model(toy_folders, here, monkeypatch):  # noqa: F811
    """The folder goes to the command, its rows to the tables and to the exported file."""
    script = here / "score.py"
    script.write_text("import json\nfor i in range(4): print(json.dumps(dict(id=i, score=i % 2)))")
    monkeypatch.setattr("evals.generate.load_model", lambda *a, **k: pytest.fail("loaded"))
    command = f"{sys.executable} {script} {{model}}"
    words = ("eval", toy_folders[0], "--objective-cmd", command, "--export", "rows.csv", "--json")
    task = json.loads(run(*words).stdout)["models"][0]["tasks"]["command"]
    assert (task["n"], task["mean"], task["truncated"], task["no_answer"]) == (4, 0.5, None, None)
    lines = (here / "rows.csv").read_text().splitlines()
    assert lines[0].startswith("model,fingerprint,task,item,sample,text")
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--tasks", "deductoin"], UnknownNameError),
        (["--tasks", ""], UsageError),
        (["--levels", "one"], UsageError),
        (["--split", "dev"], EvalError),
        (["--samples", "4"], EvalError),
        (["--tasks", "paper-7:livecodebench"], EvalError),
        (["--objective-cmd", "true"], EvalError),
        (["--export", "rows.xls"], UsageError),
        (["--store", "no/such/folder/l.sqlite", "tiny:ded"], EvalError),
    ],
)
def test_a_mistake_is_told_before_a_model_is_loaded(words, error, here, monkeypatch):
    """Wrong names, ranges and places are found first."""
    monkeypatch.setattr("evals.generate.load_model", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(error):
        run("eval", "tiny:base", *words)


@pytest.mark.parametrize(
    ("models", "family", "levels"),
    [
        (["base", "tiny:ded"], None, {"deduction": (1,)}),
        (["base", "elsewhere"], None, None),
        (["base"], "other", None),
        (["folder"], None, None),
    ],
)
def test_a_bundled_family_is_asked_what_it_was_trained_on(
    models, family, levels, here, monkeypatch
):
    """Without --levels aliases of one family get its levels; folders and strangers get all."""
    from merger import experts
    from merger.api.evaluate import trained_levels

    (here / "folder").mkdir()
    tiny = experts.Family("tiny", "", "base", {"ded": "ded"}, {"ded": [1]}, here)
    other = experts.Family("other", "", "base", {}, {}, here / "other")  # tells no levels
    monkeypatch.setattr(experts, "families", lambda: {"tiny": tiny, "other": other})
    assert trained_levels(models, family) == levels


def row(item, correct):
    return Row(item, 0, "", "stop", 1, True, True, correct, "s")


def ledger_of_two(path):
    store = Ledger(path)
    for print_, name, wins in (("aaaaaa1", "base", 3), ("bbbbbb2", "merged", 9)):
        cell = Cell(print_, "sums", "v1", "c", "s")
        store.put(cell, [row(f"i{k}", float(k < wins)) for k in range(12)])
        store.name(print_, name)


def test_compare_reads_two_models_of_a_ledger(here):
    """Models are named by name or by the beginning of their fingerprint; flips are listed."""
    ledger_of_two(here / "evals.sqlite")
    for a, b in (("base", "merged"), ("aaaaaa", "bbbbbb2")):
        document = json.loads(run("compare", a, b, "--flips", "--json").stdout)
        task = document["tasks"][0]
        assert (task["n"], task["wins"], task["losses"]) == (12, 6, 0)
        assert task["gained"] == [f"i{k}" for k in range(3, 9)]
        assert task["p"] == pytest.approx(2 / 2**6)


def test_a_model_is_compared_with_itself(here):
    """The same name twice is one model; what is unknown is told with each name once."""
    ledger_of_two(here / "evals.sqlite")
    assert "+0.0" in run("compare", "base", "base", "--flips").stdout
    with pytest.raises(UnknownNameError) as unknown:
        run("compare", "base", "nothing")
    assert unknown.value.remedy == "Known: base, merged."


def test_a_long_name_goes_on_after_one_of_its_words(capsys):
    """A table that is too wide breaks names at their signs, not numbers, and shows nothing else."""
    from merger.cli.console import table

    name = "lm_eval:leaderboard_bbh_tracking_shuffled_objects_seven_objects"
    table("", ("task", ">n", ">95 %"), [(f"{name}_and_more_of_the_same", "1,000", "34.2–74.2")])
    first, second = (line.split() for line in capsys.readouterr().out.splitlines()[-3:-1])
    assert first[0].endswith("_")
    assert first[1:] == ["1,000", "34.2–74.2"]
    assert first[0] + second[0] == f"{name}_and_more_of_the_same"


def test_flips_stand_side_by_side(here):
    """The question, the right answer and what both said; the smallest visible difference."""
    for print_, name, said in (("aaaaaa1", "base", "five"), ("bbbbbb2", "merged", "four")):
        store = Ledger(here / "evals.sqlite")
        right = Row("i0", 0, said, "stop", 1, True, True, float(said == "four"), "s")
        store.put(Cell(print_, "sums", "v1", "c", "s"), [right, row("i1", 1.0)])
        store.name(print_, name)
    store.put_items("sums", "v1", {"i0": {"prompt": "2 + 2 =", "answer": "4"}})
    shown = run("compare", "base", "merged", "--flips").stdout
    assert "+50.0" in shown
    assert "four times out of five" in shown
    flip = shown[shown.index("sums gained 1") :]
    for text in ("2 + 2 =", "right: 4"):
        assert text in flip
    assert any("five" in line and "four" in line for line in flip.splitlines())


def test_other_settings_are_not_mixed(here):
    """Greedy rows meet greedy rows; where only other settings are shared, that is said."""
    store = Ledger(here / "evals.sqlite")
    for print_, settings in (
        ("aaaaaa1", "g"),
        ("aaaaaa1", "t"),
        ("bbbbbb2", "g"),
        ("cccccc3", "x"),
    ):
        cell = Cell(print_, "sums", "v1", "c", settings)
        store.put(cell, [row(f"i{k}", float(settings == "g")) for k in range(4)])
    task = json.loads(run("compare", "aaaaaa", "bbbbbb", "--json").stdout)["tasks"][0]
    assert (task["n"], task["wins"], task["losses"]) == (4, 0, 0)
    told = run("compare", "aaaaaa", "cccccc", "--json")
    assert "other prompts, budgets or settings" in told.stderr
    both = run("compare", "aaaaaa", "aaaaaa", "--json").stderr
    assert "the same weights" in both
    assert "sums: 2 prompts, budgets or settings" in both


def test_a_task_without_common_items_is_left_out(here):
    """What two sides do share is compared, the rest is named; nothing at all is a mistake."""
    store = Ledger(here / "evals.sqlite")
    for mark, first in (("aaaaaa", 0), ("bbbbbb", 4)):
        store.put(Cell(mark, "sums", "v1", "c", "s"), [row(f"i{first + k}", 1.0) for k in range(4)])
        store.put(Cell(mark, "own", "v1", "c", "s"), [row("i0", float(first > 0))])
    told = run("compare", "aaaaaa", "bbbbbb", "--json")
    assert [task["task"] for task in json.loads(told.stdout)["tasks"]] == ["own"]
    assert "sums: left out" in told.stderr
    store.put(Cell("cccccc", "sums", "v1", "c", "s"), [row("elsewhere", 1.0)])
    with pytest.raises(EvalError, match="share no items of sums"):
        run("compare", "aaaaaa", "cccccc")


def test_compare_takes_confirm_items_of_runs_only(here):
    """Two runs are compared by their winners, on items that chose neither."""
    for name, wins in (("one", 2), ("two", 6)):
        (here / name).mkdir()
        store, cell = Ledger(here / name / "ledger.sqlite"), Cell(name * 3, "sums", "v1", "c", "s")
        held = [row(f"sums/v1/confirm/0/L1/{k}", float(k < wins)) for k in range(8)]
        store.put(cell, [*held, row("searched", 1.0)])
        splits = {r.item: {"split": "confirm"} for r in held} | {"searched": {"split": "search"}}
        store.put_items("sums", "v1", splits)
        winner = {"winner": {"fingerprint": name * 3}}
        (here / name / "confirm.json").write_text(json.dumps(winner))
    task = json.loads(run("compare", "one", "two", "--json").stdout)["tasks"][0]
    assert (task["n"], task["wins"], task["losses"]) == (8, 4, 0)
    (here / "two" / "confirm.json").unlink()
    with pytest.raises(EvalError, match="no winner yet"):
        run("compare", "one", "two")


def test_compare_reads_lm_eval_samples(here):
    """Two sample files are paired by document, whatever their order."""
    lines = [
        {"doc_id": i, "doc_hash": f"h{i}", "filter": "none", "metrics": ["acc"]} for i in range(8)
    ]
    for name, right in (("a", {0, 1}), ("b", {1, 2, 3})):
        rows = [line | {"acc": float(line["doc_id"] in right)} for line in lines]
        rows = rows if name == "a" else rows[::-1]
        file = here / name / "samples_gsm8k_2026-01-01T00-00-00.jsonl"
        file.parent.mkdir()
        file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    files = sorted(here.glob("*/*.jsonl"))
    task = json.loads(run("compare", *files, "--json").stdout)["tasks"][0]
    assert (task["task"], task["n"], task["wins"], task["losses"]) == ("gsm8k", 8, 2, 1)
    shown = run("compare", *files).stdout
    assert [line.split()[-2:] for line in shown.splitlines() if " gsm8k " in line][:2] == [
        ["–", "–"]
    ] * 2


def test_compare_says_what_it_cannot_find(here):
    """An unknown model, no ledger, or nothing in common are mistakes with a remedy."""
    with pytest.raises(EvalError, match="no ledger"):
        run("compare", "base", "merged")
    ledger_of_two(here / "evals.sqlite")
    with pytest.raises(UnknownNameError, match="Did you mean 'merged'"):
        run("compare", "base", "mergd")
    store = Ledger(here / "evals.sqlite")
    store.put(Cell("c" * 8, "other", "v1", "c", "s"), [row("i0", 1.0)])
    with pytest.raises(EvalError, match="no task in common"):
        run("compare", "base", "cccccc")


def test_a_samples_file_goes_by_its_model():
    """lm-eval keeps the model in the folder's name; two of one model go by their paths."""
    from merger.cli.evaluate import _labels

    one, two = "o/__m__ded/samples_t_2026.jsonl", "o/__m__ind/samples_t_2027.jsonl"
    assert _labels([one, two]) == {one: "ded", two: "ind"}
    assert _labels([one, again := one.replace("2026", "2028")]) == {one: one, again: again}
    assert _labels(["samples_t.jsonl", "runs/a"]) == {
        "samples_t.jsonl": "samples_t.jsonl",
        "runs/a": "a",
    }
