"""Laws of the door to lm-eval: its tasks on the live model, our tasks for plain lm-eval."""

import copy
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from evals.export import write_folder
from evals.generate import Answerer, Settings, load_model
from evals.harness import _load, documents, evaluate_lm_eval, parse_name
from evals.ledger import Ledger
from evals.task import get_task, items
from merger.errors import EvalError, UnknownNameError
from merger.experts import resolve
from tests.toy_models import evaluate, toy_model, toy_tokenizer

CHOICES = """
task: toy_choice
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
output_type: multiple_choice
test_split: test
doc_to_text: question
doc_to_choice: "{{options}}"
doc_to_target: gold
num_fewshot: 0
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""


@pytest.fixture(scope="module")
def model():
    """Return a model that never says <pad> or <unk>, which lm-eval's own backend drops."""
    live = toy_model(context=2048)
    with torch.no_grad():
        live.lm_head.weight[[0, 2]] = 0.0
    return Answerer(live, toy_tokenizer())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a local multiple-choice task of 9 documents."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    rows = [
        {"question": f"{i} + 1 =", "options": [str(i + 1), str(i), "no"], "gold": 0}
        for i in range(9)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "yaml").mkdir()
    (tmp_path / "yaml" / "toy.yaml").write_text(CHOICES.replace("FILE", str(data)))
    return tmp_path / "yaml"


def choice(model, folder, store, **options):
    return evaluate_lm_eval(
        model, "f0", "toy_choice", ledger=store, include_path=str(folder), **options
    )


def test_an_lm_eval_task_gives_a_row_a_document(model, folder):
    """Rows carry the document's number and hash, and its score is the task's metric."""
    rows = choice(model, folder, Ledger(":memory:"))
    assert [r.item.split("#")[0] for r in rows] == [str(i) for i in range(9)]
    assert {r.correct for r in rows} <= {0.0, 1.0}


def test_what_was_asked_is_kept_for_the_flips(model, folder):
    """A report can show the question and the right answer beside the two texts."""
    store = Ledger(":memory:")
    rows, cell = choice(model, folder, store), store.cells()[0]
    asked = store.items(cell.task, cell.version)
    assert "3 + 1 =" in asked[rows[3].item]["prompt"]
    assert asked[rows[3].item]["answer"] == "0"


def test_the_split_of_a_document_is_kept(model, folder):
    """A search says which documents it deals to which pool; what was not asked for is not run."""
    store, ids = Ledger(":memory:"), documents("toy_choice", str(folder))
    only = {ids[4]: "confirm", ids[1]: "search"}
    rows = choice(model, folder, store, only=only)
    (cell,) = store.cells()
    assert [r.item for r in rows] == [ids[1], ids[4]]
    asked = store.items(cell.task, cell.version)
    assert {item: facts["split"] for item, facts in asked.items()} == only
    assert choice(model, folder, store, only={}) == []


def test_progress_is_seen_while_lm_eval_is_kept_quiet(model, folder, capsys):
    """Bars, prints and logs of lm-eval stay off the screen, our own progress does not."""

    def tell(n, note):
        print(n, note, file=sys.stderr)  # noqa: T201

    choice(model, folder, Ledger(":memory:"), progress=tell)
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("", "9 toy_choice\n")


def test_scores_are_those_of_plain_lm_eval(model, folder):
    """The mean over our rows is the number lm-eval itself reports for the live model."""
    from lm_eval import evaluate as plain
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    loaded = TaskManager(include_defaults=False, include_path=str(folder)).load(["toy_choice"])
    lm = HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=4, max_length=2048)
    chat = {"apply_chat_template": True, "fewshot_as_multiturn": True}
    report = plain(lm=lm, task_dict=loaded, bootstrap_iters=0, log_samples=False, **chat)
    rows = choice(model, folder, Ledger(":memory:"))
    mean = sum(r.correct for r in rows) / len(rows)
    assert mean == pytest.approx(report["results"]["toy_choice"]["acc,none"])


