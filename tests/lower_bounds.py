"""Run the fast tests with every need at its lower bound: `python -m tests.lower_bounds`.

uv resolves pyproject.toml with all extras to the lowest versions it allows, into a fresh
environment; torch is held at the build that is installed here. Words go to pytest:
`python -m tests.lower_bounds -x tests/test_engine.py`. Needs uv (`pip install uv`).
"""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
UV = which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def main(words):
    """Return pytest's exit code in an environment of lower bounds."""
    if UV is None:
        sys.exit("uv is not installed: pip install uv")
    env = os.environ | {"VIRTUAL_ENV": "", "OMP_NUM_THREADS": "1"}

    def uv(*more):
        subprocess.run([UV, "--quiet", *map(str, more)], cwd=ROOT, env=env, check=True)

    with TemporaryDirectory(prefix="lower-") as folder:
        held, found = Path(folder, "held.txt"), Path(folder, "lower.txt")
        held.write_text(f"torch=={version('torch')}\n")
        lowest = ["--all-extras", "--resolution", "lowest-direct", "--no-annotate", "--no-header"]
        minor = f"{sys.version_info.major}.{sys.version_info.minor}"
        project = ROOT / "pyproject.toml"
        uv("pip", "compile", project, *lowest, "-c", held, "--python-version", minor, "-o", found)
        sys.stdout.write(found.read_text())
        sys.stdout.flush()
        python = Path(folder, "env", "bin", "python")
        uv("venv", "--python", minor, python.parents[1])
        uv("pip", "install", "--python", python, "-r", found)
        uv("pip", "install", "--python", python, "--no-deps", ROOT)
        asked = words or ["-q", "-m", "not gpu and not slow", "tests"]
        return subprocess.run([python, "-m", "pytest", *asked], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
