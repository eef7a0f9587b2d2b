"""What is shipped: bounds that hold, files that are there, a wheel that needs no checkout."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement

from tests.blocks import ROOT
from tests.test_layout import PACKAGES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDS = [Requirement(text) for text in PROJECT["dependencies"]]
ALL = NEEDS + [Requirement(text) for extra in EXTRAS.values() for text in extra]
# Import name -> distribution, where they differ; what comes with a distribution we name.
CALLED = {"yaml": "pyyaml", "pysat": "python-sat", "lm_eval": "lm-eval", "sklearn": "scikit-learn"}
CALLED |= {"huggingface_hub": "huggingface-hub", "math_verify": "math-verify"}
CALLED |= {"reasoning_gym": "reasoning-gym", "tokenizers": "transformers", "pyarrow": "datasets"}


def pins():
    """Return distribution -> version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = (re.match(r"([\w.-]+)==(\S+)", line) for line in lines)
    return {m[1].lower().replace("_", "-"): m[2] for m in found if m}


def test_pins_lie_within_the_bounds():
    """Each version of constraints.txt is one that pyproject allows, torch among them."""
    pinned = pins()
    assert pinned["torch"] == "2.13.0"
    wrong = [
        f"{need} is pinned to {pinned[need.name.lower()]}"
        for need in ALL
        if need.name.lower() in pinned
        and not need.specifier.contains(pinned[need.name.lower()], prereleases=True)
    ]
    assert wrong == []
    assert {need.name.lower() for need in NEEDS} <= pinned.keys()


def test_every_need_has_a_lower_bound():
    """A dependency without a lower bound would let an installer go back for years."""
    loose = [str(n) for n in ALL if not any(s.operator in (">=", "==") for s in n.specifier)]
    assert [text for text in loose if not text.startswith("types-")] == []


def imported():
    """Yield the distribution of every package that a source imports, at any depth."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names.append(node.module)
                for top in {name.split(".")[0] for name in names}:
                    if top not in {*sys.stdlib_module_names, *PACKAGES, "_typeshed"}:
                        yield CALLED.get(top, top)


def test_what_is_imported_is_declared():
    """Nothing is imported that pyproject does not name, and nothing named is without use."""
    used, declared = set(imported()), {need.name for need in ALL}
    assert used - declared == set()
    idle = {need.name for need in NEEDS} - used
    assert idle <= {"accelerate"}  # what transformers' device maps and Trainer call


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build wheel and sdist of what git tracks, elsewhere; return (wheel, sdist)."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, files.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
    subprocess.run(words, check=True, capture_output=True)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_is_needed(built):
    """License, types, recipes, the embedded family, pages: in both; no tests in the wheel."""
    wheel, sdist = built
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    with tarfile.open(sdist) as archive:
        sources = [name.partition("/")[2] for name in archive.getnames()]
    shipped = [f"{package}/py.typed" for package in PACKAGES]
    shipped += ["recipes/tiny.yaml", "recipes/tiny/family.yaml", "search/page.html"]
    shipped.append("merger/checkpoint/forms.yaml")
    shipped += [f"recipes/tiny/{m}/model.safetensors" for m in ("base", "ded", "ind", "abd")]
    for name in shipped:
        assert name in names
        assert name in sources
    assert any(name.startswith("merger/_native.") for name in names)  # built from the next
    assert {"merger/native.c", "LICENSE"} <= set(sources)
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs"))]


@pytest.mark.slow
def test_the_wheel_works_without_the_checkout(built, tmp_path):
    """Installed into an empty place, every room loads from there, and each kind of work runs."""
    wheel, _ = built
    site = tmp_path / "site"
    words = ["pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, "-m", *words], check=True)
    env = os.environ | {"PYTHONPATH": str(site)}

    def python(*words):
        run = [sys.executable, *words]
        done = subprocess.run(
            run, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    where = python("-c", f"import {', '.join(PACKAGES)}; print(merger.__file__, recipes.__file__)")
    assert where.count(str(site)) == 2
    assert "0.1" in python("-m", "merger.cli", "--version")
    python("-m", "merger.cli", "merge", "--method", "linear", "--expert", "ded=1", "out")
    python("-m", "merger.cli", "eval", "out", "--tasks", "ind", "--n", "2", "--max-new-tokens", "4")
    python("-m", "merger.cli", "run", "tiny", "--set", "scale=smoke", "--dry-run")
    python("-m", "merger.cli", "tasks", "list")
    sizes = "--tasks ind --levels 1 --trials 3 --items 2+2 --max-new-tokens 4 --out run"
    python("-m", "merger.cli", "search", "--experts", "ded,ind", *sizes.split())
    python("-m", "merger.cli", "merge", "run/winner.yaml", "best")
    python("-m", "merger.cli", "ablate", "run", "--quick", "--plan")
