"""Laws of reading answers: strict on tags, kind on values, never an error."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.answers import MAX_ANSWER, MAX_TEXT, read_answer, read_number, read_truth

GOOD = "because</think><answer>5</answer>"


def test_the_format_is_one_think_and_one_answer():
    """Reasoning, its end, one answer and nothing else is the format."""
    assert read_answer(GOOD) == (True, "5")
    assert read_answer(f"{GOOD}\n") == (True, "5")
    assert read_answer(f"<think>{GOOD}", prefilled=False) == (True, "5")


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{GOOD}",
        GOOD + " Hope this helps!",
        GOOD + GOOD,
        "because</think> so <answer>5</answer>",
        "<answer>5</answer>because</think>",
        "because<answer>5</answer>",
        "because</think><Answer>5</Answer>",
        "because</think><answer>5",
        "because</think>5</answer>",
        "because</think><answer><answer>5</answer>",
    ],
)
def test_anything_else_is_not_the_format(text):
    """A tag too many, too few, out of order or followed by talk breaks the format."""
    assert not read_answer(text).tags


def test_the_last_answer_counts():
    """A model that corrects itself is judged by its last word."""
    assert read_answer("<answer>1</answer> no, <answer>2</answer>").text == "2"


def test_endless_text_is_not_read():
    """A megabyte of text, or an answer of thousands of characters, is no answer."""
    assert read_answer("x" * MAX_TEXT + GOOD) == (False, None)
    assert read_answer(f"</think><answer>{'1' * (MAX_ANSWER + 1)}</answer>").text is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        (" 3. ", 3),
        ("3.0", 3),
        ("= 3", 3),
        ("x = -3", -3),
        ("\u22123", -3),
        ("\\boxed{12}", 12),
        ("$\\boxed{7}$", 7),
        ("1,234", 1234),
        ("1/2", Fraction(1, 2)),
        ("'4'", 4),
    ],
)
def test_one_number_in_many_spellings(text, value):
    """Spellings of a number that mean the same read the same."""
    assert read_number(text) == value


@pytest.mark.parametrize(
    "text", ["", "three", "3 4", "1/0", "1,23", "٣", "1e5", "0x10", "nan", "inf", "--3", "3" * 31]
)
def test_what_is_no_number_is_not_guessed(text):
    """Words, several numbers, division by zero and foreign digits are not read."""
    assert read_number(text) is None


@given(st.integers(-(10**12), 10**12))
def test_every_integer_reads_back(n):
    """Any integer is read from its own spelling, with separators too."""
    assert read_number(str(n)) == n
    assert read_number(f"{n:,}") == n


@given(st.text())
def test_no_text_raises(text):
    """Whatever stands there is read or not, without an error."""
    read_answer(text)
    read_number(text)
    read_truth(text)


def test_truth_values():
    """True and false in their usual spellings, nothing else."""
    assert [read_truth(t) for t in ("True", "t", " 1 ", "yes.")] == [True] * 4
    assert [read_truth(t) for t in ("FALSE", "F", "0", "no")] == [False] * 4
    assert [read_truth(t) for t in ("", "maybe", "2", "truefalse")] == [None] * 4
