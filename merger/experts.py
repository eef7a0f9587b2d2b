"""Experts by name: a folder, an alias, or a Hub id, tried in this order.

Aliases come from the recipe at hand, from ./experts.yaml, and from families bundled with the
package (`tiny` unless another is named; `family:name` names one outright). A family is a YAML file
beside its models: base, experts, the levels each was trained on. What was chosen is always told,
because a folder of the same name wins over an alias.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from merger.errors import CheckpointError, SpecError, UnknownNameError
from merger.registry import unknown

DEFAULT_FAMILY = "tiny"
LOCAL = "experts.yaml"
_HUB = re.compile(r"(?P<id>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<rev>[\w][\w./-]*))?")
_KEYS = ("name", "description", "base", "experts", "levels")
_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "LICENSE*"]


class Resolved(NamedTuple):
    """A model found: its folder, the sentence that says how, and the name it was asked by."""

    path: Path
    choice: str
    name: str


@dataclass(frozen=True)
class Family:
    """One base model and its experts, as family.yaml states them; targets: paths, Hub ids."""

    name: str
    description: str
    base: str
    experts: dict[str, str]
    levels: dict[str, list[int]]
    root: Path

    @property
    def members(self) -> dict[str, str]:
        """Return alias -> target, the base first."""
        return {"base": self.base, **self.experts}


def resolve(
    name: str, *, aliases: Mapping[str, str] | None = None, family: str | None = None
) -> Resolved:
    """Find a model by folder, alias or Hub id[@revision].

    `aliases` are those of a recipe (alias -> folder or Hub id). Raises an UnknownNameError with the
    nearest known alias, or a CheckpointError that says why the Hub could not be asked.
    """
    if family is not None and family not in families():
        raise unknown("family", family, families())
    folder = Path(name).expanduser()
    if folder.is_dir() or (folder.suffix == ".safetensors" and folder.is_file()):
        return Resolved(folder, f"{name}: folder {folder}", name)
    table = known_aliases(aliases, family)
    if name in table:
        return _follow(name, *table[name])
    if name in families():
        members = ", ".join(f"{name}:{m}" for m in families()[name].members)
        raise UnknownNameError(f"{name!r} is a family, not a model", f"Name one of {members}.")
    if path := _fetch(name):
        return Resolved(path, f"{name}: Hub snapshot {path}", name)
    if "/" in name:
        raise CheckpointError(f"no folder {name!r}", "Check the path, or use `merger experts`.")
    raise unknown("model", name, table)


def known_aliases(
    aliases: Mapping[str, str] | None = None, family: str | None = None
) -> dict[str, tuple[str, str, Path]]:
    """Return alias -> (where it is from, target, the folder that paths are relative to).

    Earlier sources win: the recipe, ./experts.yaml, the family in use; then every `family:name`.
    """
    known, chosen = families(), family or DEFAULT_FAMILY
    if chosen not in known:
        raise unknown("family", chosen, known)
    own = {a: ("the recipe", target, Path()) for a, target in (aliases or {}).items()}
    local = {a: (LOCAL, target, Path()) for a, target in local_aliases().items()}
    bundled = {
        one.name: {a: (f"family {one.name}", t, one.root) for a, t in one.members.items()}
        for one in known.values()
    }
    named = {f"{name}:{a}": found for name, table in bundled.items() for a, found in table.items()}
    table: dict[str, tuple[str, str, Path]] = {}
    for source in (own, local, bundled[chosen], named):
        table |= {name: found for name, found in source.items() if name not in table}
    return table


def local_aliases(file: Path = Path(LOCAL)) -> dict[str, str]:
    """Read ./experts.yaml, a mapping alias -> folder or Hub id; empty where there is none."""
    return _aliases(_yaml(file), file) if file.is_file() else {}


@cache
def families() -> dict[str, Family]:
    """Return the families bundled with the package, by name."""
    root = Path(str(files("recipes")))
    found = [read_family(file) for file in sorted(root.glob("*/family.yaml"))]
    return {family.name: family for family in found}


def read_family(file: Path) -> Family:
    """Read and check a family.yaml; a SpecError names the key that is wrong."""
    table = _yaml(file)
    if not isinstance(table, dict):
        raise SpecError(f"{file} holds no keys", f"Known keys: {', '.join(_KEYS)}.")
    for key in table:
        if key not in _KEYS:
            wrong = unknown("key", str(key), _KEYS)
            raise SpecError(f"{file}: {wrong.law}", wrong.remedy)
    if not isinstance(table.get("base"), str):
        raise SpecError(f"{file}: base is {table.get('base')!r}", "Name a folder or a Hub id.")
    experts, levels = _aliases(table.get("experts"), file), table.get("levels") or {}
    fits = isinstance(levels, dict) and all(map(_steps, levels.values()))
    if not fits or not levels.keys() <= experts.keys():
        law = f"{file}: levels is no mapping from experts to lists"
        raise SpecError(law, "Write `levels: {EXPERT: [1, 2]}` with the experts' aliases.")
    name = str(table.get("name") or file.parent.name)
    description = str(table.get("description") or "")
    return Family(name, description, table["base"], experts, levels, file.parent)


def _steps(levels: Any) -> bool:
    return isinstance(levels, list) and all(type(level) is int for level in levels)


def _aliases(table: Any, file: Path) -> dict[str, str]:
    words = [*table, *table.values()] if isinstance(table, dict) else [None]
    if not all(isinstance(word, str) for word in words):
        law = f"{file} holds no mapping from aliases to models"
        raise SpecError(law, "Write one `alias: folder-or-Hub-id` per line.")
    return dict(table)


def _yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise SpecError(f"{file} cannot be read: {error}", "Check the file.") from error


def _follow(name: str, source: str, target: str, root: Path) -> Resolved:
    path = root / Path(target).expanduser()
    if path.is_dir() or path.is_file():
        return Resolved(path, f"{name}: {source}, folder {path}", name)
    if fetched := _fetch(target):
        return Resolved(fetched, f"{name}: {source}, Hub id {target}", name)
    law = f"{name!r} ({source}) points to {path}, which does not exist"
    raise CheckpointError(law, "Mend the alias, or name a folder: see `merger experts`.")


def _fetch(label: str) -> Path | None:
    """Return the snapshot of a Hub model, cached or fetched; None for what is no Hub id.

    No pickle is ever asked for.
    """
    hub = _HUB.fullmatch(label)
    if not hub or label.startswith("."):
        return None
    repo, revision = hub["id"], hub["rev"]
    from huggingface_hub import errors, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # The Hub client has changed its HTTP library twice; its own errors module names the one in use.
    broken: type[Exception] = getattr(errors, "HTTPError", OSError)
    manual = f"hf download {repo}" + (f" --revision {revision}" if revision else "")
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=_WANTED))
    except LocalEntryNotFoundError as error:
        law = f"{label} is no folder here, no alias, and the Hub cannot be reached"
        remedy = f"Run `{manual}` where there is a network, or name a folder."
        raise CheckpointError(law, remedy) from error
    except (HfHubHTTPError, HFValidationError) as error:
        told = str(error).strip().splitlines()
        law = f"{label} is no folder, no alias, and the Hub refuses it: {told[0] if told else '?'}"
        raise CheckpointError(law, "Check the id and your access (`hf auth login`).") from error
    except (OSError, broken) as error:
        law = f"{label} could not be fetched: {error}"
        raise CheckpointError(law, f"Try `{manual}`, or name a folder.") from error
