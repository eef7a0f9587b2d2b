"""A folder full of broken and hostile files, made byte by byte, for tests of bad input."""

import json
import os
from pathlib import Path

import torch
import yaml

from tests.checkpoints import config, entry, llama_tensors, raw_file, write_index, write_model

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
DEEP = "[" * 5_000


def merge_config(**changes):
    """Return a valid merge of ded and ind as YAML, with changes."""
    models = [{"model": n, "parameters": {"weight": 1.0}} for n in ("ded", "ind")]
    told = {"merge_method": "linear", "models": models, "dtype": "float32"} | changes
    return yaml.safe_dump({k: v for k, v in told.items() if v is not None})


def _one(name):
    return [{"model": name, "parameters": {"weight": 1.0}}]


def ties(**knobs):
    """Return a TIES merge whose first expert has these knobs."""
    first = {"model": "ded", "parameters": {"weight": 1.0, "density": 0.5} | knobs}
    return merge_config(merge_method="ties", base_model="base", models=[first, {"model": "ind"}])


def slices(*ranges, models=("ded", "ind")):
    """Return a linear merge whose slices take these ranges of layers of every model."""
    made = [{"sources": [{"model": m, "layer_range": list(r)} for m in models]} for r in ranges]
    return merge_config(slices=made, models=None)


CONFIGS = {
    "good": merge_config(),
    "empty": "",
    "list": "- a\n- b\n",
    "word": "merge_method",
    "bad-yaml": "merge_method: [linear\nmodels: {",
    "tabs": "merge_method:\tlinear\n\tmodels: x",
    "bomb": BOMB + "merge_method: linear\nmodels: *j\n",
    "deep": "merge_method: linear\nmodels: " + DEEP,
    "python-tag": "merge_method: !!python/object/apply:os.system ['touch OWNED']\nmodels: []",
    "python-name": "merge_method: !!python/name:os.system\nmodels: []",
    "huge-number": f"merge_method: linear\nmodels: [{{model: ded, weight: 1{'0' * 5_000}}}]\n",
    "no-date": "merge_method: 2020-13-45\n",
    "twice": "merge_method: linear\nmerge_method: ties\nmodels: []\n",
    "no-method": yaml.safe_dump({"models": [{"model": "ded"}]}),
    "no-models": "merge_method: linear\n",
    "models-empty": merge_config(models=[]),
    "models-word": merge_config(models="ded"),
    "method-list": merge_config(merge_method=["linear"]),
    "method-typo": merge_config(merge_method="liner"),
    "key-typo": merge_config(paramters={"weight": 1}),
    "knob-typo": merge_config(parameters={"wieght": 1}),
    "weight-word": merge_config(models=[{"model": "ded", "parameters": {"weight": "much"}}]),
    "weight-nan": merge_config(models=[{"model": "ded", "parameters": {"weight": float("nan")}}]),
    "weight-inf": merge_config(models=[{"model": "ded", "parameters": {"weight": float("inf")}}]),
    "weight-bool": merge_config(models=[{"model": "ded", "parameters": {"weight": True}}]),
    "weight-zero": merge_config(models=[{"model": "ded", "parameters": {"weight": 0.0}}]),
    "weight-empty-gradient": merge_config(models=[{"model": "ded", "parameters": {"weight": []}}]),
    "density-2": ties(density=2.0),
    "density-negative": ties(density=-0.5),
    "ties-no-base": merge_config(merge_method="ties"),
    "slerp-three": merge_config(
        merge_method="slerp", base_model="base",
        models=[{"model": m} for m in ("base", "ded", "ind")], parameters={"t": 0.5},
    ),
    "slerp-no-t": merge_config(
        merge_method="slerp", base_model="base", models=[{"model": m} for m in ("base", "ded")]
    ),
    "no-such-model": merge_config(models=_one("nobody")),
    "no-such-folder": merge_config(models=_one("./nobody")),
    "model-nul": 'merge_method: linear\nmodels: [{model: "a\\0b", parameters: {weight: 1}}]\n',
    "model-empty": merge_config(models=_one("")),
    "model-number": merge_config(models=_one(7)),
    "model-is-root": merge_config(models=_one("/")),
    "model-escape": merge_config(models=_one("\x1b[31mred\x07")),
    "model-huge": merge_config(models=_one("x" * 100_000)),
    "model-dir-traversal": merge_config(models=_one("../../../../etc")),
    "dtype-typo": merge_config(dtype="float33"),
    "dtype-list": merge_config(dtype=["float32"]),
    "slices-and-models": merge_config(slices=[{"sources": []}]),
    "slice-beyond": slices((0, 9)),
    "slice-reversed": slices((2, 0)),
    "slice-negative": slices((-1, 1)),
    "slice-empty": slices((1, 1)),
    "slice-words": slices(("a", "b")),
    "tokenizer-unknown": merge_config(tokenizer_source="nobody"),
    "template-name": merge_config(chat_template="chatml"),
    "unsupported-tokenizer": merge_config(tokenizer={"source": "base", "tokens": {}}),
    "shapes-differ": merge_config(models=_one("ded") + _one("wide")),
    "layers-differ": slices((0, 3)),
    "nan": merge_config(models=_one("nan")),
    "seed-word": merge_config(
        merge_method="dare_linear", base_model="base", parameters={"seed": "x", "density": 0.5}
    ),
}  # fmt: skip


