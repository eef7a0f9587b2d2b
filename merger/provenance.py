"""Where a merged model comes from: `merger.yaml`, which rebuilds it, and a model card.

merger.yaml is the spec itself, ready for `merger merge`, with one more key: `provenance` holds the
content hash of every input, the versions at work and what was dropped, copied or cast. A rebuild
compares the hashes first. The card says the same to people, and what the weights were selected on,
which a search fills in; a merge whose weights nobody searched says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from merger.checkpoint import Checkpoint
from merger.errors import CheckpointError, MismatchError

FILE = "merger.yaml"
CARD = "README.md"
_PACKAGES = ("merger", "torch", "transformers", "safetensors")
_SNAPSHOT = re.compile(r"models--(?P<org>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<rev>[0-9a-f]+)")
_BEGIN, _END = "<!-- selected-on -->", "<!-- /selected-on -->"
_BY_HAND = "The weights were given by hand; nothing was searched."


@dataclass(frozen=True)
class Input:
    """One model that went in: as the spec names it, where it was found, and the open checkpoint."""

    name: str
    checkpoint: Checkpoint
    choice: str = ""

    @property
    def place(self) -> str:
        """Return what finds it again from anywhere: Hub id@revision, alias, or absolute folder."""
        path = self.checkpoint.path.absolute()
        if hub := _SNAPSHOT.search(str(path)):
            return f"{hub['org']}/{hub['name']}@{hub['rev']}"
        typed = Path(self.name).expanduser()
        return str(path) if typed.exists() and typed.absolute() == path else self.name

    def facts(self) -> dict[str, str]:
        """Return where it lies, what it holds, and how it was chosen."""
        told = {"place": self.place, "fingerprint": self.checkpoint.fingerprint()}
        return told | ({"chosen": self.choice} if self.choice else {})


def write_provenance(
    folder: Path,
    spec: Mapping[str, Any],
    inputs: Sequence[Input],
    *,
    base: str | None = None,
    notes: Iterable[str] = (),
) -> None:
    """Write merger.yaml and README.md into a model folder.

    `spec` is the merge as `MergeSpec.to_mapping()` gives it; `base` the name of its base; `notes`
    what was dropped, copied or cast. Hashes every input, which reads it once if the merge has not.
    """
    facts: dict[str, Any] = {
        "inputs": {one.name: one.facts() for one in inputs},
        "versions": {package: version(package) for package in _PACKAGES},
    }
    facts |= {"notes": told} if (told := list(notes)) else {}
    found = _renamed(dict(spec), {one.name: one.place for one in inputs})
    _dump(folder, {**found, "provenance": facts})
    card = _card(folder.name.removesuffix(".partial"), spec, inputs, base, facts)
    (folder / CARD).write_text(card, encoding="utf-8")


def fill_selection(folder: Path, selection: Mapping[str, Any]) -> None:
    """Put what the weights were selected on into a finished model's card and merger.yaml."""
    document = read_provenance(folder / FILE)
    document["provenance"]["selected_on"] = dict(selection)
    _dump(folder, document)
    card = (folder / CARD).read_text(encoding="utf-8")
    before, _, rest = card.partition(_BEGIN)
    after = rest.partition(_END)[2]
    text = f"{before}{_BEGIN}\n{_selected(selection)}\n{_END}{after}"
    (folder / CARD).write_text(text, encoding="utf-8")


def read_provenance(file: Path) -> dict[str, Any]:
    """Read a merger.yaml; a CheckpointError for a file without provenance."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}", "Check the path.") from error
    facts = document.get("provenance") if isinstance(document, dict) else None
    if not isinstance(facts, dict) or not isinstance(facts.get("inputs"), dict):
        law = f"{file} holds no provenance"
        raise CheckpointError(law, "Name the merger.yaml of a merged model.")
    return dict(document)


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
    models = ("model", "base_model", "tokenizer_source")
    return places.get(value, value) if key in models and isinstance(value, str) else value


def _dump(folder: Path, document: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100)
    (folder / FILE).write_text(f"# Rebuild: merger merge {FILE} OUT\n{text}", encoding="utf-8")


def _card(
    title: str,
    spec: Mapping[str, Any],
    inputs: Sequence[Input],
    base: str | None,
    facts: Mapping[str, Any],
) -> str:
    front = {
        "library_name": "transformers",
        "base_model": [_short(one.place) for one in inputs],
        "base_model_relation": "merge",
        "tags": ["merge", "merger", str(spec.get("merge_method", "merge"))],
    }
    rows = [
        f"| {'base' if one.name == base else 'expert'} | {_short(one.place)} "
        f"| `{facts['inputs'][one.name]['fingerprint'][:16]}` |"
        for one in inputs
    ]
    notes = [f"- {note}" for note in facts.get("notes", [])]
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {title}",
        f"Merged by merger {facts['versions']['merger']} with `{spec.get('merge_method')}`.",
        "\n".join(["| role | model | fingerprint |", "|---|---|---|", *rows]),
        f"```yaml\n{yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True)}```",
        f"`merger merge {FILE} OUT` rebuilds it from inputs of these fingerprints.",
        "## Weights selected on",
        f"{_BEGIN}\n{_selected(facts.get('selected_on'))}\n{_END}",
    ]
    parts += ["## Notes", "\n".join(notes)] if notes else []
    return "\n\n".join(parts) + "\n"


def _short(place: str) -> str:
    # The front matter takes Hub ids; of a folder it gives the name, not where it lay.
    return place.partition("@")[0] if not place.startswith("/") else Path(place).name


def _selected(selection: Mapping[str, Any] | None) -> str:
    if not selection:
        return _BY_HAND
    return "\n".join(f"- {key}: {value}" for key, value in selection.items())
