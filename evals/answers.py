r"""Reading an answer out of model text: strict on tags, kind on values, never executing anything.

A completion is expected to be `reasoning</think><answer>value</answer>` when `<think>` was
pre-filled (with the opening tag as well when it was not). The last answer block counts. Text longer
than a megabyte is not read. Values are read kindly: `True`, `true` and `1` are one truth value,
`3.0`, `= 3` and `\\boxed{3}` one number.
"""

import re
from fractions import Fraction
from typing import NamedTuple

MAX_TEXT = 1_000_000
MAX_ANSWER = 4_000

_TRUE = frozenset({"true", "t", "1", "yes"})
_FALSE = frozenset({"false", "f", "0", "no"})
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30}|/[0-9]{1,30})?")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")


class Verdict(NamedTuple):
    """Whether an answer could be read, and whether it is right."""

    parsed: bool
    correct: bool


class Answer(NamedTuple):
    """Whether the tags stand as they should, and the text of the last answer block if any."""

    tags: bool
    text: str | None


def read_answer(text: str, *, prefilled: bool = True) -> Answer:
    """Return the tag verdict and the last answer block of a completion."""
    if len(text) > MAX_TEXT:
        return Answer(tags=False, text=None)
    begin = text.rfind("<answer>")
    end = text.find("</answer>", begin) if begin >= 0 else -1
    answer = text[begin + len("<answer>") : end] if end >= 0 else None
    if answer is not None and len(answer) > MAX_ANSWER:
        answer = None
    return Answer(_tags_in_order(text, prefilled), answer)


def _tags_in_order(text: str, prefilled: bool) -> bool:
    """Say whether the text is one think block followed by one answer block and nothing else."""
    wanted = {"<think>": 0 if prefilled else 1, "</think>": 1, "<answer>": 1, "</answer>": 1}
    if any(text.count(tag) != n for tag, n in wanted.items()):
        return False
    if not prefilled and not text.lstrip().startswith("<think>"):
        return False
    close, begin, end = (text.find(t) for t in ("</think>", "<answer>", "</answer>"))
    between = text[close + len("</think>") : begin].strip()
    after = text[end + len("</answer>") :].strip()
    return close < begin < end and not between and not after


def read_number(text: str) -> Fraction | None:
    """Read one number: an integer, a decimal or a fraction, in a box or after an equals sign."""
    boxed = _BOXED.findall(text)
    value = boxed[-1] if boxed else text
    value = value.strip().strip("$'\"`. ").replace("\u2212", "-")
    value = value.rsplit("=", 1)[-1].strip()
    if value.count(",") and re.fullmatch(r"[+-]?[0-9]{1,3}(,[0-9]{3})+", value):
        value = value.replace(",", "")
    if not _NUMBER.fullmatch(value) or not value.isascii():
        return None
    if "/" in value and int(value.split("/")[1]) == 0:
        return None
    return Fraction(value)


def read_truth(text: str) -> bool | None:
    """Read one truth value."""
    value = text.strip().strip(".,;'\"`").lower()
    return True if value in _TRUE else False if value in _FALSE else None


def grade_number(answer: str, gold: int | Fraction) -> Verdict:
    """Judge an answer that should be one number."""
    value = read_number(answer)
    return Verdict(parsed=value is not None, correct=value is not None and value == gold)
