"""A recipe: seed, models, stages by name, as YAML; strict, and checked before anything runs.

    seed: 7                          # or seeds: [1, 2, 3], each its own run of all stages
    family: tiny                     # whose aliases may be used (optional)
    experts: {mine: ./some/folder}   # aliases of the recipe's own (optional)
    stages:
      ded: {align: {model: base, task: deduction, steps: 120}}
      merged: {merge: {merge_method: linear, models: [...]}}

A stage is `NAME: {KIND: {options}}`; its name is how later stages refer to what it makes. There
are no variables, no includes, no Python paths. `KEY=VALUE` settings change a recipe from outside:
`seed`, `seeds`, `family`, `scale`, or an option as STAGE.option or KIND.option (all stages of the
kind). `scales` are bundles of such settings with a name, of which `scale` chooses one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from merger.errors import RecipeError
from merger.lines import read_setting, read_yaml
from merger.registry import unknown
from recipes.options import overlay

KEYS = ("description", "seed", "seeds", "family", "experts", "scale", "scales", "stages")
FULL = "full"


@dataclass(frozen=True)
class Stage:
    """One stage as written: its name, its kind, its options."""

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A whole recipe with all settings applied; stages stand in the order they run."""

    name: str
    stages: tuple[Stage, ...]
    seed: int = 0
    seeds: tuple[int, ...] = ()
    family: str | None = None
    experts: Mapping[str, str] = field(default_factory=dict)
    description: str = ""

    def to_yaml(self) -> str:
        """Return YAML that loads as this recipe."""
        table: dict[str, Any] = {"description": self.description, "seed": self.seed}
        table |= {"seeds": list(self.seeds)} if self.seeds else {}
        table |= {"family": self.family} if self.family else {}
        table |= {"experts": dict(self.experts)} if self.experts else {}
        table["stages"] = {s.name: {s.kind: dict(s.options)} for s in self.stages}
        return yaml.safe_dump(table, sort_keys=False, allow_unicode=True)


def bundled() -> dict[str, Path]:
    """Return the recipes that come with the package, by name."""
    here = Path(str(files("recipes")))
    return {path.stem: path for path in sorted(here.glob("*.yaml"))}


def load_recipe(name: str, settings: Iterable[str] = ()) -> Recipe:
    """Read a recipe by path, by the run folder it was kept in, or by the name of a bundled one.

    `settings` are texts KEY=VALUE, the value in YAML. Raises a SpecError where the file is no YAML,
    a RecipeError that says where the recipe breaks a rule, an UnknownNameError with the nearest
    known name, or a UsageError for a setting that is none.
    """
    path = _find(name)
    table = read_yaml(path).value
    if not isinstance(table, dict) or "stages" not in table:
        raise RecipeError(f"{path} has no stages", "Write `stages:` with at least one stage.")
    stem = path.parent.name if path.name == "recipe.yaml" else path.stem
    return _build(stem, table, [read_setting(text) for text in settings])


def _find(name: str) -> Path:
    path = Path(name).expanduser()
    if (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    if path.is_file():
        return path
    known = bundled()
    if name.removesuffix(".yaml") in known:
        return known[name.removesuffix(".yaml")]
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise RecipeError(f"no recipe at {name}", f"Bundled ones: {', '.join(known)}.")
    raise unknown("recipe", name, known)


def _build(name: str, table: Mapping[str, Any], settings: Sequence[tuple[str, Any]]) -> Recipe:
    for key in table:
        if key not in KEYS:
            raise unknown("key of a recipe", str(key), KEYS)
    for key in ("experts", "scales"):
        if not isinstance(table.get(key) or {}, dict):
            raise RecipeError(f"{key} is {table[key]!r}, no mapping", f"Write {key}: {{NAME: …}}.")
    chosen = dict(settings).get("scale", table.get("scale", FULL))
    top = {key: table.get(key) for key in ("seed", "seeds", "family")}
    stages = {s.name: s for s in _stages(table["stages"])}
    for key, value in [*_scale(table.get("scales") or {}, chosen), *settings]:
        if key in top:
            top[key] = value
        elif key != "scale":
            stages |= _changed(stages, key, value)
    experts = {str(k): str(v) for k, v in (table.get("experts") or {}).items()}
    words = str(table.get("description") or "").strip()
    recipe = Recipe(name, tuple(stages.values()), experts=experts, description=words)
    return overlay(recipe, {key: value for key, value in top.items() if value is not None})


def _scale(scales: Mapping[str, Mapping[str, Any]], chosen: Any) -> list[tuple[str, Any]]:
    if chosen == FULL:
        return []
    if not isinstance(chosen, str) or chosen not in scales:
        raise unknown("scale", str(chosen), [FULL, *scales])
    return list(scales[chosen].items())


def _stages(table: Any) -> Iterable[Stage]:
    if not isinstance(table, dict) or not table:
        raise RecipeError("stages is no mapping of names", "Write NAME: {KIND: {options}}.")
    for name, body in table.items():
        if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
            law = f"stage name {name!r} is not made of letters, digits, - and _"
            raise RecipeError(law, "It becomes a folder's name.")
        if not isinstance(body, dict) or len(body) != 1:
            raise RecipeError(f"stage {name!r} has not one kind", "Write NAME: {KIND: {options}}.")
        ((kind, options),) = body.items()
        if not isinstance(options or {}, dict):
            raise RecipeError(f"stage {name!r}: options are no mapping", "Write {option: value}.")
        yield Stage(name, str(kind), options or {})


def _changed(stages: Mapping[str, Stage], key: str, value: Any) -> dict[str, Stage]:
    """Return the stages that a setting STAGE.option or KIND.option changes, changed."""
    who, _, option = key.partition(".")
    named = [s for s in stages.values() if who in (s.name, s.kind)]
    if not named:
        names = {*stages, *(s.kind for s in stages.values()), "seed", "seeds", "family", "scale"}
        raise unknown("setting, stage or kind", who, names)
    if not option:
        raise RecipeError(f"{key!r} is no setting", f"Write {key}.OPTION=VALUE.")
    return {s.name: Stage(s.name, s.kind, _put(s.options, option, value)) for s in named}


def _put(options: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return options with the value at a dotted path replaced."""
    key, _, rest = path.partition(".")
    inner = options.get(key)
    if rest:
        value = _put(inner if isinstance(inner, dict) else {}, rest, value)
    return {**options, key: value}
