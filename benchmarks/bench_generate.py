"""How fast a model answers: the fast engine, transformers' generate, and lm-eval's own backend.

The same prompts and token budget for all three, greedy, one thread; speed is tokens per second of
processor time, so that a busy machine does not decide. Texts of the first two must be equal. Give a
trained model: where answers end at different lengths, dropping finished rows is half of the gain.
Usage: python benchmarks/bench_generate.py MODEL [--task ind] [--items 256] [--budget 160]
[--batches 1 64]. Prints one JSON line; dated rows are kept in benchmarks/results.md.
"""

import argparse
import json
import os
import platform
import time
from types import SimpleNamespace

import torch

from evals.generate import Answerer, Settings, load_model
from evals.task import get_task, items


def main() -> None:
    """Time the three on the same prompts and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--items", type=int, default=256)
    parser.add_argument("--budget", type=int, default=160)
    parser.add_argument("--task", default="ind")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="lm-eval's")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load_model(asked.model)
    task = get_task(asked.task)
    fast, plain = (Answerer(model, tokenizer, engine=e) for e in ("fast", "hf"))
    some = items(task, n=asked.items, split="search", levels=task.levels[:2])
    prompts = [fast.prompt(task, item) for item in some]
    settings = Settings(max_new_tokens=asked.budget)
    fast.answer(prompts[:8], Settings(max_new_tokens=8))  # warm
    answers, seconds = timed(lambda: fast.answer(prompts, settings))
    others, generate = timed(lambda: plain.answer(prompts, settings))
    harness = {n: timed(lambda: lm_eval(fast, prompts, asked.budget, n))[1] for n in asked.batches}  # noqa: B023
    tokens = sum(a.n_tokens for a in answers)
    row = {"model": asked.model, "items": len(prompts), "mean_tokens": tokens / len(prompts)}
    row |= {"same_texts": sum(a == b for a, b in zip(answers, others, strict=True))}
    row |= {
        "fast_tokens_s": round(tokens / seconds),
        "times_generate": round(generate / seconds, 1),
    }
    row |= {"times_lm_eval_by_batch": {n: round(t / seconds, 2) for n, t in harness.items()}}
    row |= {"cores": os.cpu_count()}
    print(json.dumps(row | {"machine": platform.processor(), "torch": torch.__version__}))


def timed(work):  # noqa: ANN001, ANN201  any call, its value and its processor seconds
    """Return what a call returns and the seconds of processor time it took."""
    start = time.process_time()
    value = work()
    return value, time.process_time() - start


def lm_eval(answerer: Answerer, prompts: list[str], budget: int, batch: int) -> list[str]:
    """Answer through lm-eval's HFLM with batches of this size."""
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=answerer.model, tokenizer=answerer.tokenizer, batch_size=batch)
    options = {"until": [], "do_sample": False, "max_gen_toks": budget}
    requests = [SimpleNamespace(args=(prompt, dict(options))) for prompt in prompts]
    return list(lm.generate_until(requests, disable_tqdm=True))


if __name__ == "__main__":
    main()
