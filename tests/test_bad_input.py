"""Bad input, found by trying: each case ends in two lines, exit 2, and an untouched disk."""

import os
import shlex
import signal

import pytest

from merger.cli.app import main
from tests.hostile import CONFIGS, RECIPES, make_world, state

# What is typed, and a part of the law that must be said. Good models: base, ded, ind.
TYPED = """
merge                                                   | nothing is given
merge good.yaml                                         | good.yaml is given
merge good.yaml a b c                                   | a b c is given
merge --nope                                            | --nope
mrege                                                   | mrege
merge good.yaml taken                                   | taken exists
merge good.yaml /                                       | '/' is no place
merge good.yaml ""                                      | empty word stands after good.yaml
merge good.yaml file                                    | file is no folder
merge good.yaml taken --force                           | holds other things than a model
merge good.yaml ded --force                             | is an input
merge good.yaml file/x                                  | file/x cannot be written
merge good.yaml out --memory 0                          | --memory is '0'
merge good.yaml out --memory lots                       | --memory is 'lots'
merge good.yaml out --memory -1GB                       | --memory is '-1GB'
merge good.yaml out --memory 1KB                        | 1,000 bytes
merge good.yaml out --memory                            | --memory
merge good.yaml out --shard-size 0                      | --shard-size is '0'
merge good.yaml out --threads 0                         | given '0'
merge good.yaml out --threads many                      | given 'many'
merge good.yaml out --device tpu                        | 'tpu'
merge good.yaml out --device cuda:99                    | 'cuda:99' is not here
merge good.yaml out --dtype int8                        | 'int8'
merge good.yaml out --vocab both                        | 'both'
merge good.yaml out --seed x                            | given 'x'
merge good.yaml out --family nobody                     | 'nobody'
merge good.yaml out --base base                         | --base
merge good.yaml out --method ties                       | good.yaml out is given
merge --method ties --expert ded=1 out                  | base_model is missing
merge --method tise --base base --expert ded=1 out      | 'tise'
merge --method linear out                               | 0 is given
merge --method linear --expert ded --expert ded=1 out   | ded twice
merge --method linear --expert =1 out                   | names no model
merge --method linear --expert ded= out                 | 'ded='
merge --method linear --expert ded=much out             | 'much' is no number
merge --method linear --expert ded=nan out              | weight is nan
merge --method linear --expert ded=1 --set weight out   | --set is 'weight'
merge --method linear --expert ded=1 --set nope=1 out   | 'nope'
merge --method linear --expert ded=1 --set ind.weight=1 out | 'ind'
merge --method linear --expert ded=1 --set weight=[ out | weight=[
merge --method linear --expert ded=1 --set weight=!!python/name:os.system out | os.system
merge --method ties --base base --expert ded=1 --set density=2 out | density is 2
merge missing.yaml out                                  | missing.yaml
merge ded out                                           | ded cannot be read
merge loop out                                          | loop cannot be read
merge binary.yaml out                                   | binary.yaml
merge folder.yaml out                                   | folder.yaml
merge good.yaml out --dtype ""                          | empty word stands after --dtype
explain                                                 | --method
explain good.yaml --method ties                         | --method
explain good.yaml --device tpu                          | 'tpu'
inspect                                                 | model
inspect base ded                                        | (ded)
inspect nobody                                          | 'nobody'
inspect ./nobody                                        | './nobody'
inspect tiny                                            | 'tiny' is a family
inspect org/model@rev                                   | org/model@rev
inspect /                                               | / holds no model
inspect base --family nobody                            | 'nobody'
diff base nobody                                        | 'nobody'
diff base wide                                          | share no tensor
diff base ded --per word                                | 'word'
extract-lora base ded taken                             | taken exists
extract-lora base ded /                                 | '/' is no place
extract-lora base ded x --rank 0                        | given '0'
extract-lora base nan x                                 | NaN
extract-lora base ded base --force                      | is an input
experts --family nobody                                 | 'nobody'
experts --family ""                                     | empty word stands after --family
operators ""                                            | empty word stands after operators
operators tie                                           | 'tie'
tasks nope                                              | 'nope'
tasks show nope                                         | 'nope'
tasks show ded --level 99                               | no level 99
tasks show ded --level -1                               | no level -1
tasks show ded --split exam                             | 'exam'
tasks export ded --out no/such/x.jsonl                  | no/such/x.jsonl
tasks export ded --out taken                            | taken
tasks export ded --n 0 --out x.jsonl                    | given '0'
tasks export ded --level 3-1 --out x.jsonl              | '3-1'
tasks export ded --level 1-99999999999 --out x.jsonl    | '1-99999999999'
tasks export nope --out x.jsonl                         | 'nope'
tasks check missing.jsonl missing.jsonl                 | missing.jsonl
tasks check i-not-json.jsonl a-no-id.jsonl              | i-not-json.jsonl
tasks check x-bad-id.jsonl a-no-id.jsonl                | 'deduction'
tasks check x-bad-level.jsonl a-no-id.jsonl             | no level 99
tasks check x-bad-split.jsonl a-no-id.jsonl             | 'exam'
tasks check x-bad-version.jsonl a-no-id.jsonl           | v9
tasks check x-huge-index.jsonl a-no-id.jsonl            | 999
tasks check x-changed.jsonl a-no-id.jsonl               | the prompt is not that
tasks check i-deep.jsonl a-no-id.jsonl                  | i-deep.jsonl
tasks check i-empty.jsonl a-unknown.jsonl               | no item
tasks check i-empty.jsonl a-id-list.jsonl               | no item
tasks check binary.jsonl a-no-id.jsonl                  | binary.jsonl
tasks check i-empty.jsonl i-empty.jsonl --reward much   | 'much'
tasks audit missing                                     | missing
tasks audit i-empty.jsonl                               | i-empty.jsonl
tasks audit i-deep.jsonl                                | i-deep.jsonl
tasks audit binary.jsonl                                | binary.jsonl
tasks audit taken                                       | taken
tasks lm-eval-path --out ""                             | empty word stands after --out
tasks lm-eval-path --out file                           | file
tasks lm-eval-path --split exam --out lm                | 'exam'
tasks lm-eval-path --level 99 --out lm                  | no level 99
eval                                                    | MODEL
eval nobody --n 1                                             | 'nobody'
eval base --tasks nope                                  | 'nope'
eval base --tasks ded --n 1                             | 'base' cannot be loaded
eval no-config --tasks ded --n 1                        | 'no-config' cannot be loaded
eval bad-tokenizer --tasks ded --n 1                    | 'bad-tokenizer' cannot be loaded
eval base --tasks ,                                     | no task
eval base --tasks ded --n x                             | given 'x'
eval base --tasks ded --levels 9                        | no level 9
eval base --tasks ded --split exam                      | 'exam'
eval base --tasks ded --samples 4                       | 4 samples
eval base --tasks ded --n 1 --temperature nan                 | nan
eval base --tasks ded --n 1 --temperature inf                 | inf
eval base --tasks ded --n 1 --temperature 1 --top-p 7         | top-p 7
eval base --tasks ded --n 1 --device tpu                      | 'tpu'
eval base --tasks ded --n 1 --engine paged              | 'paged' needs CUDA
eval base --tasks ded --n 1 --export no/x.csv           | no/x.csv cannot be written
eval base --tasks ded --n 1 --export file/x.csv         | file/x.csv cannot be written
eval tiny:base --objective-cmd './nope {model}'         | './nope'
eval base --tasks missing.jsonl                         | missing.jsonl
eval base --tasks i-empty.jsonl                         | i-empty.jsonl
eval base --tasks i-deep.jsonl                          | i-deep.jsonl
eval base --tasks i-no-answer.jsonl                     | i-no-answer.jsonl
eval base --tasks i-null.jsonl                          | i-null.jsonl:1: the prompt is None
eval base --tasks i-blank-prompt.jsonl                  | i-blank-prompt.jsonl:1: the prompt is ' '
eval tiny:base --tasks lm_eval:nope                     | 'nope'
eval tiny:base --tasks lm_eval:nope --include-path no   | 'no'
eval base --tasks i-twice.jsonl                         | i-twice.jsonl:2
eval base --tasks i-level-word.jsonl                    | 'high'
eval base --tasks i-level-list.jsonl                    | [1]
eval base --tasks i-good.jsonl --check nope             | 'nope'
eval base --tasks i-good.jsonl --check os:name          | os:name
eval base --tasks i-good.jsonl --check :                | ':'
eval base --tasks ded --n 1 --store no/such/x.sqlite          | no/such/x.sqlite
eval base --tasks ded --n 1 --store not.sqlite                | not.sqlite
eval base --tasks ded --n 1 --store taken                     | taken
eval base --tasks ded --n 1 --store foo://bar                 | foo
eval base --tasks ded --n 1 --family nobody                   | 'nobody'
eval bad-config --tasks ded --n 1                             | bad-config
compare a                                               | b
compare a b                                             | evals.sqlite
compare a b --store not.sqlite                          | not.sqlite
compare missing.jsonl missing.jsonl                     | missing.jsonl
compare s-no-doc.jsonl s-no-doc.jsonl                   | s-no-doc.jsonl
compare binary.jsonl binary.jsonl                       | binary.jsonl
compare run-ledger run-ledger                           | run-ledger
search                                                  | no experts
search --experts ,                                      | no experts
search --experts tiny:ded,tiny:ded                      | twice
search --experts tiny:ded,nobody                        | 'nobody'
search --experts tiny:ded,tiny:ind --base nobody        | 'nobody'
search --experts tiny:ded,tiny:ind --base tiny:ded      | twice
search --experts tiny:ded --tasks dud                   | 'dud'
search --experts tiny:ded --items 5                     | '5'
search --experts tiny:ded --items 0+5                   | '0+5'
search --experts tiny:ded --mde nan                     | nan
search --experts tiny:ded --base tiny:base --trials 0                    | 0
search --experts tiny:ded --time soon                   | 'soon'
search --experts tiny:ded --store no/such/x.sqlite      | no folder no/such
search --experts tiny:ded --store not.sqlite            | not.sqlite is no SQLite database
search --experts tiny:ded --store taken                 | taken is no SQLite database
search --experts tiny:ded --storage sqlite:///no/x.db   | no folder no
search --experts tiny:ded --storage sqlite:///not.sqlite | not.sqlite is no SQLite database
search --experts tiny:ded --max-new-tokens 0            | --max-new-tokens is 0
search --experts tiny:ded --objective mode              | 'mode'
search --experts tiny:ded --objective weighted:ded=x    | ded=x
search --experts tiny:ded --sampler gpp                 | 'gpp'
search --experts tiny:ded --levels 99                   | no level 99
search --experts tiny:ded --levels 1-99999999999        | '1-99999999999'
search --experts tiny:ded --dtype int8                  | 'int8'
search --experts tiny:ded --device tpu                  | 'tpu'
search --experts tiny:ded --workers 0                   | given '0'
search --experts tiny:ded --save taken                  | taken exists
search --experts tiny:ded --base tiny:base --out file                    | file cannot be made
search --experts tiny:ded --base tiny:base --out run-thin-manifest       | already holds a run
search --experts tiny:ded --base tiny:base --out taken  | taken holds other things than a run
search --experts tiny:ded --tasks missing.jsonl         | missing.jsonl
search --experts tiny:ded --tasks i-good.jsonl --items 5+5 | i-good.jsonl
search --experts ded,wide                               | wide
search --experts nan,ded                                | not finite
search --resume missing                                 | missing
search --resume run-bad-manifest                        | run-bad-manifest
search --resume run-list-manifest                       | run-list-manifest
search --resume run-thin-manifest                       | run-thin-manifest
search --resume run-odd-options                         | options
worker                                                  | --join
worker --join missing                                   | missing
ablate missing                                          | missing
ablate run-bad-manifest                                 | run-bad-manifest
ablate run-bad-confirm                                  | run-bad-confirm
ablate run-empty --sections nope                        | 'nope'
run nobody                                              | 'nobody'
run missing.yaml                                        | missing.yaml
run good.yaml                                           | good.yaml has no stages
run binary.yaml                                         | binary.yaml
run tiny --set nope=1                                   | 'nope'
run tiny --set scale=[smoke]                            | ['smoke']
run tiny --set scale=huge                               | 'huge'
run tiny --set seed=x                                   | 'x'
run tiny --set seed                                     | 'seed'
run tiny --set align.steps=many --dry-run               | many
run tiny --set align.steps=-5 --dry-run                 | -5
run tiny --set align.steps=[ --dry-run                  | align.steps=[
run tiny --set align.nope=1 --dry-run                   | 'nope'
run tiny --set align.lr=!!python/name:os.system --dry-run | os.system
run tiny --only nope --out r1                           | 'nope'
run r-good.yaml --out taken                             | taken holds other things than a run
run run-state-bad --dry-run                             | state.json
run run-state-list --dry-run                            | state.json
align                                                   | model
align tiny:base --task nope --out x --steps 1                     | 'nope'
align nobody --task ded --out x                         | 'nobody'
align tiny:base --task ded                              | --out
align tiny:base --task ded --out x --levels 99          | no level 99
align tiny:base --task ded --out x --steps 0            | given '0'
align tiny:base --task ded --out x --steps 99999999999999999999 | steps is 99999999999999999999
align tiny:base --task ded --out / --steps 1            | '/' is no place
align tiny:base --task ded --out . --steps 1            | '.' is no place
align tiny:base --task ded --out x --group 1            | given '1'
align tiny:base --task ded --out x --steps 1 --lr nan             | nan
align tiny:base --task ded --out x --steps 1 --lr -1              | -1
align tiny:base --task ded --out x --steps 1 --reward much        | 'much'
align tiny:base --task ded --out x --steps 1 --set kl             | 'kl'
align tiny:base --task ded --out x --steps 1 --set nope=1         | 'nope'
align tiny:base --task ded --out x --steps 1 --set temperature=-1 | temperature is -1
align tiny:base --task ded --out x --steps 1 --set temperature=[  | temperature=[
align tiny:base --task ded --out x --steps 1 --device tpu         | tpu
align tiny:base --task ded --out taken --steps 1        | taken exists
align tiny:base --task i-empty.jsonl --out x --steps 1            | i-empty.jsonl
domain tiny:base --task nope --out x                    | 'nope'
"""

