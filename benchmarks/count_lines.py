"""Count the lines of code: no docstring, comment or blank. `python benchmarks/count_lines.py`.

`make check` runs it. CEILING is what the source may have at most: lower it when the count falls, so
that growth is a decision.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

CEILING = 17_370
ROOT = Path(__file__).parents[1]
PACKAGES = ("merger", "search", "evals", "recipes")
_NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
_NOT_CODE |= {tokenize.ENDMARKER}


def count(text: str) -> int:
    """Return the lines of a source that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NOT_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            told = node.body[0]
            lines -= set(range(told.lineno, (told.end_lineno or told.lineno) + 1))
    return len(lines)


def main() -> int:
    """Print the count of each package and all of them; fail above the ceiling."""
    found = Counter[str]()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            found[package] += count(file.read_text(encoding="utf-8"))
    told = ", ".join(f"{package} {found[package]:,}" for package in PACKAGES)
    print(f"{found.total():,} lines of code ({told}); at most {CEILING:,}")
    return int(found.total() > CEILING)


if __name__ == "__main__":
    sys.exit(main())
