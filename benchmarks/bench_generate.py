"""How fast a model answers: the fast engine, transformers' generate, and lm-eval's own backend.

The same prompts and token budget for all three, greedy, in one run; tokens per second of the clock,
so measure on an idle machine. Each gets what suits it best: the fast engine deals its rows out to
all cores, the other two are timed with one torch thread and with one a core, lm-eval at each batch
size. Texts of the first two must be equal. Give a trained model: where answers end at different
lengths, dropping finished rows is half of the gain.
Usage: python benchmarks/bench_generate.py MODEL [--task ind] [--items 256] [--budget 160]
[--batches 1 64] [--rounds 2]. Prints one JSON line; dated rows are kept in benchmarks/results.md.
"""

import argparse
import json
import os
import platform
import time
from types import SimpleNamespace

import torch

from evals.drafts import Drafts
from evals.generate import Answerer, Completion, Settings, load_model
from evals.task import get_task, items
from evals.threads import cores


def main() -> None:
    """Time the three on the same prompts and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--items", type=int, default=256)
    parser.add_argument("--budget", type=int, default=160)
    parser.add_argument("--task", default="ind")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="lm-eval's")
    parser.add_argument("--rounds", type=int, default=2, help="the best round counts")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load_model(asked.model)
    task = get_task(asked.task)
    fast, plain = (Answerer(model, tokenizer, engine=e) for e in ("fast", "hf"))
    some = items(task, n=asked.items, split="search", levels=task.levels[:2])
    prompts = [fast.prompt(task, item) for item in some]
    settings = Settings(max_new_tokens=asked.budget)
    model.generation_config.max_new_tokens = asked.budget  # lm-eval lets it stand above its own
    fast.answer(prompts[:8], Settings(max_new_tokens=8))  # warm
    threads = sorted({1, cores()})

    def anew() -> list[Completion]:
        fast.drafts = Drafts()  # no answer of a round before may help
        return fast.answer(prompts, settings)

    ways = {"fast": anew}
    for count in threads:
        ways[f"generate, {count} threads"] = with_threads(
            count, lambda: plain.answer(prompts, settings)
        )
        for batch in asked.batches:
            name = f"lm-eval, batch {batch}, {count} threads"
            ways[name] = with_threads(
                count, lambda b=batch: lm_eval(fast, prompts, asked.budget, b)
            )
    seconds, said = dict.fromkeys(ways, float("inf")), {}
    for _ in range(asked.rounds):
        for name, work in ways.items():
            begin = time.perf_counter()
            said[name] = work()
            seconds[name] = min(seconds[name], time.perf_counter() - begin)
    ours = said["fast"]
    tokens = sum(a.n_tokens for a in ours)
    same = sum(a == b for a, b in zip(ours, said["generate, 1 threads"], strict=True))
    row = {"model": asked.model, "items": len(prompts), "mean_tokens": tokens / len(prompts)}
    row |= {"same_texts": same, "tokens_s": {n: round(tokens / s) for n, s in seconds.items()}}
    row |= {"times": {n: round(s / seconds["fast"], 2) for n, s in seconds.items()}}
    row |= {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(json.dumps(row | {"machine": platform.processor(), "torch": torch.__version__}))


def with_threads(count, work):  # noqa: ANN001, ANN201  any call
    """Return a call that does the work while torch has this many threads."""

    def done():  # noqa: ANN202
        torch.set_num_threads(count)
        try:
            return work()
        finally:
            torch.set_num_threads(1)

    return done


def lm_eval(answerer: Answerer, prompts: list[str], budget: int, batch: int) -> list[str]:
    """Answer through lm-eval's HFLM with batches of this size."""
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=answerer.model, tokenizer=answerer.tokenizer, batch_size=batch)
    options = {"until": [], "do_sample": False, "max_gen_toks": budget}
    requests = [SimpleNamespace(args=(prompt, dict(options))) for prompt in prompts]
    return list(lm.generate_until(requests, disable_tqdm=True))


if __name__ == "__main__":
    main()
