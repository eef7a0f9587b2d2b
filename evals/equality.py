"""Mathematical equality, cheapest test first: same text, same number, then math-verify.

Most answers stop at the second rung, in microseconds. math-verify (extra `math`) is asked in a
process of its own with limits, and only about texts short enough to be an answer.
"""

from importlib.util import find_spec

from evals.answers import Verdict, read_number
from evals.limited import limited
from evals.task import Item
from merger.errors import EvalError

_LONGEST = 300  # characters


def grade_math(answer: str, item: Item) -> Verdict:
    """Judge whether an answer equals the item's; raises where math-verify is needed and missing."""
    if "".join(answer.split()) == "".join(item.answer.split()):
        return Verdict(parsed=True, correct=True)
    value, gold = read_number(answer), read_number(item.answer)
    if value is not None and gold is not None:
        return Verdict(parsed=True, correct=value == gold)
    if find_spec("math_verify") is None:
        raise EvalError("--check math needs math-verify", "pip install 'merger[math]'")
    if not answer.strip() or len(answer) > _LONGEST:
        return Verdict(parsed=False, correct=False)
    said = limited("math_verify", equal, item.answer, answer)
    return Verdict(parsed=said is not None, correct=bool(said))


def equal(gold: str, answer: str) -> bool:
    """Ask math-verify; raises ValueError where it can read no answer in the text."""
    from math_verify import parse, verify

    # Its own limits are alarms, which a worker's main thread may use; ours are outside it.
    found = parse(f"${answer}$", parsing_timeout=None)
    if not found:
        raise ValueError(answer)
    return bool(verify(parse(f"${gold}$", parsing_timeout=None), found, timeout_seconds=None))
