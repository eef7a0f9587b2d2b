"""Mathematical equality: the ladder from same text to math-verify, and its limits."""

from dataclasses import replace

import pytest

from evals.equality import grade_math
from evals.task import draw_item, get_task

ITEM = draw_item(get_task("arithmetic"), level=1, split="test", seed=0, index=0)


def judged(answer, gold):
    return tuple(grade_math(answer, replace(ITEM, answer=gold)))


def test_texts_and_numbers_need_no_library():
    """Spaces aside the same, or the same number: decided without leaving the process."""
    assert judged(r"x + 1", r"x+1") == (True, True)
    assert judged("0.50", "1/2") == (True, True)
    assert judged("3", "4") == (True, False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        (r"2\sqrt{3}", r"\sqrt{12}", (True, True)),
        (r"\frac{1}{2}", "0.5", (True, True)),
        (r"\sqrt{3}", r"\sqrt{12}", (True, False)),
        (r"9^{9^{9^{9}}}", r"\sqrt{12}", (False, False)),
        ("x" * 400, "1", (False, False)),
    ],
)
def test_other_forms_are_compared_under_limits(answer, gold, verdict):
    """Equal forms are right; a tower of powers is unreadable after some seconds, not for ever."""
    pytest.importorskip("math_verify")
    assert judged(answer, gold) == verdict
