"""The faults: each puts one on a command and checks that nothing is lost and all goes on.

A case gets a random generator, stands in an empty folder, and returns nothing; an AssertionError
says what was lost. `whole` results are those of the same command left alone, made once.
"""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

from merger import resolve
from tests.faults.child import run, start, struck, wait

CASES = {}

MERGE = "merge --method ties --base base --expert ded=1 --expert {0}=1 --set density=0.4 out"
MERGE = f"{MERGE} --shard-size 400KB"
EVAL = "eval ded --tasks ind --levels 1 --n 24 --threads 1 --store l.sqlite --json"
SEARCH = "search --experts ded,ind --tasks ind --levels 1 --trials 4 --items 4+4 --seed 1"
SEARCH = f"{SEARCH} --max-new-tokens 24 --racing none --out run"
RESUME = "search --resume run"
ALIGN = "align {0} --task ind --levels 1 --steps 3 --prompts 2 --group 2 --lr 1e-4 --out my"
ALIGN = f"{ALIGN} --max-new-tokens 8 --device cpu"
RECIPE = """
seed: 0
stages:
  merged: {merge: {merge_method: linear, dtype: float32, models: [
    {model: MODEL, parameters: {weight: 1}}, {model: ind, parameters: {weight: 1}}]}}
  scores: {eval: {models: [base, merged], tasks: [ind], levels: 1, n: 8, max_new_tokens: 24}}
"""
RUN = "run r.yaml --out run --json"


def fault(name, command, recovered):
    """Register a case under the fault, the command, and what recovers from it."""

    def add(function):
        CASES[name, command] = function, recovered
        return function

    return add


def weights(folder="out"):
    """Return a digest of each file of weights of a folder."""
    found = sorted(Path(folder).glob("*.safetensors"))
    assert found
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in found}


def answers(place="l.sqlite"):
    """Return every answer of a ledger; a ledger that is not there holds none."""
    if not Path(place).exists():
        return {}
    with closing(sqlite3.connect(place)) as db:
        tables = {name for (name,) in db.execute("select name from sqlite_master")}
        if "answers" not in tables:
            return {}
        rows = db.execute("select fingerprint, item, sample, text from answers")
        return {row[:-1]: row[-1] for row in rows}


@contextmanager
def elsewhere():
    """Stand in an empty folder for a while."""
    here = Path.cwd()
    with TemporaryDirectory(dir=here) as place:
        os.chdir(place)
        try:
            yield
        finally:
            os.chdir(here)


def mine():
    """Return a model folder of one's own that may be broken: a copy of an expert, and its file."""
    copytree(resolve("tiny:ind").path, "mine", dirs_exist_ok=True)
    return Path("mine/model.safetensors")


def changed(file):
    """Change the model: the weights of another expert under the same name."""
    file.write_bytes((resolve("tiny:abd").path / "model.safetensors").read_bytes())


@cache
def whole(line, kind):
    """Return (seconds, result) of a command left alone."""
    with elsewhere():
        if kind == "run":
            Path("r.yaml").write_text(RECIPE.replace("MODEL", "ded"))
        if "mine" in line:
            mine()
        begin = time.monotonic()
        run(line.split())
        seconds = time.monotonic() - begin
        return seconds, result(kind)


def result(kind):
    """Return what a command made, as something that can be compared."""
    if kind == "merge":
        return weights()
    if kind == "align":
        return weights("my")
    if kind == "search":
        return json.loads(Path("run/confirm.json").read_text())["verdict"]
    document = json.loads(Path("data.txt").read_text())
    if kind == "eval":
        return document["models"][0]["tasks"]
    if kind == "run":
        return weights("run/merged"), document["stages"]["scores"]
    raise ValueError(kind)


def hit(line, kind, rng, number):
    """Strike a command at a random moment of its usual time."""
    seconds, _ = whole(line, kind)
    code = struck(line.split(), rng.uniform(0.05, 0.95) * seconds, number)
    assert code in (0, -number, 130, 143), Path("told.txt").read_text()
    return code


def again(line, code):
    """Return the command that goes on after a strike; None where the work had ended."""
    merged = line.startswith("merge") and Path("out").exists()  # OUT has its name when it is whole
    if code == 0 or merged:
        return None
    if line.startswith("merge"):
        return f"{line} --resume" if Path("out.partial").exists() else line
    if line.startswith("search"):
        return RESUME if Path("run/manifest.json").exists() else line
    return line


