"""The same questions in another template: one turn, the system prompt standing before each.

Whether a ranking survives another wording of the same question is one of the robustness questions
of a report. The contract's hash differs, so the ledger keeps both answers apart.
"""

import hashlib
from typing import Any

from evals.task import Item, Task


class _OneTurn(Task):
    """What a task asks, all in the user's turn; its answers have a ledger cell of their own."""

    @property
    def contract(self) -> str:
        """A hash of the prompt: the task's own, and that it is one turn."""
        return hashlib.sha256(f"{super().contract} one turn".encode()).hexdigest()[:12]

    def messages(self, item: Item) -> list[dict[str, str]]:
        """Return one message that holds all texts."""
        texts = [m["content"] for m in super().messages(item)]
        return [{"role": "user", "content": "\n\n".join(filter(None, texts))}]


def one_turn(task: Any) -> Any:
    """Return the task asked in one turn; its items and its grading are the same."""
    return type("OneTurn", (_OneTurn, type(task)), {})(**vars(task))