# Folders that are no model, or a broken one: `inspect` reads what every command reads first.
BROKEN = """
bad-config beyond cut cut-header deep-config escape-name fp8 header-binary header-deep header-huge
header-list header-not-json html index-absolute index-bad index-missing index-number index-up lfs
list-config longer lora-bad-json lora-list negative no-dtype no-tensors nothing odd-dtype outside
overflow overlap pickle size-lie taken verl zero
"""
ADAPTERS = "alpha-word bad-json foreign half list no-alpha other-kind shape"


def _cases():
    for line in TYPED.strip().splitlines():
        words, _, said = line.rpartition(" | ")
        yield pytest.param(words.strip(), said.strip(), id=words.strip().replace("/", "∕"))
    for name in CONFIGS.keys() - {"good"}:
        yield pytest.param(f"merge {name}.yaml out", "", id=f"config {name}")
    for name in RECIPES:
        yield pytest.param(f"run {name}.yaml --dry-run", "", id=f"recipe {name}")
    for name in BROKEN.split():
        yield pytest.param(f"inspect {name}", name, id=f"model {name}")
    for name in ADAPTERS.split():
        words = f"merge --method task_arithmetic --base base --expert lora-{name}=1 out"
        yield pytest.param(words, f"lora-{name}", id=f"adapter {name}")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a folder full of broken files, with three good models."""
    return make_world(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(autouse=True)
def _alarm():
    """End a case whose mistake is not seen: it would begin an hour's work."""

    def late(*_):
        raise AssertionError("not refused in 60 s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("words", "said"), sorted(_cases(), key=lambda c: c.id))
def test_two_lines_exit_two_and_an_untouched_disk(words, said, world, monkeypatch, capsys):
    """The law names value or place, the remedy what to do; nothing is written, or run."""
    monkeypatch.chdir(world)
    monkeypatch.setenv("COLUMNS", "200")
    before = state(world)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(words))
    told = capsys.readouterr().err
    assert ended.value.code == 2, told
    law, remedy = told[told.index("error: ") :].rstrip("\n").rsplit("\n", 1)
    assert said in law
    assert remedy.strip()
    assert law.count("\n") == 0 or "do not fit together" in law
    assert not any(c < " " for c in law.replace("\n", ""))
    assert state(world) == before


def test_the_list_is_long_enough():
    """More than 60 cases, over every command."""
    cases = [c.values[0] for c in _cases()]
    commands = {"merge", "explain", "search", "worker", "ablate", "eval", "compare", "inspect"}
    commands |= {"diff", "extract-lora", "experts", "operators", "tasks", "run", "align", "domain"}
    assert len(cases) > 60
    assert {words.split()[0] for words in cases} >= commands


def test_names_that_are_no_text(world, monkeypatch, capsys):
    """A file name that is no UTF-8 is a file that is not there, not a crash."""
    monkeypatch.chdir(world)
    with pytest.raises(SystemExit) as ended:
        main(["merge", os.fsdecode(b"\xff\xfe.yaml"), "out"])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
