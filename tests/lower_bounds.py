"""Run the fast tests with every need at its lower bound: `make lower`.

uv resolves pyproject.toml with all extras to the lowest versions it allows, into a fresh
environment; torch is held at the version that is installed here, and PIP_FIND_LINKS is obeyed.
The whole fast tier runs, on two cores; other words go to pytest:
`python -m tests.lower_bounds -x tests/test_engine.py`. Not a part of CI, for it fetches an
environment of some gigabytes.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from packaging.version import Version

ROOT = Path(__file__).parents[1]
UV = which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def main(words):
    """Return pytest's exit code in an environment of lower bounds."""
    if UV is None:
        sys.exit("uv is not installed: pip install uv")
    env = os.environ | {"VIRTUAL_ENV": "", "OMP_NUM_THREADS": "1"}
    env["UV_FIND_LINKS"] = os.environ.get("PIP_FIND_LINKS", "").replace(" ", ",")

    def uv(*more):
        subprocess.run([UV, "--quiet", *map(str, more)], cwd=ROOT, env=env, check=True)

    with TemporaryDirectory(prefix="lower-") as folder:
        held, found = Path(folder, "held.txt"), Path(folder, "lower.txt")
        held.write_text(f"torch=={Version(version('torch')).public}\n")
        lowest = ["--all-extras", "--resolution", "lowest-direct", "--no-annotate", "--no-header"]
        minor = f"{sys.version_info.major}.{sys.version_info.minor}"
        project = ROOT / "pyproject.toml"
        uv("pip", "compile", project, *lowest, "-c", held, "--python-version", minor, "-o", found)
        sys.stdout.write(found.read_text())
        sys.stdout.flush()
        python = Path(folder, "env", "bin", "python")
        uv("venv", "--python", minor, python.parents[1])
        uv("pip", "install", "--python", python, "-r", found)
        uv("pip", "install", "--python", python, "--no-deps", "--editable", ROOT)
        asked = words or ["-q", "-m", "not gpu and not slow", "-n", "2", "--dist", "loadfile"]
        return subprocess.run([python, "-m", "pytest", *asked], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
