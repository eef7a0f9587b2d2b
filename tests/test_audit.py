"""Laws of the audit: planted faults are counted, sound data is not accused."""

import json

import pytest

from evals.audit import audit
from evals.itemfile import item_document
from evals.jsonl import write_table
from evals.task import draw_item, get_task, items
from evals.tasks.formulas import parse, show
from merger.errors import EvalError


def found(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return audit(path)[0].found


def puzzle(*formulas, solution):
    spec = {"puzzle_text": f"nested formulas: {formulas}", "solution_text": solution}
    return spec | {"puzzle_spec": {"formulas": list(formulas)}}


def sequence(text, solution):
    return {"puzzle_text": f"the following sequence,\n{text}\nvalue?", "solution_text": solution}


@pytest.mark.parametrize("text", ["A", "¬A", "(¬A → B) ⊕ ¬(C ↔ A)", "¬(¬A ∧ (B ∨ C))"])
def test_formulas_read_back(text):
    """A formula prints as it was read."""
    assert show(parse(text)) == text


@pytest.mark.parametrize("text", ["", "A ∧", "(→ B)", "A B", "A ∧ B ∨ C"])
def test_what_is_no_formula_is_refused(text):
    """Parts that are missing or left over are told."""
    with pytest.raises(EvalError):
        parse(text)


@pytest.mark.parametrize(
    ("formulas", "solution", "finding"),
    [
        (["(A ∨ B)"], "(1) A is True (2) B is True", "more than one assignment satisfies"),
        (["A", "¬A"], "(1) A is True", "no assignment satisfies"),
        (["A", "¬B"], "(1) A is True (2) B is True", "stored answer does not satisfy"),
        (["A", "(B ∨ ¬B)", "B"], "(1) A is True (2) B is True", "a formula is always true"),
    ],
)
def test_deduction_faults_are_found(tmp_path, formulas, solution, finding):
    """Ambiguous, contradictory, mislabelled and idle puzzles are told apart from a sound one."""
    good = puzzle("A", "¬B", solution="(1) A is True (2) B is False")
    counts = found(tmp_path / "d.jsonl", puzzle(*formulas, solution=solution), good)
    assert counts[finding] == 1


@pytest.mark.parametrize(
    ("text", "solution", "finding"),
    [
        ("[2, 4, '?']", 6, "ambiguous under the shortest cycle that fits"),
        ("[1, 2, 3, 4, 5, '?']", 7, "shortest cycle that fits says another answer"),
        ("[1, 100, 3, 900, 5, 12345, 7, '?']", 9, "no rule of the class fits"),
        ("[1, 2, 3, 4, '?']", 5, "right by one difference or ratio, or the middle of neighbours"),
    ],
)
def test_induction_faults_are_found(tmp_path, text, solution, finding):
    """Ambiguity, foreign rules, wrong labels and shortcuts are counted."""
    assert found(tmp_path / "i.jsonl", sequence(text, solution))[finding] == 1


def rules(*premises, known, solution):
    text = f"premises: {list(premises)}\nknown_atoms: {known}\ngoals: ['Q', 'S']\n"
    return {"puzzle_text": text, "solution_text": f"(1) Q is {solution}\n(2) S is unreachable"}


def test_abduction_faults_are_found(tmp_path):
    """What follows is derived through conjunction, negation and chains; a wrong label is told."""
    premises = ("((A AND B)) => P", "(((NOT S) AND P)) => Q", "((C OR Q)) => R")
    found_ = [
        found(tmp_path / "a.jsonl", rules(*premises, known=["A", "B"], solution=label))
        for label in ("reachable", "unreachable")
    ]
    assert found_[0]["stored answer is not what follows"] == 0
    assert found_[0]["right by: a goal is reachable when it is the head of a rule"] == 1
    assert found_[0]["right by: a goal is reachable when it is a known atom"] == 0
    assert found_[1]["stored answer is not what follows"] == 1


def test_duplicates_and_leakage_are_found(tmp_path):
    """A question twice in a file, or in another file, is counted."""
    a, b = sequence("[1, 2, '?']", 3), sequence("[5, 6, '?']", 7)
    (tmp_path / "test.jsonl").write_text(json.dumps(a))
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, (a, b, b))))
    test, train = audit(tmp_path)
    assert test.found["question is in another file"] == 1
    assert train.found["question is in another file"] == 1
    assert train.found["question occurs more than once"] == 1