def recipe(**stages):
    """Return a recipe of these stages."""
    return yaml.safe_dump({"seed": 0, "stages": stages})


_MERGE = {"merge": yaml.safe_load(merge_config())}
RECIPES = {
    "r-empty": "",
    "r-list": "- 1",
    "r-bad-yaml": "stages: {",
    "r-bomb": BOMB + "stages: *j\n",
    "r-deep": "stages: " + DEEP,
    "r-python": "stages: !!python/object/apply:os.system ['touch OWNED']",
    "r-no-date": "seed: 2020-13-45\nstages: {a: {report: {}}}\n",
    "r-no-stages": "seed: 0\n",
    "r-stages-list": "stages: [a]\n",
    "r-key-typo": "stagse: {}\nstages: {a: {report: {}}}\n",
    "r-seed-word": "seed: x\nstages: {a: {report: {}}}\n",
    "r-kind-typo": recipe(a={"megre": {}}),
    "r-two-kinds": recipe(a={"merge": {}, "eval": {}}),
    "r-traversal": recipe(**{"../../up": _MERGE}),
    "r-absolute": recipe(**{"/tmp/up": _MERGE}),
    "r-empty-name": recipe(**{"": _MERGE}),
    "r-option-typo": recipe(a={"eval": {"models": ["base"], "taks": ["ded"]}}),
    "r-option-type": recipe(a={"eval": {"models": ["base"], "tasks": ["ded"], "n": "many"}}),
    "r-not-before": recipe(a={"eval": {"models": ["b"], "tasks": ["ded"]}}, b=_MERGE),
    "r-model-unknown": recipe(a={"eval": {"models": ["nobody"], "tasks": ["ded"]}}),
    "r-task-unknown": recipe(a={"align": {"model": "base", "task": "nothing"}}),
    "r-family-unknown": "family: nobody\nstages: {a: {eval: {models: [base], tasks: [ded]}}}\n",
    "r-experts-list": "experts: [a]\nstages: {a: {report: {}}}\n",
    "r-scale-unknown": "scale: huge\nstages: {a: {report: {}}}\n",
    "r-scales-list": "scale: huge\nscales: [huge]\nstages: {a: {report: {}}}\n",
    "r-merge-bad": recipe(a={"merge": {"merge_method": "liner", "models": []}}),
    "r-self": recipe(a={"eval": {"models": ["a"], "tasks": ["ded"]}}),
}

