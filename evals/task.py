"""What a task is: items drawn from a hash, a verifier, and the prompt contract.

Item i of (task, version, split, seed, level) is a function of a hash of these five and i, never of
seed + i, so data sets with neighbouring seeds share nothing by construction. Which split an
instance belongs to is decided by the hash of its *canonical* form: it is drawn again until its
bucket is one of the split asked for, so no seed, size or level can leak an instance from one split
into another. A `Draft` is what a generator draws; an `Item` is a draft with its address.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count
from random import Random
from time import monotonic
from typing import Any, NamedTuple

from evals.answers import Answer, Verdict, read_answer
from evals.attempts import remembered
from merger.errors import EvalError
from merger.registry import Registry, unknown

# Share of the 100 hash buckets that each split owns.
SPLITS: dict[str, range] = {
    "train": range(60),
    "search": range(60, 70),
    "select": range(70, 80),
    "confirm": range(80, 90),
    "test": range(90, 100),
}

SYSTEM = (
    "You are a helpful assistant. First think about the problem inside <think> </think>, then give "
    "only the final answer inside <answer> </answer>."
)


@dataclass(frozen=True)
class Draft:
    """An instance without an address: texts for people, data for the verifier, a certificate."""

    prompt: str
    answer: str
    canonical: str
    data: Mapping[str, Any]
    certificate: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Item(Draft):
    """One question: a draft with its address."""

    id: str
    task: str
    version: str
    level: int
    split: str


@dataclass(frozen=True)
class Score:
    """The verdict on one completion: tags in order, answer readable, answer right."""

    format: bool
    parsed: bool
    correct: bool


@dataclass(frozen=True)
class Task:
    """A generator with its verifier.

    `draw(rng, level)` draws a draft; `grade(answer, item)` judges the text inside the answer tags;
    `certify(item)` proves the item well posed by other means than the generator's; `baselines` are
    blind strategies (item -> answer text) that must score near `chance`, a share by level. `system`
    is the system prompt, `prefill` what the assistant's turn begins with and `max_new_tokens` the
    token budget: together the prompt contract.
    """

    name: str
    alias: str
    version: str
    levels: tuple[int, ...]
    instructions: str
    draw: Callable[[Random, int], Draft]
    grade: Callable[[str, Item], Verdict]
    certify: Callable[[Item], bool]
    baselines: Mapping[str, Callable[[Item], str]]
    max_new_tokens: int = 8192
    prefill: str = "<think>"
    chance: Mapping[int, float] = field(default_factory=dict)

    @property
    def system(self) -> str:
        """The system prompt: the common rule about tags, then what this task wants."""
        return f"{SYSTEM}\n{self.instructions}"

    @property
    def contract(self) -> str:
        """A hash of everything about the prompt that changes answers; part of every ledger key."""
        text = "\x00".join((self.name, self.version, self.system, self.prefill))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def messages(self, item: Item) -> list[dict[str, str]]:
        """Return the conversation up to the assistant's turn."""
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": item.prompt},
        ]

    def read(self, text: str) -> Answer:
        """Return the tag verdict and the part of a completion that is judged, if any."""
        return read_answer(text, prefilled=bool(self.prefill))

    def check(self, text: str, item: Item) -> Score:
        """Score a completion (the text after the pre-fill); never raises, whatever the text."""
        tags, answer = self.read(text)
        if answer is None:
            return Score(tags, parsed=False, correct=False)
        verdict = self.grade(answer, item)
        return Score(tags, verdict.parsed, verdict.correct)


TASKS: Registry[Task] = Registry("task")
_UNLISTED: dict[str, Task] = {}  # by name alone: flawed on purpose
_ALIASES: dict[str, str] = {}


def register(task: Task, *, listed: bool = True) -> Task:
    """Put a task into the table under name and alias; unlisted it is found by name alone."""
    if not listed:
        return _UNLISTED.setdefault(task.name, task)
    _ALIASES[task.alias] = task.name
    return TASKS.add(task.name, task)


