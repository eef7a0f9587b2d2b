r"""The paper's benchmarks (arXiv 2505.10554) as one suite, `paper-7`, or singly as `paper-7:NAME`.

The paper's settings: one greedy answer, and for AIME 2024 and AMC 2023 the mean of 32 answers at
temperature 1.0 and top-p 0.95. It states neither prompt nor token limit nor grader, nor which
olympiad set; here the last `\boxed{}` is graded by mathematical equality, so scores are *like* the
paper's, not reproductions. Items come from a folder (NAME.jsonl or .parquet in the Hub's columns)
or through `datasets`. GPQA's choices are shuffled by a hash of the question.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from evals.answers import Verdict
from evals.equality import grade_math
from evals.generate import Settings
from evals.hub import hub_or_cache
from evals.jsonl import read_objects
from evals.own import FILES, FileTask, file_item, find_marked
from evals.task import Item
from merger.errors import EvalError
from merger.registry import unknown

SUITE = "paper-7"
LEFT_OUT = (
    "LiveCodeBench is left out: it runs programs that a model wrote, for which there is no sandbox "
    "here. Its own runner can score a model: --objective-cmd 'RUNNER {model}'."
)
_ASK = "Please reason step by step, and put your final answer within \\boxed{}."
_WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
Ask = Callable[[Mapping[str, Any]], tuple[str, str]]


class Benchmark(NamedTuple):
    """Where a benchmark lies on the Hub (name, config, split), its reader, answers an item."""

    place: tuple[str, str | None, str]
    ask: Ask
    samples: int = 1


def _fields(question: str, answer: str) -> Ask:
    def ask(row: Mapping[str, Any]) -> tuple[str, str]:
        gold = row[answer]
        return row[question], ", ".join(map(str, gold)) if isinstance(gold, list) else str(gold)

    return ask


def _choices(row: Mapping[str, Any]) -> tuple[str, str]:
    texts = [str(row[column]).strip() for column in ("Correct Answer", *_WRONG)]
    order = list(range(4))
    Random(sha256(str(row["Question"]).encode()).hexdigest()).shuffle(order)
    listed = "\n".join(f"({letter}) {texts[i]}" for letter, i in zip("ABCD", order, strict=True))
    asked = f"{str(row['Question']).strip()}\n{listed}\nAnswer with the letter only in the box."
    return asked, "ABCD"[order.index(0)]


BENCHMARKS = {
    "math500": Benchmark(("HuggingFaceH4/MATH-500", None, "test"), _fields("problem", "answer")),
    "aime": Benchmark(("gneubig/aime-1983-2024", None, "train"), _fields("Question", "Answer")),
    "aime24": Benchmark(
        ("HuggingFaceH4/aime_2024", None, "train"), _fields("problem", "answer"), 32
    ),
    "amc23": Benchmark(("math-ai/amc23", None, "test"), _fields("question", "answer"), 32),
    "olympiad": Benchmark(
        ("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train"),
        _fields("question", "final_answer"),
    ),
    "gpqa": Benchmark(("Idavidrein/gpqa", "gpqa_diamond", "train"), _choices),
}


def suite_names(name: str, folder: Path | None = None) -> list[str]:
    """Return the benchmarks that `paper-7` or `paper-7:NAME` names, all there if a folder is given.

    Refuses what is not run, and names every file that the folder lacks.
    """
    wanted = name.removeprefix(SUITE).removeprefix(":")
    if wanted == "livecodebench":
        law, _, remedy = LEFT_OUT.partition(". ")
        raise EvalError(law, remedy)
    if wanted and wanted not in BENCHMARKS:
        raise unknown("benchmark of paper-7", wanted, [*BENCHMARKS, "livecodebench"])
    names = [wanted] if wanted else list(BENCHMARKS)
    missing = [name for name in names if folder and not _files(name, folder)]
    if missing:
        law = f"{folder} holds no {', '.join(f'{name}.jsonl' for name in missing)} (or .parquet)"
        places = ", ".join(BENCHMARKS[name].place[0] for name in missing)
        some = "" if wanted else f", or name those that are there: --tasks {SUITE}:NAME,{SUITE}:…"
        raise EvalError(law, f"Save {places} there in the Hub's columns{some}.")
    return names


def read_benchmark(name: str, folder: Path | None = None) -> tuple[FileTask, list[Item]]:
    """Return a benchmark as a task and its items, from a folder if one is given."""
    grade = _letter if name == "gpqa" else grade_math
    task, found = FileTask(name=name, grade=grade, find=find_marked, version="v1"), []
    for number, (where, row) in enumerate(_rows(name, folder)):
        try:
            question, answer = BENCHMARKS[name].ask(row)
        except KeyError as error:
            raise EvalError(f"{where}: no column {error}", "Keep the Hub's columns.") from error
        facts = {"id": str(number), "prompt": f"{question}\n{_ASK}", "answer": answer}
        found.append(file_item(task, facts))
    return task, found


def paper_settings(name: str, settings: Settings) -> Settings:
    """Return the paper's settings for a benchmark, unless a temperature was asked for."""
    samples = BENCHMARKS[name].samples
    if samples == 1 or settings.temperature:
        return settings
    return replace(settings, samples=samples, temperature=1.0, top_p=0.95)


def _rows(name: str, folder: Path | None) -> Iterable[tuple[str, Mapping[str, Any]]]:
    if folder is not None:
        return read_objects(_files(name, folder)[0], f"rows of {BENCHMARKS[name].place[0]}")
    place, config, split = BENCHMARKS[name].place
    try:
        from datasets import load_dataset

        with hub_or_cache():
            rows = load_dataset(place, config, split=split)
    except Exception as error:
        law = f"{place} cannot be loaded: {(str(error).splitlines() or ['offline'])[0]}"
        raise EvalError(law, f"Give a folder that holds {name}.jsonl: --data DIR.") from error
    return ((f"{place}:{number}", row) for number, row in enumerate(rows))


def _files(name: str, folder: Path) -> list[Path]:
    return [file for end in FILES if (file := folder / f"{name}{end}").is_file()]


def _letter(answer: str, item: Item) -> Verdict:
    """Judge a choice: one letter, in parentheses or not."""
    said = answer.strip(" ().$").upper()
    return Verdict(parsed=said in {"A", "B", "C", "D"}, correct=said == item.answer)
