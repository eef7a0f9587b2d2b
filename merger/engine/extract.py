"""The way back from a model to a LoRA adapter: the best low-rank factors of what training changed.

A truncated SVD of each matrix's change, found by subspace iteration (Halko, Martinsson, Tropp 2011,
as torch has it), one matrix at a time. Where the rank reaches a matrix's own, the factors give the
change back. Tensors that LoRA cannot express (norms, biases, anything but a matrix) are saved
whole, as PEFT's `modules_to_save` are. https://arxiv.org/abs/0909.4061
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from merger.checkpoint import Checkpoint
from merger.checkpoint.adapter import CONFIG, WEIGHTS
from merger.checkpoint.place import check_place, partial_of, said, take_place
from merger.checkpoint.tied import agree
from merger.errors import CheckpointError, MismatchError, UsageError
from merger.late import Tensor, torch
from merger.names import module_of

_MORE = 16  # directions sought beyond those kept, which makes the kept ones better
_PASSES = 4
_NOISE = 1e-6  # singular values below this share of the largest are rounding


@dataclass
class Extracted:
    """An adapter: its tensors, the rank of each module, and what the ranks keep of the change."""

    rank: int
    tensors: dict[str, Tensor] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    change: float = 0.0  # squares of all matrices' changes
    kept: float = 0.0

    def config(self, base: str) -> dict[str, Any]:
        """Return adapter_config.json: alpha is the rank everywhere, so nothing is scaled."""
        less = {module: r for module, r in self.ranks.items() if r != self.rank}
        saved = {n.rpartition(".")[0] for n in self.whole} - self.ranks.keys()
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": self.rank,
            "lora_alpha": self.rank,
            "rank_pattern": less,
            "alpha_pattern": less,
            "target_modules": sorted(self.ranks),
            "modules_to_save": sorted(saved) or None,
            "bias": "none",
            "lora_dropout": 0.0,
            "inference_mode": True,
        }

    def add_factors(self, name: str, left: Tensor, right: Tensor) -> None:
        """Add a matrix's change, left (rows, r) @ right (r, cols); embeddings stand turned."""
        module = name.removesuffix(".weight")
        head = f"base_model.model.{module}.lora"
        if module_of(name) == "embed":
            pair = {f"{head}_embedding_A": left.T, f"{head}_embedding_B": right.T}
        else:
            pair = {f"{head}_A.weight": right, f"{head}_B.weight": left}
        self.tensors |= {n: t.contiguous() for n, t in pair.items()}
        self.ranks[module] = left.shape[1]

    def add_whole(self, name: str, tensor: Tensor) -> None:
        """Add a tensor as it is; a bias stands in the layer that the factors wrap."""
        module, _, kind = name.rpartition(".")
        inner = f"{module}.base_layer.{kind}" if module in self.ranks else name
        self.tensors[f"base_model.model.{inner}"] = tensor
        self.whole.append(name)


def extract_lora(
    base: Checkpoint,
    model: Checkpoint,
    rank: int,
    *,
    progress: Callable[[str], None] | None = None,
) -> Extracted:
    """Return the adapter that takes `base` to `model`, as nearly as its rank allows.

    Args:
        base: what the adapter will be put on.
        model: a model of the same tensors.
        rank: columns of each factor at most; a change of lower rank gets no more than it needs.
        progress: called with the name of each tensor.

    Raises:
        MismatchError: the two differ in names or shapes.
        UsageError: there is no change.
    """
    made = Extracted(rank)
    # Matrices first: where a bias is put depends on whether its matrix changed.
    for name in sorted(_names(base, model), key=lambda n: not _is_matrix(base, n)):
        change = model.read(name).float() - base.read(name).float()
        if not change.isfinite().all():
            law = f"{name} holds NaN or infinity in {model.path} or {base.path}"
            raise CheckpointError(law, "Mend the model: its training or its conversion broke it.")
        if not change.any():
            pass
        elif _is_matrix(base, name):
            left, right = low_rank(change, rank)
            made.add_factors(name, left, right)
            made.change += float(change.double().square().sum())
            made.kept += float(left.double().square().sum(0).square().sum())
        else:
            made.add_whole(name, model.read(name).view(model.tensors[name].shape))
        if progress:
            progress(name)
    if not made.tensors:
        raise UsageError(f"{model.path} does not differ from {base.path}", "Name another model.")
    return made


def save_adapter(made: Extracted, out: Path, base: str, *, force: bool = False) -> None:
    """Write a PEFT folder, which gets its name when it is whole; an OutputError if it cannot."""
    check_place(out, force=force, resume=True)
    partial = partial_of(out)
    with said(out):
        partial.mkdir(parents=True, exist_ok=True)
        save_file(made.tensors, partial / WEIGHTS, {"format": "pt"})
        text = json.dumps(made.config(base), indent=2, ensure_ascii=False)
        (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
        take_place(partial, out)


def low_rank(change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return factors (rows, r), (r, cols) of the nearest matrix of rank r ≤ `rank`, float32.

    The columns of the first are orthogonal, their squared lengths the singular values.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        width = min(rank + _MORE, *change.shape)
        left, values, right = torch.svd_lowrank(change, q=width, niter=_PASSES)
    kept = min(rank, int((_NOISE * values[0] < values).sum()))
    root = values[:kept].sqrt()
    return left[:, :kept] * root, (right[:, :kept] * root).T


def _is_matrix(base: Checkpoint, name: str) -> bool:
    info = base.tensors[name]
    return len(info.shape) == 2 and info.is_float and name.endswith(".weight")


def _names(base: Checkpoint, model: Checkpoint) -> list[str]:
    """Return the tensors of both, copies of a tied embedding left out; refuse any difference."""
    dropped = agree({"base": base, "model": model})
    here = {n: i.shape for n, i in base.tensors.items() if n != dropped.get("base")}
    there = {n: i.shape for n, i in model.tensors.items() if n != dropped.get("model")}
    if wrong := sorted(n for n in here.keys() | there.keys() if here.get(n) != there.get(n)):
        law = f"{wrong[0]} is {there.get(wrong[0])} in {model.path} and {here.get(wrong[0])} in "
        remedy = "An adapter changes a model and adds nothing: name the base it was trained from."
        raise MismatchError(f"{law}{base.path} ({len(wrong)} such)", remedy)
    return list(here)
