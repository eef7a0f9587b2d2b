"""lm-eval's requests for text, answered by our own engine.

A request is a context with generation options. Options that our engine does not have (`top_k`, a
repetition penalty) make a request unknown, and the caller leaves it to `generate`: nothing that was
asked for is ignored. As in lm-eval a context too long for its budget loses its beginning. Unlike
there, a budget as long as the model's context (refused there) is cut instead of the prompt, special
tokens inside an answer are kept, each row stops at its own stop string, and samples have streams of
their own.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from evals.generate import Answerer, Completion, Request, Settings

_KNOWN = frozenset({"until", "do_sample", "temperature", "top_p", "max_gen_toks"})


class Ask(NamedTuple):
    """A context, how to answer it, and what ends the answer; `whole` never cuts the context."""

    context: str
    settings: Settings
    stops: tuple[str, ...]
    whole: bool = False


def ask_of(context: str, options: Mapping[str, Any]) -> Ask | None:
    """Read a context with lm-eval's (normalised) options; None where one of them is not ours."""
    if any(v is not None for k, v in options.items() if k not in _KNOWN):
        return None
    drawn = bool(options.get("do_sample"))
    settings = Settings(
        max_new_tokens=int(options["max_gen_toks"]),
        temperature=float(options.get("temperature", 1.0)) if drawn else 0.0,
        top_p=float(options.get("top_p") or 1.0) if drawn else 1.0,
    )
    return Ask(context, settings, tuple(stop for stop in options["until"] if stop))


def answer_all(
    answerer: Answerer, asked: Sequence[Ask], *, encode: Callable[[str], list[int]]
) -> list[Completion]:
    """Answer in the order asked; the k-th time a context occurs it is sample k."""
    counts = Counter[str]()
    grouped = defaultdict[Settings, list[Request]](list)
    order = []
    for ask in asked:
        request = _request(answerer, ask, counts[ask.context], encode(ask.context))
        counts[ask.context] += 1
        grouped[ask.settings].append(request)
        order.append((ask.settings, request))
    done = {
        (settings, request): completion
        for settings, requests in grouped.items()
        for group in answerer.run(requests, settings)
        for request, completion in group
    }
    return [done[key] for key in order]


def _request(answerer: Answerer, ask: Ask, sample: int, tokens: list[int]) -> Request:
    budget = ask.settings.max_new_tokens or 1
    if not ask.whole and budget < answerer.context:
        tokens = tokens[budget - answerer.context :]
    return answerer.fit(Request(ask.context, sample, tuple(tokens), budget, ask.stops))
