"""Drafts: what was answered to the same prompt before, read at once and kept as far as it agrees.

Merges of one family answer mostly alike. A draft is verified by reading prompt and draft in one
pass, as a prompt is read; the model's own greedy tokens up to the first that differs are kept
(inference with reference: Yang et al., arXiv 2304.04487, with other models' answers for the
reference). A pass over many places rounds differently from a step, so a row whose two best tokens
ever come within `CLOSE` of each other is answered again without a draft: the answer is then the one
that steps alone would give, whatever was asked before.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

CLOSE = 1e-3  # in logits; float32 rounding moves those of the models served by some 1e-5
Tokens = tuple[int, ...]

_MOST = 10_000_000  # tokens that are kept; what comes later is not


class Drafts:
    """Answers to prompts, as tokens; `words` names the tokenizer that they are tokens of."""

    def __init__(self) -> None:
        self._heard = defaultdict[tuple[str, Tokens], Counter[Tokens]](Counter)
        self._tokens = 0

    def hear(self, words: str, prompt: Tokens, answer: Sequence[int]) -> None:
        """Count an answer to a prompt."""
        said, heard = tuple(answer), self._heard[words, prompt]
        new = 0 if said in heard else len(said)
        if self._tokens + new <= _MOST:
            self._tokens += new
            heard[said] += 1

    def draft(self, words: str, prompt: Tokens, budget: int) -> Tokens:
        """Return the most frequent answer to a prompt, no longer than the budget, or nothing."""
        heard = self._heard.get((words, prompt))
        return heard.most_common(1)[0][0][:budget] if heard else ()
