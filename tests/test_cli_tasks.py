"""`merger tasks` as users type it: list, show, export, check."""

import json

import pytest
from typer.testing import CliRunner

from evals.task import TASKS
from merger.cli import app
from merger.errors import EvalError, OutputError


def run(*words):
    result = CliRunner().invoke(app, ["tasks", *(str(w) for w in words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def exported(path, *more):
    run("export", "arith", "--n", 4, "--level", "1-2", "--split", "test", "--out", path, *more)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_list_names_every_task():
    """Each registered task is listed with alias, version and levels."""
    listed = json.loads(run("list", "--json"))["tasks"]
    assert [t["task"] for t in listed] == list(TASKS)
    assert all(name in run("list") for name in TASKS)


@pytest.mark.parametrize("name", ["ded", "induction"])
def test_show_tells_the_contract(name):
    """System prompt, an example, a right answer, and how blind strategies score are shown."""
    facts = json.loads(run("show", name, "--json"))
    shown = run("show", name)
    assert facts["item"]["prompt"].splitlines()[0] in shown
    assert facts["contract"] in shown
    assert all(0 <= share < 0.5 for share in facts["baselines"].values())


def test_export_writes_what_was_promised(tmp_path):
    """One object a line with address, texts and certificate; the same arguments, the same bytes."""
    rows = exported(tmp_path / "a.jsonl")
    fields = ["id", "task", "version", "level", "split", "prompt", "answer", "canonical"]
    assert [list(r) for r in rows] == [[*fields, "certificate"]] * 4
    assert [r["level"] for r in rows] == [1, 2, 1, 2]
    exported(tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert exported(tmp_path / "c.jsonl", "--seed", 1)[0]["id"] != rows[0]["id"]


def test_check_scores_answers_by_id(tmp_path):
    """Right, wrong, unreadable and badly tagged answers get their verdict and reward."""
    ids = exported(tmp_path / "items.jsonl")
    said = [
        f"so</think><answer>{ids[0]['answer']}</answer>",
        "so</think><answer>123456</answer>",
        "so</think><answer>many</answer>",
        f"<answer>{ids[3]['answer']}</answer>",
    ]
    answers = [{"id": i["id"], "text": t} for i, t in zip(ids, said, strict=True)][::-1]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(a) + "\n" for a in answers))
    out = run("check", tmp_path / "items.jsonl", tmp_path / "answers.jsonl").splitlines()
    scored = {r["id"]: r for r in map(json.loads, out)}
    verdicts = [tuple(scored[i["id"]].values())[1:] for i in ids]
    assert verdicts == [
        (True, True, True, 3.0),
        (True, True, False, -1.0),
        (True, False, False, -1.0),
        (False, True, True, 1.0),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "arithmetic/v2/test/0/L1/99", "text": ""}', "no item"),
        ('{"text": ""}', "no id"),
        ("[]", ".*no JSON object"),
        ("{", ".*no JSON object"),
    ],
)
def test_check_names_the_line_that_is_wrong(tmp_path, line, message):
    """A wrong line of answers is named with its file and number."""
    exported(tmp_path / "items.jsonl")
    (tmp_path / "answers.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(EvalError, match=rf"answers.jsonl:2: {message}"):
        run("check", tmp_path / "items.jsonl", tmp_path / "answers.jsonl")


@pytest.mark.parametrize("field", ["prompt", "id"])
def test_check_trusts_no_text_but_the_id(tmp_path, field):
    """Items whose prompt was changed, or of another version, are refused."""
    first = exported(tmp_path / "items.jsonl")[0]
    first[field] = first[field].replace("/v2/", "/v0/") if field == "id" else "2 + 2"
    (tmp_path / "items.jsonl").write_text(json.dumps(first))
    (tmp_path / "answers.jsonl").write_text("")
    with pytest.raises(EvalError, match=r"version v0|prompt is not"):
        run("check", tmp_path / "items.jsonl", tmp_path / "answers.jsonl")


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    """Exporting to a folder that is not there is a user's mistake."""
    with pytest.raises(OutputError, match="nowhere"):
        run("export", "arith", "--out", tmp_path / "nowhere" / "x.jsonl")


def test_lm_eval_path_is_a_folder_of_yaml(tmp_path):
    """The folder holds one file a task and the group of all."""
    folder = run("lm-eval-path", "--out", tmp_path / "t", "--n", 3).strip()
    names = {p.name for p in (tmp_path / "t").iterdir()}
    assert folder == str(tmp_path / "t")
    assert names == {f"merger_{n}.yaml" for n in TASKS} | {"merger.yaml"}
