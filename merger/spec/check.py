"""What a spec must obey beyond its schema: enough experts, a base where needed, even slices."""

from __future__ import annotations

from merger.spec.lines import Path_, Where
from merger.spec.model import MergeSpec, PartSpec


def check_spec(spec: MergeSpec, where: Where) -> None:
    """Raise a SpecError, with its place, for a spec that no checkpoint could make sense of."""
    _check_words(spec, where)
    for i, part in enumerate(spec.parts):
        path: Path_ = ("modules", part.module) if part.module else ("slices", i)
        if spec.experts:
            path = ("models",)
        else:
            _check_sources(part, path, where)
        _check_part(spec, part, path, where)


def _check_words(spec: MergeSpec, where: Where) -> None:
    """Check what tokenizer and chat template are to be: those of a model, or a template's text."""
    source = spec.tokenizer_source
    if source == "base" and not spec.base:
        raise where.error(("tokenizer_source",), "there is no base", "Name a model.")
    if source not in (None, "base", "union", *spec.models):
        law = f"tokenizer_source {source} is none of the models"
        remedy = f"base, union, or one of {', '.join(spec.models)}."
        raise where.error(("tokenizer_source",), law, remedy)
    if spec.chat_template and "{" not in spec.chat_template:
        law = f"chat_template {spec.chat_template!r} is no Jinja template"
        remedy = "Give the template's text, or auto to keep the donor's; no templates are built in."
        raise where.error(("chat_template",), law, remedy)


def _check_part(spec: MergeSpec, part: PartSpec, path: Path_, where: Where) -> None:
    operator, experts = spec.operator, spec.active(part)
    if operator.base == "required" and not spec.ground(part):
        law = f"{spec.method} starts from a base, and base_model is missing"
        raise where.error(path, law, "Add `base_model: NAME` (or --base NAME).")
    fewest, most = operator.experts
    if len(experts) < fewest or (most is not None and len(experts) > most):
        asked = f"{fewest}" if fewest == most else f"at least {fewest}"
        said = f"{spec.method} takes {asked} beside the base" if spec.base else f"takes {asked}"
        law = f"{said}, and {len(experts)} is given"
        raise where.error(path, law, "Change the list of models.")
    for name, knob in operator.knobs.items():
        for expert in experts if knob.each else experts[:1]:
            if knob.default is None and not spec.settings(part, expert, name):
                law = f"{expert.model} has no {name}" if knob.each else f"{name} is missing"
                law = f"{law}, which {spec.method} needs"
                raise where.error(path, law, f"Add `{name}: VALUE` to its parameters.")


def _check_sources(part: PartSpec, path: Path_, where: Where) -> None:
    if not part.sources:
        raise where.error(path, "no source is named", "Name at least one model.")
    models = [s.model for s in part.sources]
    if twice := next((m for m in models if models.count(m) > 1), None):
        remedy = "A slice lays different models side by side; stack layers by separate slices."
        raise where.error(path, f"a slice names {twice} twice", remedy)
    spans = [s.layers for s in part.sources if s.layers]
    if len({last - first for first, last in spans}) > 1:
        told = ", ".join(f"{s.model} {list(s.layers or ())}" for s in part.sources)
        raise where.error(path, f"the layer ranges differ in length: {told}", "Make them equal.")