def get_task(name: str) -> Task:
    """Return a task by name or alias (`ded` is `deduction`), or a fenced one as `gym:NAME`."""
    import evals.tasks  # noqa: F401  the folder fills the table
    from evals.gym import PREFIX, gym_task

    if name.startswith(PREFIX):
        return gym_task(name.removeprefix(PREFIX))
    task = _UNLISTED.get(name) or TASKS.get(_ALIASES.get(name, name))
    if task is None:
        raise unknown("task", name, {*TASKS, *_ALIASES})
    return task


def bucket(canonical: str) -> int:
    """Return the hash bucket, 0 to 99, of a canonical instance."""
    return int(hashlib.sha256(canonical.encode()).hexdigest()[:8], 16) % 100


def draw_item(task: Task, *, level: int, split: str, seed: int, index: int) -> Item:
    """Draw item `index` of (task, version, split, seed, level)."""
    return _draw(task, level, split, seed, index)[0]


def _draw(
    task: Task, level: int, split: str, seed: int, index: int, hint: int = 0
) -> tuple[Item, int]:
    """Return an item and the number of its attempt, which is the hint if that was a right one."""
    if split not in SPLITS:
        raise EvalError(f"split {split!r} is not one of {', '.join(SPLITS)}", "Name one of these.")
    if level not in task.levels:
        known = ", ".join(map(str, task.levels))
        raise EvalError(f"task {task.name!r} has no level {level}", f"Its levels: {known}.")
    address = f"{task.name}/{task.version}/{split}/{seed}/L{level}/{index}"
    for attempt in chain([hint] if hint else [], range(10_000)):
        # A string seed is stable everywhere.
        draft = task.draw(Random(f"{address}/{attempt}"), level)
        if bucket(draft.canonical) in SPLITS[split]:
            how: dict[str, Any] = {"version": task.version, "level": level, "split": split}
            return Item(**vars(draft), **how, id=address, task=task.name), attempt
    raise EvalError(f"no instance of {address} found in 10,000 draws", "Its capacity is exhausted.")


def stream(
    task: Task, *, level: int, split: str, seed: int, attempts: list[int] | None = None
) -> Iterator[Item]:
    """Yield items without end, each canonical instance once (a repeat is passed over).

    `attempts` are those of the first items, as far as known, and are added to. Gives up with an
    `EvalError` when 1,000 draws in a row are repeats: the capacity is spent, and silent
    oversampling would make intervals too narrow.
    """
    seen: set[str] = set()
    repeats, known = 0, [] if attempts is None else attempts
    for index in count():
        hint = known[index] if index < len(known) else 0
        item, attempt = _draw(task, level, split, seed, index, hint)
        known[index : index + 1] = [attempt]
        if item.canonical not in seen:
            repeats = 0
            seen.add(item.canonical)
            yield item
        elif (repeats := repeats + 1) >= 1000:
            law = f"{task.name} level {level} has no more than {len(seen)} items in {split!r}"
            raise EvalError(law, "Ask for fewer items or for more levels.")


def items(
    task: Task, *, n: int, split: str, seed: int = 0, levels: tuple[int, ...] | None = None
) -> list[Item]:
    """Return the first n items, levels taken in turn; a longer list begins with the shorter one."""
    with remembered(task.draw, f"{task.name}/{task.version}/{split}/{seed}") as known:
        streams = [
            stream(task, level=lv, split=split, seed=seed, attempts=known.setdefault(f"{lv}", []))
            for lv in levels or task.levels
        ]
        return [next(streams[i % len(streams)]) for i in range(n)]


class Capacity(NamedTuple):
    """How many distinct instances some draws gave, and how many there are at least."""

    drawn: int
    distinct: int
    at_least: int


def capacity(task: Task, level: int, *, draws: int = 2000, seconds: float = 60.0) -> Capacity:
    """Estimate how many distinct instances a level has, over all splits.

    Chao's lower bound from how often instances came once and twice (A. Chao, Scand. J. Stat. 11,
    1984, bias-corrected); what was seen is counted, so more draws only raise it.
    """
    seen: Counter[str] = Counter()
    start = monotonic()
    for number in range(draws):
        if monotonic() - start > seconds:
            break
        seen[task.draw(Random(f"capacity/{number}"), level).canonical] += 1
    once, twice = (sum(n == times for n in seen.values()) for times in (1, 2))
    unseen = once * (once - 1) // (2 * (twice + 1))
    return Capacity(seen.total(), len(seen), len(seen) + unseen)
