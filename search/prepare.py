"""Before a search: base, reference and experts are scored, noise and cost told, starts computed.

All of it is paid for once: the experts are warm starts anyway, and the ledger keeps their answers.
"""

import math
import time
from typing import Any

import numpy as np

from evals.stats import mde
from merger.screen import Screen, clock
from search.candidate import BASE, Candidate
from search.gradient import by_gradient, by_losses, traces
from search.objective import Objective, means
from search.racing import FIRST_LOOK
from search.run import Options
from search.scorers import Scorer
from search.starts import references
from search.world import World, scores

# Above this share of marks that change when a model is asked again, Δ is mostly noise.
NOISY = 0.01


def plan(options: Options, screen: Screen) -> None:
    """Say, before anything is loaded, how many answers a search takes at most and what they see."""
    tasks = len(options.tasks)
    n, word = options.n_confirm * tasks, "task" if tasks == 1 else "tasks"
    most, least = answers_of(options)[0], 100 * mde(n, math.sqrt(0.1))
    told = f"{options.most} trials, {tasks} {word}, at most {most} answers"
    if options.most is None:
        told = f"{clock(options.seconds or 0)} of trials, {tasks} {word}"
    screen.say(
        f"Plan: {told};\n      {n} confirm items see differences of about {least:.1f} points."
    )


def prepare(world: World, options: Options, reference: Candidate, screen: Screen) -> dict[str, Any]:
    """Score base and reference, measure noise and speed, compute the starts that need losses."""
    begin, paid = time.monotonic(), world.paid
    n = options.n_search * len(world.tasks)
    with screen.progress("prepare", 2 * n) as steps:
        both = [world.answers(c, "search", None, steps.step) for c in (BASE, reference)]
    found = [scores(answers) for answers in both]
    per_task = min(options.n_search, math.ceil(FIRST_LOOK / len(world.tasks)))
    asked, differ = world.again(reference, "search", per_task)
    seconds = time.monotonic() - begin
    gaps = np.concatenate([found[1][t] - found[0][t] for t in found[0]])
    return {
        "aa": {"items": asked, "differ": differ},
        "discordance": float((gaps != 0).mean()),
        "seconds": seconds,
        "seconds_per_answer": seconds / max(1, world.paid - paid),
        "base": means(found[0]),
        "reference": means(found[1]),
        **starts(world, options, per_task, screen),
    }


def starts(world: World, options: Options, per_task: int, screen: Screen) -> dict[str, Any]:
    """Return the starts that are computed from answers, by source, and what was seen on the way."""
    drawn = not any(isinstance(task, Scorer) for task in world.tasks)
    known = traces(world, options.experts, per_task) if drawn and options.warm != "none" else []
    if not known:
        return {"starts": {}}
    found = [by_losses(world, options.experts, known)]
    facts: dict[str, Any] = {}
    if options.warm == "gradient":
        start, facts = by_gradient(world, options.experts, known)
        found.append(start)
        losses = facts["losses"]
        screen.say(
            f"gradient: loss {losses[0]:.3f} to {losses[-1]:.3f} on {len(known)} right answers"
        )
    table = {start.source: start.candidate.to_mapping() for start in found}
    return {"starts": table, "gradient": facts}


def announce(facts: dict[str, Any], options: Options, objective: Objective, screen: Screen) -> None:
    """Print the A/A row, the detectable difference and the cost."""
    say, aa = screen.say, facts["aa"]
    noise = aa["differ"] / aa["items"]
    say(f"A/A: {aa['differ']} of {aa['items']} marks differ when asked again.")
    if noise > NOISY:
        say(f"     warning: {noise:.1%} noise of the engine; no Δ below that means anything")
    share, seen = facts["discordance"] or 0.1, "as between base and reference"
    n = options.n_confirm * len(objective.tasks)
    say(
        f"MDE: {n} confirm items see differences of {100 * mde(n, math.sqrt(share)):.1f} points\n"
        f"     (if {share:.0%} of marks differ{f', {seen}' if facts['discordance'] else ''})."
    )
    most, rate = cost(facts, options), 1 / facts["seconds_per_answer"]
    after = facts["seconds"] + most["after"]  # what the trials leave to do is done, however long
    if options.seconds is not None and max(after, options.seconds) < most["seconds"]:
        told = "the time given" if after < options.seconds else "select and confirm alone"
        say(f"Cost: {clock(max(after, options.seconds))}, {told}, at {rate:.1f} answers a second.")
        return
    say(
        f"Cost: at most {most['answers']:.0f} answers, about {clock(most['seconds'])} "
        f"at {rate:.1f} a second; racing saves part."
    )


def answers_of(options: Options) -> tuple[int, int]:
    """Return the most answers of the whole run, and of what comes after the trials."""
    names = 2 + len(references(options.experts))
    after = options.shortlist * options.n_select + (1 + names) * options.n_confirm
    after += options.stage2 * options.n_search
    tasks, guards = len(options.tasks), len(options.guard) * (1 + names) * options.n_confirm
    return tasks * (options.trials * options.n_search + after) + guards, tasks * after + guards


def cost(facts: dict[str, Any], options: Options) -> dict[str, float]:
    """Return the answers and seconds the whole run takes if no trial is stopped early."""
    answers, after = answers_of(options)
    pace = facts["seconds_per_answer"]
    return {"answers": answers, "seconds": answers * pace, "after": after * pace}