AB = puzzle("(A → B)", "¬A", "(B ⊕ A)", solution="(1) A is False (2) B is True")
CD = puzzle("(D ⊕ C)", "(C → D)", "¬C", solution="(1) C is False (2) D is True")
LAST, INNER = sequence("['3', '5', '?']", 7), sequence("[3, '?', 7]", 5)
ONE, TWO = "((A OR B)) => P", "(P) => Q"
RULES = [rules(*two, known=["A"], solution="reachable") for two in ((ONE, TWO), (TWO, ONE))]


@pytest.mark.parametrize("pair", [(AB, CD), (LAST, INNER), RULES])
def test_an_instance_in_another_dress_is_the_same(tmp_path, pair):
    """Other names, another order or the gap elsewhere make no new instance, in one file or two."""
    but = ", but for order, names or gap"
    counts = found(tmp_path / "test.jsonl", *pair)
    assert counts["question occurs more than once"] == 0
    assert counts[f"question occurs more than once{but}"] == 1
    (tmp_path / "test.jsonl").write_text(json.dumps(pair[0]))
    (tmp_path / "train.jsonl").write_text(json.dumps(pair[1]))
    for report in audit(tmp_path):
        assert report.found["question is in another file"] == 0
        assert report.found[f"question is in another file{but}"] == 1


@pytest.mark.parametrize("name", ["arithmetic", "induction"])
def test_our_own_items_stand_the_audit(tmp_path, name):
    """Exported items are certified and repeat nothing."""
    drawn = items(get_task(name), n=10, split="train", levels=(2,))
    counts = found(tmp_path / "own.jsonl", *map(item_document, drawn))
    assert counts["not certified"] == 0  # what was looked for and not found is told
    assert counts["question occurs more than once"] == 0


def test_the_authors_samples_show_what_is_known_of_them(shared_data):
    """Deduction is sound; abduction is solved by looking atoms up; induction repeats itself."""
    found = {r.file.split("upstream/")[1][:11]: r for r in audit(shared_data / "upstream")}
    shortcut = "right by: a goal is reachable when it is a known atom"
    assert found["Abduction/1"].found[shortcut] == found["Abduction/1"].n
    assert found["Abduction/1"].found["a goal occurs more than once"] == 2
    assert found["Abduction/1"].found["stored answer is not what follows"] == 0
    satisfied = [n for what, n in found["Deduction/1"].found.items() if "satisf" in what]
    assert satisfied == [0, 0, 0]
    repeats = [n for what, n in found["Induction/2"].found.items() if "occurs" in what]
    assert repeats == [6, 22, 0]  # as asked; with the gap filled; ids


@pytest.mark.parametrize("text", ["", "[]", '{"x": 1}', "{"])
def test_data_of_no_known_kind_is_refused(tmp_path, text):
    """Something else is answered with what can be read."""
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(EvalError):
        audit(tmp_path)


def test_an_export_that_was_changed_is_told(tmp_path):
    """Texts of an export that are not those of its ids are counted, and so is what two share."""
    drawn = items(get_task("arithmetic"), n=4, split="train", levels=(2,))
    rows = [item_document(item) for item in drawn]
    rows[0]["answer"], rows[1]["prompt"] = "a thousand", "2 + 2"
    (tmp_path / "test.jsonl").write_text(json.dumps(rows[3]))
    counts = found(tmp_path / "train.jsonl", *rows)
    assert counts["stored answer is wrong"] == 1
    assert counts["question is not that of its id"] == 1
    assert [r.found["question is in another file"] for r in audit(tmp_path)] == [1, 1]


@pytest.mark.parametrize(
    "row",
    [
        {"puzzle_text": "formulas: x", "solution_text": "A is True", "puzzle_spec": {}},
        {"puzzle_text": "sequence [1, 2, x]", "solution_text": "k"},
        {"puzzle_text": "sequence", "solution_text": "1"},
        {"puzzle_text": "goals: [ premises", "solution_text": "k"},
    ],
)
def test_a_row_that_cannot_be_read_is_named(row, tmp_path):
    """A file whose first row tells a kind may hold others, or damaged ones."""
    (tmp_path / "data.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(EvalError, match=r"data\.jsonl:1: no row of"):
        audit(tmp_path / "data.jsonl")


def test_tasks_may_be_mixed_in_a_file(tmp_path):
    """A finding is a number of items, also where some of them cannot have it."""
    asked = [
        draw_item(get_task(t), level=1, split="train", seed=0, index=0) for t in ("ded", "arith")
    ]
    write_table(tmp_path / "two.jsonl", [item_document(item) for item in asked])
    (report,) = audit(tmp_path / "two.jsonl")
    assert {type(count) for count in report.found.values()} == {int}
    assert report.found["not certified"] == 0
