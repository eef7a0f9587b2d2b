"""The fenced blocks of a page, run as a reader would run them: files written, commands, Python."""

import re
import shlex
from pathlib import Path

import pytest

from merger.cli.app import main

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.(?:yaml|jsonl|py))\b")


def blocks(page):
    """Yield (language, text) of every fenced block of a page of the project."""
    for found in _BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield found[1], found[2]


def commands(text):
    """Return the words of every line that calls merger, without its comment."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("merger ")]


def run(words):
    """Run one command here; pytest fails where it does not end with 0."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code, words


def smaller(words, sizes):
    """Return words with the value behind some options replaced, so that a test is quick."""
    return [sizes.get(before, word) for before, word in zip(["", *words], words, strict=False)]


def write_file(text):
    """Write a block whose first line names a file (`# paper.yaml: …`); say whether it did."""
    named = _FILE.match(text)
    if named:
        body = text.partition("\n")[2] if named[1].endswith(".jsonl") else text
        Path(named[1]).write_text(body, encoding="utf-8")
    return bool(named)
