"""The folder a run of RL leaves: a plain checkpoint, its learning curve, its card.

Work happens in OUT.partial (curve.jsonl and settings.json in it, the trainer's own checkpoints
below `trainer/`) and OUT appears by one rename when all is there. A left-over OUT.partial of the
same settings and input is continued; one of other settings is refused, never mixed.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import xxhash

from merger.checkpoint import open_checkpoint
from merger.checkpoint.place import partial_of
from merger.checkpoint.sidecar import copy_sidecar, dominant
from merger.errors import OutputError
from recipes.rl.curve import CURVE, RECORD, draw, read_curve, read_record

_SEAL = "hashes.json"


def fingerprint(model: Path) -> str:
    """Return the hash of a checkpoint's content."""
    with closing(open_checkpoint(model)) as checkpoint:
        return checkpoint.fingerprint()


def write_whole(path: Path, text: str) -> None:
    """Write a file whole, or not at all where the process is killed; others may write it too."""
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _sealed(folder: Path) -> bool:
    try:
        digests = json.loads((folder / _SEAL).read_text()).items()
        return all(_digest(folder / name) == digest for name, digest in digests)
    except (OSError, ValueError, AttributeError):
        return False


class Workplace:
    """OUT.partial while the run lasts, OUT afterwards."""

    def __init__(self, out: Path, record: Mapping[str, Any]) -> None:
        """Refuse an OUT that is there, and an OUT.partial that another run left."""
        self.out, self.record = out, json.loads(json.dumps(record))
        self.part = partial_of(out)
        self.trainer = self.part / "trainer"  # its checkpoints, and the completions it saw
        if out.exists():
            raise OutputError(f"{out} exists", "Choose another OUT or remove it.")
        before = read_record(self.part) if (self.part / RECORD).exists() else self.record
        if before != self.record:
            keys = sorted(k for k in {*before, *self.record} if before.get(k) != self.record.get(k))
            law = f"{self.part} is left from a run that differs in {', '.join(keys)}"
            raise OutputError(law, "Remove it, choose another OUT, or repeat its settings.")

    def open(self, curve: list[dict[str, Any]]) -> None:
        """Make the folder and note what the run is, so that only the same run continues it."""
        self.trainer.mkdir(parents=True, exist_ok=True)
        write_whole(self.part / RECORD, json.dumps(self.record, indent=2) + "\n")
        write_whole(self.part / CURVE, "".join(json.dumps(row) + "\n" for row in curve))

    def seal(self, name: str) -> None:
        """Note the hashes of a checkpoint's files: one that is damaged later is not resumed."""
        files = [file for file in (self.trainer / name).rglob("*") if file.is_file()]
        digests = {str(file.relative_to(self.trainer / name)): _digest(file) for file in files}
        write_whole(self.trainer / name / _SEAL, json.dumps(digests))

    def checkpoint(self) -> Path | None:
        """Return the trainer's last whole checkpoint, or None."""
        found = {int(p.name.split("-")[1]): p for p in self.trainer.glob("checkpoint-*")}
        return next((found[n] for n in sorted(found, reverse=True) if _sealed(found[n])), None)

    def curve(self, steps: int) -> list[dict[str, Any]]:
        """Return the rows of the curve up to a step; rows beyond it will be made again."""
        return [row for row in read_curve(self.part) if row["step"] <= steps]

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Append one step to the curve."""
        with (self.part / CURVE).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def finish(self, source: Path, card: str) -> None:
        """Copy the sidecars from the input, write card and picture, drop the scratch, appear."""
        written = Counter[str]()
        with closing(open_checkpoint(self.part)) as made:
            for tensor in made.tensors.values():
                written[tensor.dtype] += tensor.nbytes
        copy_sidecar(source, self.part, dtype=dominant(written))
        (self.part / "README.md").write_text(card)
        draw({self.out.name: read_curve(self.part)}, self.part / "curve.png")
        if (completions := self.trainer / "completions").exists():
            completions.replace(self.part / "completions")
        (self.part / "training_args.bin").unlink(missing_ok=True)
        self.trainer.replace(self.part / "done")  # from here on the model is whole
        self.appear()

    @property
    def whole(self) -> bool:
        """Whether a run was killed when its model was whole, and only the scratch was left."""
        return (self.part / RECORD).exists() and not self.trainer.exists()

    def appear(self) -> None:
        """Drop the scratch and become OUT."""
        shutil.rmtree(self.part / "done", ignore_errors=True)
        self.part.replace(self.out)
