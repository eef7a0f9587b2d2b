"""The folder of a search: what was asked, frozen and found; every file is whole or absent.

- manifest.json: options, models with their hashes, seeds: all that a resume needs
- ledger.sqlite: every answer and score, committed as made
- study.log: Optuna's journal (or a storage URL in the manifest)
- fingerprints.json: which weights each merge has given, so that none is made to be looked up
- frozen.json: the winner, written once, before any confirm item is drawn
- winner.yaml, winner.mergekit.yaml, confirm.json, report.json, report.md: what came out
"""

from __future__ import annotations

import json
import os
from collections import UserDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from merger.checkpoint.place import check_new
from merger.errors import OutputError, SearchError
from search.asked import Common

FINGERPRINTS = "fingerprints.json"
_NEEDED = {  # what other commands read of these files
    "confirm.json": {"winner", "frozen", "verdict", "words", "confirm"},
    "frozen.json": {"candidate", "best_expert"},
    "stage1.json": {"candidate"},
}
MADE_ANEW = (FINGERPRINTS, "likelihoods.json")
TRIALS = 60  # unless told otherwise
MANY = 10_000  # where only the time is limited


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """What the user asked for; kept in the manifest, so a resume needs the folder alone.

    `experts` and `base` are short names, `sources` says what each stands for: an absolute folder,
    an alias or a Hub id, so that a run can be continued from anywhere.
    """

    experts: tuple[str, ...]
    base: str
    tasks: tuple[str, ...] = ()
    guard: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    command_items: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    trials: int = TRIALS
    seconds: float | None = None
    n_search: int = 100
    n_select: int = 100
    n_confirm: int = 200
    shortlist: int = 5
    seed: int = 0
    confirm_seed: int = 0

    @property
    def most(self) -> int | None:
        """Trials at most; None where only the time is limited."""
        return self.trials if self.trials < MANY else None

    @property
    def sizes(self) -> dict[str, int]:
        """Items of each pool."""
        return {"search": self.n_search, "select": self.n_select, "confirm": self.n_confirm}

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Options:
        """Read what `to_mapping` gave."""
        known = {f.name for f in fields(cls)}
        kept: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in known
        }
        kept["levels"] = {task: tuple(levels) for task, levels in data.get("levels", {}).items()}
        try:
            return cls(**kept)
        except TypeError as error:
            law = f"the manifest's options are incomplete: {error}"
            raise SearchError(law, "Restore manifest.json, or begin another run.") from error


class Run:
    """A run folder; every file is written beside its place and renamed into it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def ledger(self) -> str:
        """The URL or path of the ledger."""
        return self.options.store or str(self.path / "ledger.sqlite")

    @property
    def storage(self) -> str:
        """The URL of the study."""
        return self.options.storage or f"journal://{self.path / 'study.log'}"

    @property
    def options(self) -> Options:
        """The options in the manifest."""
        return Options.read(self.manifest["options"])

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest; SearchError when the folder holds none."""
        found = self.read("manifest.json")
        if found is None or "options" not in found:
            law = f"{self.path} holds no manifest.json of a search"
            raise SearchError(law, "Name the folder that a search has made.")
        return dict(found)

    def check_free(self) -> None:
        """Raise an OutputError where a run already stands, or none can be made."""
        if (self.path / "manifest.json").exists():
            remedy = f"Continue it with --resume {self.path}, or name another --out."
            raise OutputError(f"{self.path} already holds a run", remedy)
        check_new(self.path)

    def create(self, options: Options, facts: Mapping[str, Any]) -> None:
        """Make the folder, with its manifest."""
        self.check_free()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            law = f"{self.path} cannot be made: {error.strerror}"
            raise OutputError(law, "Name another.") from error
        told = {"schema": "merger.run/1", "options": options.to_mapping()}
        self.write("manifest.json", told | dict(facts))

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest."""
        self.write("manifest.json", self.manifest | facts)

    def read(self, name: str) -> Any:
        """Return a JSON object of the folder, or None where it is not there."""
        try:
            found = dict(json.loads((self.path / name).read_text(encoding="utf-8")).items())
            lost = _NEEDED.get(name, set()) - found.keys()
        except FileNotFoundError:
            return None
        except (ValueError, AttributeError) as error:  # ValueError: also what is not UTF-8
            found, lost = {}, {f"a JSON object: {error}"}
        if lost:
            remedy = "Delete it: it is made anew." if name in MADE_ANEW else "Restore it."
            law = f"{self.path / name} is damaged: it lacks {', '.join(sorted(lost))}"
            raise SearchError(law, remedy)
        return found

    def write(self, name: str, document: Any) -> Path:
        """Write a JSON document."""
        return self.write_text(name, json.dumps(document, ensure_ascii=False, indent=1) + "\n")

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file: on the disk before its name points at it."""
        place = self.path / name
        draft = place.with_name(f".{name}.{os.getpid()}")
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(place)
        return place


class Fingerprints(UserDict[str, str]):
    """Fingerprints by the key of a merge: what was merged once is known again without merging.

    A recipe decides its weights, given the models (the manifest holds their hashes), the device and
    the code. So a run keeps the fingerprint of each merge it has made, a resumed run or a report
    looks its answers up by it, and what a report costs is told without making a merge.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        made_by = (version("merger"), version("torch"), run.options.device)
        self._head = " ".join([*made_by, ""])
        super().__init__()
        self.data = {
            k.removeprefix(self._head): mark
            for k, mark in (run.read(FINGERPRINTS) or {}).items()
            if k.startswith(self._head) and isinstance(mark, str)
        }

    def __setitem__(self, key: str, mark: str) -> None:
        """Keep a fingerprint, beside those that other processes have added."""
        self.data[key] = mark
        self.run.write(FINGERPRINTS, (self.run.read(FINGERPRINTS) or {}) | {self._head + key: mark})
