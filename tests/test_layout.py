"""The floors of the house: who may import whom, and what may load at start."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("merger", "search", "evals", "recipes")

# The longest matching prefix wins; a module without a floor may import nothing of ours.
FLOORS = {
    "merger": 0,
    "merger.errors": 0,
    "merger.late": 0,
    "merger.registry": 1,
    "merger.native": 1,
    "merger.names": 1,
    "merger.device": 1,
    "merger.screen": 1,
    "merger.lines": 1.5,  # its unknown keys are answered by the registry
    "merger.checkpoint": 2,
    "merger.operators": 2,
    "evals": 2,
    "merger.spec": 3,
    "merger.experts": 3,
    "merger.plan": 4,
    "merger.provenance": 4,
    "merger.engine": 5,
    "merger.resident": 5.5,  # the engine's sink that is a live model
    "merger.geometry": 5,
    "search": 6,
    "recipes": 7,
    "merger.api": 7.5,
    "merger.cli": 8,
}


def room(module: str) -> str:
    """Return the longest prefix of the module that has a floor."""
    parts = module.split(".")
    prefixes = (".".join(parts[:i]) for i in range(len(parts), 0, -1))
    return next(p for p in prefixes if p in FLOORS)


def allowed(module: str, target: str) -> bool:
    """Say whether a module may import another: strictly down, or inside its own room."""
    here, there = room(module), room(target)
    return here == there or FLOORS[there] < FLOORS[here]


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules() -> Iterator[object]:
    """Yield the dotted name and path of every module of ours, but the lazy door of `merger`."""
    for path in sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py")):
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if dotted != "merger":
            yield pytest.param(dotted, path, id=dotted)


@pytest.mark.parametrize(("module", "path"), list(modules()))
def test_imports_only_go_down(module, path):
    """No module imports from its own floor's neighbours or from a floor above."""
    ours = [n for n in imports(path) if n.split(".")[0] in PACKAGES]
    assert [n for n in ours if not allowed(module, n)] == []


def test_the_rule_can_fail():
    """Imports that go up, or sideways to a stranger, are refused by the rule."""
    assert not allowed("merger.names", "search.space")
    assert not allowed("evals.task", "merger.operators.ties")
    assert not allowed("search.study", "recipes.recipe")
    assert allowed("search.study", "merger.operators.ties")


def test_help_loads_nothing_heavy():
    """Importing the command line loads neither torch nor any model library."""
    heavy = ["torch", "transformers", "optuna", "lm_eval", "numpy", "scipy"]
    code = f"import sys, merger.cli; print([m for m in {heavy} if m in sys.modules])"
    run = [sys.executable, "-c", code]
    out = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_module_opens_with_what_it_is():
    """Each module says in some lines what it is; no file passes 300, no function 60 lines."""
    for path in sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py")):
        text = path.read_text()
        tree = ast.parse(text)
        told = (ast.get_docstring(tree) or "").count("\n") + 1
        assert path.name.startswith("__") or 3 <= told <= 16, path
        assert ast.get_docstring(tree), path
        assert text.count("\n") <= 300, path
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno <= 60, f"{path}:{node.lineno} {node.name}"
