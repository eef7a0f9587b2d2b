"""Where a merged model comes from: `merger.yaml`, which rebuilds it, and a model card.

merger.yaml is the spec itself, ready for `merger merge`, with one more key: `provenance` holds the
content hash of every input, the versions at work and what was dropped, copied or cast. A rebuild
compares the hashes first. The card says the same to people, and what the weights were selected on,
which a search fills in; a merge whose weights nobody searched says so.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from merger.checkpoint import Checkpoint
from merger.errors import MismatchError
from merger.experts import families
from merger.lines import read_yaml

FILE = "merger.yaml"
CARD = "README.md"
_NOTES = 20  # shown on the card; merger.yaml has all
_PACKAGES = ("merger", "torch", "transformers", "safetensors")
_SNAPSHOT = re.compile(r"models--(?P<org>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<rev>[0-9a-f]+)")


@dataclass(frozen=True)
class Input:
    """One model that went in: as the spec names it, where it was found, and the open checkpoint."""

    name: str
    checkpoint: Checkpoint
    choice: str = ""

    @property
    def place(self) -> str:
        """Return what finds it again from anywhere: Hub id@revision, family:alias, or folder."""
        path = self.checkpoint.path.absolute()
        bundled = [
            f"{family.name}:{alias}"
            for family in families().values()
            for alias, target in family.members.items()
            if (family.root / target).absolute() == path
        ]
        return hub_id(path) or next(iter(bundled), str(path))

    def facts(self) -> dict[str, str]:
        """Return where it lies, what it holds, and how it was chosen."""
        told = {"place": self.place, "fingerprint": self.checkpoint.fingerprint()}
        return told | ({"chosen": self.choice} if self.choice else {})


def hub_id(path: Path) -> str:
    """Return the id@revision of a model in the Hub's cache; nothing for one that lies elsewhere."""
    found = _SNAPSHOT.search(str(path.absolute()))
    return f"{found['org']}/{found['name']}@{found['rev']}" if found else ""


def write_provenance(
    folder: Path, spec: Mapping[str, Any], inputs: Sequence[Input], notes: Iterable[str] = ()
) -> None:
    """Write merger.yaml and README.md into a model folder.

    `spec` is the merge as `MergeSpec.to_mapping()` gives it; `notes` what was dropped, copied or
    cast. Hashes every input, which reads it once if the merge has not.
    """
    facts: dict[str, Any] = {
        "inputs": {one.name: one.facts() for one in inputs},
        "versions": {package: version(package) for package in _PACKAGES},
    }
    facts |= {"notes": told} if (told := list(notes)) else {}
    named = _renamed(dict(spec), {one.name: one.place for one in inputs})
    _write(folder, {**named, "provenance": facts})


def fill_selection(folder: Path, selection: Mapping[str, Any]) -> None:
    """Put what the weights were selected on into a finished model's merger.yaml and card."""
    document = read_yaml(folder / FILE).value
    document["provenance"]["selected_on"] = dict(selection)
    _write(folder, document)


def check_inputs(facts: Mapping[str, Any], checkpoints: Mapping[str, Checkpoint]) -> None:
    """Compare the inputs of a rebuild with those recorded; raise one MismatchError for all changed.

    `facts` is the `provenance` of a merger.yaml; checkpoints are keyed by recorded name or place.
    """
    changed = []
    for name, recorded in facts.get("inputs", {}).items():
        found = checkpoints.get(name) or checkpoints.get(str(recorded.get("place")))
        if found is None:
            continue
        now = found.fingerprint()
        if now != recorded.get("fingerprint"):
            changed.append(f"{name} ({now[:12]} now, {str(recorded.get('fingerprint'))[:12]} then)")
    if changed:
        law = f"the inputs have changed since this model was made: {', '.join(changed)}"
        remedy = "Use the recorded models, or remove `provenance` to merge these instead."
        raise MismatchError(law, remedy)


def _renamed(value: Any, places: Mapping[str, str], key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {k: _renamed(v, places, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(v, places) for v in value]
    models = ("model", "base_model", "tokenizer_source", "source")
    return places.get(value, value) if key in models and isinstance(value, str) else value


def _write(folder: Path, document: Mapping[str, Any]) -> None:
    text = f"# Rebuild: merger merge {FILE} OUT\n{_yaml(document, width=100)}"
    (folder / FILE).write_text(text, encoding="utf-8")
    card = _card(folder.name.removesuffix(".partial"), document)
    (folder / CARD).write_text(card, encoding="utf-8")


def _card(title: str, document: Mapping[str, Any]) -> str:
    """Return the model card of a merger.yaml; of folders it gives the names, not where they lie."""
    spec = dict(document)
    facts = spec.pop("provenance")
    method, inputs = spec["merge_method"], facts["inputs"].values()
    places = [one["place"] for one in inputs]
    short = {place: Path(place).name for place in places if place.startswith("/")}
    names = [short.get(place, place) for place in places]
    front = {
        "library_name": "transformers",
        "base_model": [name.partition("@")[0] for name in names],  # the Hub takes ids alone
        "base_model_relation": "merge",
        "tags": ["merge", "merger", method],
    }
    rows = [
        f"| {'base' if one['place'] == spec.get('base_model') else 'expert'} | {name} "
        f"| `{one['fingerprint'][:16]}` |"
        for name, one in zip(names, inputs, strict=True)
    ]
    chosen = [f"- {key}: {value}" for key, value in facts.get("selected_on", {}).items()]
    parts = [
        f"---\n{_yaml(front)}---",
        f"# {title}",
        f"Merged by merger {facts['versions']['merger']} with `{method}`.",
        "\n".join(["| role | model | fingerprint |", "|---|---|---|", *rows]),
        f"```yaml\n{_yaml(_renamed(spec, short))}```",
        f"`merger merge {FILE} OUT` rebuilds it from inputs of these fingerprints.",
        "## Weights selected on",
        "\n".join(chosen) or "The weights were given by hand; nothing was searched.",
    ]
    if notes := facts.get("notes"):
        told = "\n".join(f"- {note}" for note in notes[:_NOTES])
        for place, name in short.items():
            told = told.replace(place, name)
        more = f"\n- {len(notes) - _NOTES} more in {FILE}" if len(notes) > _NOTES else ""
        parts += ["## Notes", told + more]
    return "\n\n".join(parts) + "\n"


def _yaml(document: Mapping[str, Any], width: int = 80) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=width)