def _struck(line, kind, number):
    def case(rng):
        if kind == "run":
            Path("r.yaml").write_text(RECIPE.replace("MODEL", "ded"))
        code = hit(line, kind, rng, number)
        place = {"eval": "l.sqlite", "search": "run/ledger.sqlite", "run": "run/ledger.sqlite"}
        kept = answers(place.get(kind, ""))
        if more := again(line, code):
            run(more.split())
        found, usual = result(kind), whole(line, kind)[1]
        assert kind == "search" or found == usual  # a resumed sampler may propose others
        now = answers(place.get(kind, ""))
        assert kept.items() <= now.items(), "answers were lost or paid for twice"

    return case


LINES = {"merge": MERGE.format("ind"), "eval": EVAL, "search": SEARCH}
LINES |= {"align": ALIGN.format("base"), "run": RUN}
ON = {"merge": "--resume", "eval": "the same command", "search": "--resume"}
ON |= {"align": "the same command", "run": "the same command"}
for _kind, _line in LINES.items():
    for _name, _number in (("kill −9", signal.SIGKILL), ("SIGTERM", signal.SIGTERM)):
        fault(_name, _kind, ON[_kind])(_struck(_line, _kind, _number))


@fault("disk full at the start", "merge", "--resume once there is room")
def small_disk(rng):
    """A tmpfs of 2 MB: refused before a byte, or where the limit is met; then it is made larger."""
    Path("disk").mkdir()
    line = MERGE.format("ind").replace(" out", " disk/out")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", "disk"]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        run(line.split(), code=2, biggest=100_000)
        run([*line.split(), "--force"])
        assert weights("disk/out") == whole(MERGE.format("ind"), "merge")[1]
        return
    try:
        run(line.split(), code=2)
        assert not Path("disk/out").exists()
        subprocess.run([*mount[:4], "remount,size=60m", *mount[5:]], check=True)
        run([*line.split(), "--force"])
        assert weights("disk/out") == whole(MERGE.format("ind"), "merge")[1]
    finally:
        subprocess.run(["umount", "disk"], check=True)


@fault("disk full midway", "merge", "--resume once there is room")
def full_merge(rng):
    """Files may not grow beyond a size: the merge stops in two lines and goes on later."""
    line = MERGE.format("ind").split()
    run(line, code=2, biggest=rng.randrange(50_000, 380_000))
    assert not Path("out").exists()
    run([*line, "--resume"] if Path("out.partial").exists() else line)
    assert weights() == whole(MERGE.format("ind"), "merge")[1]


@fault("disk full midway", "eval", "the same command once there is room")
def full_eval(rng):
    """The ledger may not grow: what it holds stays, and the same command pays for the rest."""
    run(EVAL.split(), code=2, biggest=rng.randrange(40_000, 60_000))
    kept = answers()
    run(EVAL.split())
    assert kept.items() <= answers().items()
    assert result("eval") == whole(EVAL, "eval")[1]


@fault("input cut short", "merge", "fetch the file again")
def cut_input(rng):
    """A truncated file of weights is refused before anything is written."""
    file, line = mine(), MERGE.format("./mine")
    data = file.read_bytes()
    file.write_bytes(data[: rng.randrange(1, len(data))])
    run(line.split(), code=2)
    assert not Path("out").exists()
    assert not Path("out.partial").exists()
    file.write_bytes(data)
    run(line.split())


@fault("half-written shards corrupted", "merge", "--resume writes them anew")
def corrupt_partial(rng):
    """Bytes of a killed merge's shards are turned round; the resumed one is whole all the same."""
    line = MERGE.format("ind")
    code = hit(line, "merge", rng, signal.SIGKILL)
    shards = sorted(Path("out.partial").glob("*.safetensors*")) if code else []
    if shards:
        victim = rng.choice(shards)
        data = bytearray(victim.read_bytes())
        for _ in range(8):
            data[rng.randrange(len(data))] ^= 0xFF
        victim.write_bytes(data)
    if more := again(line, code):
        run(more.split())
    assert weights() == whole(line, "merge")[1]


@fault("input changed before --resume", "merge", "begins anew, never mixes")
def changed_merge(rng):
    """After the inputs change, what stands is the merge of the new ones, or nothing."""
    file, line = mine(), MERGE.format("./mine")
    code = hit(line, "merge", rng, signal.SIGKILL)
    changed(file)
    if more := again(line, code):
        if wait(start(more.split())) == 2:
            assert not Path("out").exists()
            run([*line.split(), "--force"])
        _, fresh = whole(MERGE.format("abd"), "merge")
        assert weights() == fresh


@fault("input changed before --resume", "search", "refused; begin another run")
def changed_search(rng):
    """A search whose expert changed is not continued: its scores speak of other weights."""
    file = mine()
    line = SEARCH.replace("ded,ind", "ded,./mine")
    seconds, _ = whole(SEARCH, "search")
    struck(line.split(), seconds / 2, signal.SIGTERM)
    changed(file)
    if not Path("run/confirm.json").exists() and Path("run/manifest.json").exists():
        assert "not the weights" in run(RESUME.split(), code=2)