LINES = {
    "i-empty": "",
    "i-blank": "\n\n",
    "i-not-json": "{nope\n",
    "i-list": "[1]\n",
    "i-null": '{"prompt": null, "answer": "4"}\n',
    "i-blank-prompt": '{"prompt": " ", "answer": "4"}\n',
    "i-deep": DEEP + "\n",
    "i-no-answer": '{"prompt": "2+2"}\n',
    "i-twice": '{"prompt": "2+2", "answer": "4"}\n' * 2,
    "i-level-word": '{"prompt": "2+2", "answer": "4", "level": "high"}\n',
    "i-level-list": '{"prompt": "2+2", "answer": "4", "level": [1]}\n',
    "i-no-number": '{"prompt": "2+2", "answer": "four"}\n',
    "i-long": json.dumps({"prompt": "word " * 5_000, "answer": "4"}) + "\n",
    "i-good": '{"prompt": "2+2", "answer": "4"}\n{"prompt": "1+1", "answer": "2"}\n',
    "a-no-id": '{"text": "x"}\n',
    "a-unknown": '{"id": "deduction/v1/test/0/L1/99", "text": "x"}\n',
    "a-id-list": '{"id": [1], "text": "x"}\n',
    "x-bad-id": '{"id": "deduction", "prompt": "p"}\n',
    "x-bad-level": '{"id": "deduction/v1/test/0/L99/0"}\n',
    "x-bad-split": '{"id": "deduction/v1/exam/0/L1/0"}\n',
    "x-bad-version": '{"id": "deduction/v9/test/0/L1/0"}\n',
    "x-huge-index": '{"id": "deduction/v1/test/0/L1/' + "9" * 5000 + '"}\n',
    "x-changed": '{"id": "deduction/v1/test/0/L1/0", "prompt": "another"}\n',
    "s-no-doc": '{"acc": 1}\n',
    "s-list": "[]\n",
}


GOOD_RECIPE = recipe(a=_MERGE)