def test_only_missing_documents_are_run(model, folder, monkeypatch):
    """Going from three documents to nine runs six, correctly labelled; other weights share none."""
    import lm_eval

    asked, run = [], lm_eval.evaluate
    monkeypatch.setattr(lm_eval, "evaluate", lambda **k: asked.append(k["samples"]) or run(**k))
    store = Ledger(":memory:")
    three = choice(model, folder, store, limit=3)
    nine = choice(model, folder, store)
    assert asked == [{"toy_choice": [0, 1, 2]}, {"toy_choice": [3, 4, 5, 6, 7, 8]}]
    assert nine[:3] == three
    assert nine == choice(model, folder, Ledger(":memory:"))


def test_the_global_random_state_is_left_alone(model, folder):
    """A search's own random stream is not reseeded by an evaluation."""
    before, level = torch.random.get_rng_state(), logging.getLogger("lm_eval").level
    choice(model, folder, Ledger(":memory:"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert logging.getLogger("lm_eval").level == level


def test_metrics_are_chosen_by_name(model, folder):
    """NAME@metric,filter picks one; a metric the task lacks is named with those it has."""
    assert parse_name("gsm8k@exact_match,strict-match") == ("gsm8k", "exact_match", "strict-match")
    with pytest.raises(EvalError, match=r"no metric 'f1'[\s\S]*acc"):
        evaluate_lm_eval(
            model, "f", "toy_choice@f1", ledger=Ledger(":memory:"), include_path=str(folder)
        )


@pytest.mark.slow
def test_an_unknown_task_suggests_the_nearest(model, folder, monkeypatch, tmp_path):
    """A typo is answered with the name probably meant, from the built-in index too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, nearest in (("toy_choise", "toy_choice"), ("gsm8kk", "gsm8k")):
        with pytest.raises(UnknownNameError, match=f"Did you mean '{nearest}'"):
            evaluate_lm_eval(model, "f", name, ledger=Ledger(":memory:"), include_path=str(folder))
    assert list((tmp_path / "merger").glob("lm_eval-*.json"))


@pytest.fixture(scope="module")
def expert():
    """Load the bundled deduction expert: a context of 512 tokens, a budget of its own."""
    return Answerer(*load_model(resolve("ded", family="tiny").path))


def exported(answerer, folder):
    store = Ledger(":memory:")
    return evaluate_lm_eval(
        answerer, "f", "merger_deduction", ledger=store, include_path=str(folder)
    )


@pytest.mark.parametrize("budget", [None, 60, 500])
@pytest.mark.parametrize("template", ["own", "none", "opens <think>"])
def test_an_expert_scores_the_same_through_lm_eval(expert, budget, template, tmp_path, monkeypatch):
    """Same items, same prompts, same texts, same verdicts; whatever the budget and the template."""
    if template != "own":
        opened = expert.tokenizer.chat_template + "<think>"
        other = copy.copy(expert.tokenizer)
        other.chat_template = None if template == "none" else opened
        expert = Answerer(expert.model, other)
    folder = write_folder(tmp_path, n=8, split="test", levels=(1,), budget=budget)
    task, settings = get_task("deduction"), Settings(max_new_tokens=budget)
    asked = items(task, n=8, split="test", levels=(1,))
    own = evaluate(expert, "f", task, asked, ledger=Ledger(":memory:"), settings=settings)
    facts = [(r.text, r.finish, r.n_tokens, r.correct, r.parsed, r.format) for r in own]
    assert facts == [
        (r.text, r.finish, r.n_tokens, r.correct, r.parsed, r.format)
        for r in exported(expert, folder)
    ]
    right = sum(r.correct for r in own)
    assert right >= 5 if template == "own" and budget != 60 else right < 8


def test_an_expert_scores_the_same_in_plain_lm_eval(expert, tmp_path, monkeypatch):
    """lm-eval's own backend, with a budget that leaves room for the prompt, says the same texts."""
    folder = write_folder(tmp_path, n=4, split="test", levels=(1,), budget=224)
    ours = exported(expert, folder)
    monkeypatch.setattr("evals.harness.ask_exported", lambda *a: None)
    monkeypatch.setattr("evals.harness.ask_of", lambda *a: None)
    assert [(r.text, r.correct) for r in ours] == [
        (r.text, r.correct) for r in exported(expert, folder)
    ]
    assert any(r.correct for r in ours)


def test_another_process_finds_what_was_paid_for(model, folder, monkeypatch):
    """A task with functions in it has the same ledger key wherever they lie in memory."""
    import lm_eval

    (folder / "own.py").write_text("def ask(doc):\n    return doc['question']\n")
    yaml = folder / "toy.yaml"
    yaml.write_text(
        yaml.read_text().replace("doc_to_text: question", "doc_to_text: !function own.ask")
    )
    store = Ledger(":memory:")
    first, before = choice(model, folder, store), _load("toy_choice", str(folder))
    _load.cache_clear()
    os.utime(folder / "own.py", ns=(0, 0))  # what lm-eval loads a module anew for
    again = _load("toy_choice", str(folder))
    assert before[""].config.doc_to_text is not again[""].config.doc_to_text
    monkeypatch.setattr(lm_eval, "evaluate", lambda **k: pytest.fail("paid twice"))
    assert choice(model, folder, store) == first


STORY = """
task: toy_story
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
output_type: generate_until
test_split: test
doc_to_text: question
doc_to_target: "x"
num_fewshot: 0
generation_kwargs: OPTIONS
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""


@pytest.mark.parametrize(
    "options",
    [
        "{until: [], do_sample: false, max_gen_toks: 30}",
        "{until: ['a', 'Q'], max_gen_toks: 30}",
    ],
)
def test_text_is_what_lm_evals_own_backend_says(model, folder, tmp_path, options, monkeypatch):
    """Budgets, stop strings and greedy decoding mean what they mean in lm-eval."""
    text = STORY.replace("FILE", str(tmp_path / "data.jsonl")).replace("OPTIONS", options)
    (folder / "story.yaml").write_text(text)

    def said(name):
        rows = evaluate_lm_eval(
            model, "f", name, ledger=Ledger(":memory:"), include_path=str(folder)
        )
        return [r.text for r in rows]

    ours = said("toy_story")
    monkeypatch.setattr("evals.harness.ask_of", lambda *a: None)  # all left to the own backend
    assert ours == said("toy_story")
    assert len({len(text) for text in ours}) > 1


def test_a_budget_as_long_as_the_context_leaves_the_prompt_whole(model, folder, tmp_path):
    """Where lm-eval would refuse, the budget gives way: answers that fit are said as ever."""
    texts = []
    for budget in (1500, 4096):
        options = f"{{until: [], max_gen_toks: {budget}}}"
        text = STORY.replace("FILE", str(tmp_path / "data.jsonl")).replace("OPTIONS", options)
        (folder / "story.yaml").write_text(text)
        _load.cache_clear()
        store = Ledger(":memory:")
        rows = evaluate_lm_eval(model, "f", "toy_story", ledger=store, include_path=str(folder))
        assert not any(r.truncated for r in rows)
        texts.append([r.text for r in rows])
    assert texts[0] == texts[1]


def test_truncation_is_known_for_lm_eval_tasks_too(model, folder, tmp_path):
    """An answer that its budget cut says so, with its tokens."""
    options = "{until: [], max_gen_toks: 4}"
    text = STORY.replace("FILE", str(tmp_path / "data.jsonl")).replace("OPTIONS", options)
    (folder / "story.yaml").write_text(text)
    rows = evaluate_lm_eval(
        model, "f", "toy_story", ledger=Ledger(":memory:"), include_path=str(folder)
    )
    assert any(r.truncated for r in rows)
    assert all(r.n_tokens == 4 for r in rows if r.truncated)


@pytest.mark.slow
def test_plain_lm_eval_reads_the_exported_folder(model, tmp_path):
    """`lm_eval --include_path` runs our group of tasks on a saved model."""
    folder = write_folder(tmp_path / "tasks", n=2, levels=(1,), budget=8)
    model.model.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    code = (
        "from lm_eval import simple_evaluate as go; from lm_eval.tasks import TaskManager as T;"
        f"r = go('hf', model_args='pretrained={tmp_path}/model', tasks=['merger'], device='cpu',"
        f"task_manager=T(include_defaults=False, include_path='{folder}'), bootstrap_iters=0);"
        "print(sorted(k for k in r['results'] if k != 'merger'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert "merger_abduction" in done.stdout.splitlines()[-1], done.stderr[-2000:]