@fault("input changed before --resume", "run", "the stages it feeds run anew")
def changed_run(rng):
    """A recipe whose input changed makes its stages anew, and sets the old ones aside."""
    file = mine()
    Path("r.yaml").write_text(RECIPE.replace("MODEL", "./mine"))
    run(RUN.split())
    before = weights("run/merged")
    changed(file)
    run(RUN.split())
    assert weights("run/merged") != before
    assert weights("run/merged.old1") == before


@fault("two at once", "merge", "one wins, the other is told")
def two_merges(rng):
    """Two processes write one place: what stands is whole."""
    line = MERGE.format("ind")
    codes = {wait(pid) for pid in [start(line.split()), start(line.split())]}
    assert codes <= {0, 2}
    if not Path("out").exists():
        run([*line.split(), "--force"])
    assert weights() == whole(line, "merge")[1]


@fault("two at once", "eval", "both end, each answer kept once")
def two_evals(rng):
    """Two evaluations share a ledger."""
    assert [wait(pid) for pid in [start(EVAL.split()), start(EVAL.split())]] == [0, 0]
    run(EVAL.split())
    assert result("eval") == whole(EVAL, "eval")[1]
    assert len(answers()) == 24


@fault("two at once", "search", "the second is refused, or helps")
def two_searches(rng):
    """The same new search twice: one makes the run; both resuming it ends in one verdict."""
    codes = {wait(pid) for pid in [start(SEARCH.split()), start(SEARCH.split())]}
    assert codes <= {0, 2}
    run(RESUME.split())
    assert json.loads(Path("run/confirm.json").read_text())["verdict"]


@fault("ledger corrupted", "eval", "restore it, or another --store")
def corrupt_ledger(rng):
    """A ledger that was overwritten is refused in two lines, not read as something else."""
    run(EVAL.split())
    for more in ("-wal", "-shm"):
        Path(f"l.sqlite{more}").unlink(missing_ok=True)
    data = bytearray(Path("l.sqlite").read_bytes())
    data[:] = data[:100] + bytes(rng.randrange(256) for _ in range(len(data) - 100))
    Path("l.sqlite").write_bytes(data)
    run(EVAL.split(), code=2)


@fault("marks of stages corrupted", "run", "remove state.json, or restore it")
def corrupt_state(rng):
    """A damaged state.json is refused in two lines; nothing of the run is removed."""
    Path("r.yaml").write_text(RECIPE.replace("MODEL", "ded"))
    run(RUN.split())
    made = weights("run/merged")
    state = Path("run/state.json")
    state.write_bytes(state.read_bytes()[: rng.randrange(1, 60)])
    run(RUN.split(), code=2)
    assert weights("run/merged") == made


HARMS = [
    lambda data: b"",
    lambda data: data[: len(data) // 2],
    lambda data: b'{"x": 1}\n',
    lambda data: b"[1]\n",
    lambda data: b"\xff not: [a file\n",
]


def _harmed(line, kind, place):
    def case(rng):
        Path("r.yaml").write_text(RECIPE.replace("MODEL", "ded"))
        code = hit(line, kind, rng, signal.SIGKILL)
        if left := sorted(file for file in Path(place).rglob("*") if file.is_file()):
            victim = rng.choice(left)
            victim.write_bytes(rng.choice(HARMS)(victim.read_bytes()))
        if more := again(line, code):
            if wait(start(more.split())) == 0:
                assert kind == "search" or result(kind) == whole(line, kind)[1]
            else:
                run(more.split(), code=2)

    return case


for _kind, _place in {"merge": "out.partial", "search": "run", "align": "my.partial"}.items():
    fault("a file it left damaged", _kind, "the same, or two lines that name it")(
        _harmed(LINES[_kind], _kind, _place)
    )


def _postgres(rng):
    """The server ends every connection midway; the same command goes on with what was kept."""
    from sqlalchemy import create_engine, text

    url = os.environ["MERGER_TEST_POSTGRES"]
    line = EVAL.replace("l.sqlite", url).replace("--n 24", f"--n 24 --seed {rng.randrange(10**6)}")
    pid = start(line.split())
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as db:
        for _ in range(4):
            time.sleep(0.3)
            db.execute(
                text(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where pid <> pg_backend_pid() and datname = current_database()"
                )
            )
    assert wait(pid) in (0, 2)
    run(line.split())


if os.environ.get("MERGER_TEST_POSTGRES"):
    fault("PostgreSQL connections dropped", "eval", "made anew, else the same command")(_postgres)