def make_world(root: Path) -> Path:
    """Fill a folder with three good models and everything that is wrong with others."""
    for i, name in enumerate(("base", "ded", "ind")):
        write_model(root / name, llama_tensors(i))
    for name, text in (CONFIGS | RECIPES).items():
        (root / f"{name}.yaml").write_text(text, encoding="utf-8")
    (root / "r-good.yaml").write_text(GOOD_RECIPE, encoding="utf-8")
    for name, text in LINES.items():
        (root / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (root / "binary.yaml").write_bytes(bytes(range(256)))
    (root / "binary.jsonl").write_bytes(bytes(range(256)))
    (root / "folder.yaml").mkdir()
    (root / "taken").mkdir()
    (root / "taken" / "notes.txt").write_text("mine")
    (root / "file").write_text("a file")
    (root / "not.sqlite").write_text("no database" * 100)
    (root / "loop").symlink_to("loop")
    _models(root)
    _adapters(root)
    _runs(root)
    return root


def _models(root: Path) -> None:
    good = llama_tensors(1)
    write_model(root / "wide", {n: torch.cat([t, t]) for n, t in good.items()})
    write_model(root / "tall", llama_tensors(3, layers=3), num_hidden_layers=3)
    write_model(root / "nan", {n: t / 0 for n, t in good.items()})
    for name in ("no-config", "bad-config", "deep-config", "list-config"):
        write_model(root / name, good)
    (root / "no-config" / "config.json").unlink()
    (root / "bad-config" / "config.json").write_text("{")
    (root / "deep-config" / "config.json").write_text(DEEP)
    (root / "list-config" / "config.json").write_text("[]")
    whole = (root / "ded" / "model.safetensors").read_bytes()
    one = {"w": entry("F32", [2], 0, 8)}
    files = {
        "zero": b"",
        "cut": whole[:-100],
        "cut-header": whole[:50],
        "longer": whole + b"more",
        "header-huge": raw_file(one, bytes(8), length=1 << 62),
        "header-not-json": raw_file("{w", bytes(8)),
        "header-list": raw_file([1], bytes(8)),
        "header-deep": raw_file(DEEP, bytes(8)),
        "header-binary": raw_file(b"\xff\xfe\x00", bytes(8)),
        "overlap": raw_file({"a": one["w"], "b": entry("F32", [2], 4, 12)}, bytes(12)),
        "beyond": raw_file({"w": entry("F32", [2], 0, 80)}, bytes(8)),
        "size-lie": raw_file({"w": entry("F32", [200], 0, 8)}, bytes(8)),
        "negative": raw_file({"w": entry("F32", [-2], 0, 8)}, bytes(8)),
        "overflow": raw_file({"w": entry("F32", [1 << 40, 1 << 40], 0, 8)}, bytes(8)),
        "fp8": raw_file({"w": entry("F8_E4M3", [8], 0, 8)}, bytes(8)),
        "no-dtype": raw_file({"w": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        "odd-dtype": raw_file({"w": entry("X32", [2], 0, 8)}, bytes(8)),
        "escape-name": raw_file({"\x1b[2J\x07": entry("X32", [2], 0, 8)}, bytes(8)),
        "no-tensors": raw_file({}),
        "html": b"<!DOCTYPE html><html>not found</html>",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 99\n",
    }  # fmt: skip
    for name, data in files.items():
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps(config()))
        (root / name / "model.safetensors").write_bytes(data)
    tables = {
        "index-up": {"w": "../ded/model.safetensors"},
        "index-absolute": {"w": str(root / "ded" / "model.safetensors")},
        "index-missing": {"w": "model-00001-of-00002.safetensors"},
        "index-number": {"w": 7},
    }
    for name, table in tables.items():
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps(config()))
        write_index(root / name, table)
    write_model(root / "index-bad", good)
    (root / "index-bad" / "model.safetensors.index.json").write_text("{")
    for name, file in (("pickle", "pytorch_model.bin"), ("verl", "model_world_size_2_rank_0.pt")):
        (root / name).mkdir()
        (root / name / file).write_bytes(b"\x80\x02cos\nsystem\n(S'touch OWNED'\ntR.")
    (root / "nothing").mkdir()
    write_model(root / "bad-tokenizer", good)
    (root / "bad-tokenizer" / "tokenizer.json").write_text("{")
    (root / "outside").mkdir()
    (root / "outside" / "config.json").write_text(json.dumps(config()))
    (root / "outside" / "model.safetensors").symlink_to("/dev/zero")


def _adapters(root: Path) -> None:
    from safetensors.torch import save_file

    name = "base_model.model.model.layers.0.self_attn.q_proj"
    good = {f"{name}.lora_A.weight": torch.zeros(2, 8), f"{name}.lora_B.weight": torch.zeros(8, 2)}
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    cases = {
        "lora": (good, told),
        "lora-bad-json": (good, None),
        "lora-list": (good, [1]),
        "lora-no-alpha": (good, {"peft_type": "LORA", "r": 2}),
        "lora-alpha-word": (good, told | {"lora_alpha": "much"}),
        "lora-other-kind": (good, told | {"peft_type": "IA3"}),
        "lora-half": ({k: t for k, t in good.items() if "lora_A" in k}, told),
        "lora-shape": ({k: t[:3, :] if "_B" in k else t for k, t in good.items()}, told),
        "lora-foreign": ({k.replace("layers.0", "layers.7"): t for k, t in good.items()}, told),
    }
    for folder, (tensors, facts) in cases.items():
        (root / folder).mkdir()
        save_file(tensors, root / folder / "adapter_model.safetensors")
        text = "{" if facts is None else json.dumps(facts)
        (root / folder / "adapter_config.json").write_text(text)


def _runs(root: Path) -> None:
    files = {
        "run-empty": {},
        "run-bad-manifest": {"manifest.json": "{"},
        "run-list-manifest": {"manifest.json": "[1]"},
        "run-thin-manifest": {"manifest.json": "{}"},
        "run-odd-options": {"manifest.json": '{"options": {"experts": 7}}'},
        "run-bad-confirm": {"manifest.json": "{}", "confirm.json": "{"},
        "run-ledger": {"ledger.sqlite": "no database", "confirm.json": "{}"},
        "run-recipe-bad": {"recipe.yaml": RECIPES["r-kind-typo"]},
        "run-state-bad": {"recipe.yaml": GOOD_RECIPE, "state.json": "{"},
        "run-state-list": {"recipe.yaml": GOOD_RECIPE, "state.json": "[]"},
    }
    for folder, contents in files.items():
        (root / folder).mkdir()
        for name, text in contents.items():
            (root / folder / name).write_text(text)


def state(root: Path) -> dict[str, object]:
    """Return what lies in a folder: every path with its size, time of writing, and link."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            facts = (Path(folder) / name).lstat()
            found[f"{folder}/{name}"] = (facts.st_mode, facts.st_size, facts.st_mtime_ns)
    return found
