"""What README.md shows is run: every file it writes and every command, in the order it stands.

Sizes are made small (answers, trials, steps); long recipes are checked and not run: they have
tests of their own.
"""

import json
from pathlib import Path

import pytest

from tests.blocks import ROOT, blocks, commands, run, smaller, write_file

SIZES = {"--trials": "6", "--items": "4+4", "--n": "3", "--steps": "1", "--prompts": "2"}
SIZES |= {"--group": "2"}
SMALL = {name: ["--max-new-tokens", "8"] for name in ("search", "eval", "align", "domain")}
SMALL["ablate"] = ["--quick", "--max-evals", "8"]


def answers(place):
    """Write an answer to every exported item, as another program would."""
    items = [json.loads(line) for line in Path("items.jsonl").read_text().splitlines()]
    lines = [json.dumps({"id": item["id"], "text": "<answer></answer>"}) for item in items]
    Path(place).write_text("\n".join(lines))


def questions(place):
    """Write the data set that the 7B recipe asks its user to put there."""
    from datasets import Dataset

    Path(place).parent.mkdir()
    Dataset.from_list([{"question": "2 + 2 = ?", "answer": "4"}]).to_parquet(place)


def prepared(words):
    """Return a command of the README in its quick form."""
    if words[:2] == ["tasks", "check"]:
        answers(words[3])
    if words[1:2] == ["meta-ability-7b"]:
        questions("data/math.parquet")
    if words[0] == "run":
        return [*words, *([] if "--dry-run" in words else ["--dry-run"])]
    small = SMALL.get(words[0], []) if "--resume" not in words else []
    return [*smaller(words, SIZES), *(small if "--max-new-tokens" not in words else [])]


@pytest.mark.slow
def test_every_block_runs(tmp_path, monkeypatch):
    """Each command ends with 0, with what the blocks before it have made."""
    monkeypatch.chdir(tmp_path)
    ran = 0
    for language, text in blocks("README.md"):
        if language == "python":
            exec(compile(text, "README.md", "exec"), {})
        if write_file(text):
            continue
        for words in commands(text):
            run(prepared(words))
            ran += 1
    assert ran > 20


def test_every_command_is_told():
    """README names each command once at least, and each page of docs/ that it links exists."""
    from merger.cli import app

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = {command.name or command.callback.__name__ for command in app.registered_commands}
    missing = {name for name in named if f"merger {name}" not in text} - {"explain", "experts"}
    assert not missing
    for page in text.split("](docs/")[1:]:
        assert (ROOT / "docs" / page.split(")")[0]).is_file()
