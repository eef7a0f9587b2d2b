"""Experts by name: a folder, an alias, or a Hub id, tried in this order.

Aliases come from the recipe at hand, from ./experts.yaml, and from families bundled with the
package (`tiny` unless another is named; `family:name` names one outright). A family is a YAML file
beside its models: base, experts, the levels each was trained on. What was chosen is always told,
because a folder of the same name wins over an alias.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from merger.errors import CheckpointError, UnknownNameError
from merger.lines import Node, read_yaml
from merger.registry import unknown

DEFAULT_FAMILY = "tiny"
LOCAL = "experts.yaml"
_HUB = re.compile(r"(?P<id>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<rev>[\w][\w./-]*))?")
_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "LICENSE*"]


class Resolved(NamedTuple):
    """A model found: its folder, and the sentence that says how."""

    path: Path
    choice: str


class Alias(NamedTuple):
    """What an alias stands for: a folder or Hub id, from where, and what paths are relative to."""

    source: str
    target: str
    root: Path = Path()


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
    if (name and folder.is_dir()) or (folder.suffix == ".safetensors" and folder.is_file()):
        return Resolved(folder, f"{name}: folder {folder}")
    table = known_aliases(aliases, family)
    if name in table:
        return _follow(name, table[name])
    if name in families():
        members = ", ".join(f"{name}:{m}" for m in families()[name].members)
        raise UnknownNameError(f"{name!r} is a family, not a model", f"Name one of {members}.")
    if path := _fetch(name):
        return Resolved(path, f"{name}: Hub snapshot {path}")
    if "/" in name:
        raise CheckpointError(f"no folder {name!r}", "Check the path, or use `merger experts`.")
    raise unknown("model", name, table)


def known_aliases(
    aliases: Mapping[str, str] | None = None, family: str | None = None
) -> dict[str, Alias]:
    """Return every alias by name.

    Earlier sources win: the recipe, ./experts.yaml, the family in use; then every `family:name`.
    """
    known, chosen = families(), family or DEFAULT_FAMILY
    if chosen not in known:
        raise unknown("family", chosen, known)
    own = {a: Alias("the recipe", target) for a, target in (aliases or {}).items()}
    file = Path(LOCAL)
    stated = _aliases(read_yaml(file)) if file.is_file() else {}
    local = {a: Alias(LOCAL, target) for a, target in stated.items()}
    bundled = {
        one.name: {a: Alias(f"family {one.name}", t, one.root) for a, t in one.members.items()}
        for one in known.values()
    }
    named = {f"{name}:{a}": found for name, table in bundled.items() for a, found in table.items()}
    table: dict[str, Alias] = {}
    for source in (own, local, bundled[chosen], named):
        table |= {name: found for name, found in source.items() if name not in table}
    return table


def family_of(name: str, family: str | None = None) -> Family | None:
    """Return the bundled family that a model is an alias of; None for a folder or a Hub id."""
    alias = None if Path(name).exists() else known_aliases(family=family).get(name)
    return next((one for one in families().values() if alias and one.root == alias.root), None)


@cache
def families() -> dict[str, Family]:
    """Return the families bundled with the package, by name."""
    root = Path(str(files("recipes")))
    found = [read_family(file) for file in sorted(root.glob("*/family.yaml"))]
    return {family.name: family for family in found}


def read_family(file: Path) -> Family:
    """Read and check a family.yaml; a SpecError names the key that is wrong."""
    top = read_yaml(file).table("name", "description", "base", "experts", "levels")
    if not (base := top["base"].text()):
        raise top.error("base is missing", "Name a folder or a Hub id.")
    experts, levels = _aliases(top["experts"]), top["levels"].value or {}
    fits = isinstance(levels, dict) and all(map(_whole_numbers, levels.values()))
    if not fits or not levels.keys() <= experts.keys():
        law, remedy = "levels is no mapping from experts to lists", "Write `{EXPERT: [1, 2]}`."
        raise top["levels"].error(law, remedy)
    name = top["name"].text() or file.parent.name
    return Family(name, top["description"].text() or "", base, experts, levels, file.parent)


def _whole_numbers(levels: Any) -> bool:
    return isinstance(levels, list) and all(type(level) is int for level in levels)


def _aliases(table: Node) -> dict[str, str]:
    """Read a mapping from aliases to models."""
    found = {}
    for alias in table.table().value:
        if not (model := table[alias].text()):
            raise table[alias].error("no model is named", "Write `ALIAS: folder-or-Hub-id`.")
        found[str(alias)] = model
    return found


def _follow(name: str, alias: Alias) -> Resolved:
    source, path = alias.source, alias.root / Path(alias.target).expanduser()
    if path.is_dir() or path.is_file():
        return Resolved(path, f"{name}: {source}, folder {path}")
    if fetched := _fetch(alias.target):
        return Resolved(fetched, f"{name}: {source}, Hub id {alias.target}")
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

    # The Hub client has changed its HTTP library twice; its own errors module names the one in use.
    broken: type[Exception] = getattr(errors, "HTTPError", OSError)
    manual = f"hf download {repo}" + (f" --revision {revision}" if revision else "")
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=_WANTED))
    except errors.LocalEntryNotFoundError as error:
        law = f"{label} is no folder here, no alias, and the Hub cannot be reached"
        remedy = f"Run `{manual}` where there is a network, or name a folder."
        raise CheckpointError(law, remedy) from error
    except (OSError, errors.HFValidationError, broken) as error:
        told = (str(error).strip().splitlines() or ["?"])[0]
        law = f"{label} is no folder, no alias, and could not be fetched: {told}"
        remedy = f"Check the id and your access (`hf auth login`), or try `{manual}`."
        raise CheckpointError(law, remedy) from error
