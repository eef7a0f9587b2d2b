"""What a spec must obey beyond its schema: enough experts, a base where needed, even slices."""

from __future__ import annotations

from collections.abc import Sequence

from merger.spec.lines import Path_, Where
from merger.spec.model import ExpertSpec, MergeSpec, SliceSpec
from merger.spec.setting import Setting


def active(spec: MergeSpec, part: SliceSpec | None = None) -> tuple[ExpertSpec, ...]:
    """Return the models that are merged: those listed, less the base where it is the ground.

    An operator that starts from the base does not count it among its experts, even if the config
    lists it; one without a base takes every model listed.
    """
    listed: Sequence[ExpertSpec] = part.sources if part else spec.experts
    ground = base_of(spec, part)
    if spec.operator.base == "unused":
        return tuple(listed)
    return tuple(e for e in listed if e.model != ground)


def base_of(spec: MergeSpec, part: SliceSpec | None = None) -> str | None:
    """Return the base of a slice, or of the whole merge."""
    return (part.base if part else None) or spec.base


def check_spec(spec: MergeSpec, where: Where) -> None:
    """Raise a SpecError, with its place, for a spec that no checkpoint could make sense of."""
    _check_words(spec, where)
    for i, part in enumerate(spec.slices):
        _check_slice(part, ("slices", i, "sources"), where)
        _check_part(spec, part, ("slices", i), where)
    if not spec.slices:
        _check_part(spec, None, ("models",), where)


def _check_words(spec: MergeSpec, where: Where) -> None:
    """Check what tokenizer and chat template are to be: those of a model, or a template's text."""
    source = spec.tokenizer_source
    if source == "union":
        law = "tokenizer_source union is not supported"
        raise where.error(("tokenizer_source",), law, "Name a model, or base.")
    if source == "base" and not spec.base:
        raise where.error(("tokenizer_source",), "there is no base", "Name a model.")
    if source not in (None, "base", *spec.models):
        law = f"tokenizer_source {source} is none of the models"
        raise where.error(("tokenizer_source",), law, f"Models: {', '.join(spec.models)}.")
    template = spec.chat_template
    if template and template != "auto" and "{" not in template:
        law = f"chat_template {template!r} is no Jinja template"
        remedy = "Give the template's text, or auto to keep the donor's; no templates are built in."
        raise where.error(("chat_template",), law, remedy)


def _check_part(spec: MergeSpec, part: SliceSpec | None, path: Path_, where: Where) -> None:
    operator, experts = spec.operator, active(spec, part)
    if operator.base == "required" and not base_of(spec, part):
        law = f"{spec.method} starts from a base, and base_model is missing"
        raise where.error(path, law, "Add `base_model: NAME` (or --base NAME).")
    fewest, most = operator.experts
    if len(experts) < fewest or (most is not None and len(experts) > most):
        asked = f"{fewest}" if fewest == most else f"at least {fewest}"
        said = f"{spec.method} takes {asked} beside the base" if spec.base else f"takes {asked}"
        law = f"{said}, and {len(experts)} is given"
        raise where.error(path, law, "Change the list of models.")
    for i, expert in enumerate(experts):
        for name, knob in operator.knobs.items():
            inherited = (part.knobs if part else {}, spec.knobs)
            given = name in expert.knobs or any(name in knobs for knobs in inherited)
            if knob.default is None and not given and (knob.each or i == 0):
                law = f"{expert.model} has no {name}" if knob.each else f"{name} is missing"
                law = f"{law}, which {spec.method} needs"
                raise where.error(path, law, f"Add `{name}: VALUE` to its parameters.")


def _check_slice(part: SliceSpec, path: Path_, where: Where) -> None:
    if not part.sources:
        raise where.error(path, "a slice has no sources", "Name at least one model.")
    models = [s.model for s in part.sources]
    if twice := next((m for m in models if models.count(m) > 1), None):
        remedy = "A slice lays different models side by side; stack layers by separate slices."
        raise where.error(path, f"a slice names {twice} twice", remedy)
    lengths = {s.layers[1] - s.layers[0] for s in part.sources}
    if len(lengths) > 1:
        told = ", ".join(f"{s.model} {list(s.layers)}" for s in part.sources)
        raise where.error(path, f"the layer ranges differ in length: {told}", "Make them equal.")


def settings_of(
    spec: MergeSpec, part: SliceSpec | None, expert: ExpertSpec | None, knob: str
) -> list[Setting]:
    """Return the settings of a knob in the order they are asked: expert, slice, whole merge."""
    tables = [expert.knobs if expert else {}, part.knobs if part else {}, spec.knobs]
    return [table[knob] for table in tables if knob in table]
