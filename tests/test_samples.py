"""Laws of reading lm-eval's sample files."""

import json

import pytest

from evals.samples import metric_of, read_samples
from merger.errors import EvalError

LINE = {"doc_id": 0, "doc_hash": "abc", "filter": "strict", "metrics": ["exact_match"]}


def write(tmp_path, *rows):
    path = tmp_path / "samples_leaderboard_math_hard_2026-01-01T00-00-00.123.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def test_the_first_filter_counts(tmp_path):
    """With several lines a document the first is its score; the task is in the file's name."""
    rows = [LINE | {"exact_match": 1.0}, LINE | {"filter": "flexible", "exact_match": 0}]
    task, (row,), _ = read_samples(write(tmp_path, *rows))
    assert (task, row.item, row.correct) == ("leaderboard_math_hard", "0#abc", 1.0)


@pytest.mark.parametrize("arguments", [[["2+2=", {}]], {"gen_args_0": {"arg_0": "2+2="}}])
def test_texts_and_failed_filters_are_read(tmp_path, arguments):
    """What the model said, what it was asked, and that no answer was found."""
    facts = {"resps": [["four"]], "filtered_resps": ["[invalid]"], "arguments": arguments}
    line = LINE | facts | {"exact_match": 0, "target": "4"}
    _, (row,), asked = read_samples(write(tmp_path, line))
    assert (row.text, row.parsed) == ("four", False)
    assert asked == {"0#abc": {"prompt": "2+2=", "answer": "4"}}


def test_a_metric_that_is_no_number_is_passed_over():
    """Lists of parts are skipped; a name picks one."""
    sample = {"metrics": ["parts", "acc", "f1"], "parts": [1], "acc": True, "f1": 0.5}
    assert metric_of(sample) == 1.0
    assert metric_of(sample, "f1") == 0.5
    with pytest.raises(KeyError):
        metric_of(sample, "parts")


@pytest.mark.parametrize("line", ["{", '{"acc": 1}', "[]", '{"doc_id": 1, "metrics": []}'])
def test_a_line_that_is_no_sample_is_named(tmp_path, line):
    """Another kind of file is told with its line."""
    with pytest.raises(EvalError, match=r":2: .*no (sample|JSON)"):
        read_samples(write(tmp_path, "", line))
